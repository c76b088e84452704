"""The run directory: everything one run needs to continue, and everything a report is made from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import yaml

from toxoid import __version__
from toxoid.errors import UsageError
from toxoid.store.files import (
    disk_errors,
    publish_folder,
    remove_tree,
    write_json_atomic,
    write_text_atomic,
)
from toxoid.store.fingerprint import fingerprint_difference
from toxoid.store.keys import JSON, plain_json
from toxoid.store.lock import RunLock
from toxoid.store.records import Records

__all__ = ["RunDirectory", "fingerprint_difference", "write_json_atomic", "write_text_atomic"]

MANIFEST_FORMAT = 1
_LOCK = "run.lock"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_OWN = re.compile(r"run\.lock|recipe\.yaml|manifest\.json|records\.sqlite|artifacts|stages|\..*\.tmp")
_BUILDING = ".building"
_SHOWN = 4  # differences, or foreign files, named in an error


class RunDirectory:
    """A folder that holds one run; made by :meth:`open` to work in it, by :meth:`read` to look at it.

    ``recipe.yaml`` (resolved), ``manifest.json`` (fingerprint and circumstances), ``records.sqlite``,
    ``stages/`` (what is done), ``artifacts/`` (adapters, data sets), ``results.json``, ``report.html``,
    ``run.lock``.
    """

    def __init__(self, path: Path, manifest: Mapping[str, Any], lock: RunLock | None) -> None:
        """Wrap a checked directory; call :meth:`open` or :meth:`read` instead."""
        self.path = path
        self.manifest = manifest
        self._lock = lock

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        fingerprint: Mapping[str, JSON],
        recipe: Mapping[str, Any],
        info: Mapping[str, JSON] | None = None,
    ) -> Self:
        """Create the run directory, or continue the run in it.

        Args:
            path: The directory; it and its parents are made as needed.
            fingerprint: What the results depend on; a run continues only under an equal one.
            recipe: The resolved recipe in plain values, kept for people and for ``read``.
            info: Circumstances that do not decide the results (versions, host); kept as of the first start.

        Raises:
            UsageError: The directory holds another run, foreign files, or a run in progress; or the disk
                refuses.
        """
        folder = Path(path)
        with disk_errors(folder):
            _refuse_foreign(folder)
            folder.mkdir(parents=True, exist_ok=True)
            lock = RunLock(folder / _LOCK)
        try:
            manifest = _settle(folder, plain_json(fingerprint), plain_json(info or {}))
            write_text_atomic(folder / "recipe.yaml", _yaml(recipe))
            run = cls(folder, manifest, lock)
            with disk_errors(folder):
                for name in ("artifacts", "stages"):
                    (folder / name).mkdir(exist_ok=True)
            _ = run.records  # a store that cannot be opened is to be told now, not after an hour
        except BaseException:
            lock.release()
            raise
        return run

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Return an existing run to look at; needs no lock and writes nothing.

        Raises:
            UsageError: There is no run at ``path``.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such run directory: give the directory that `toxoid run` wrote")
        return cls(folder, _read_manifest(folder), None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """What the results of this run depend on."""
        fingerprint: Mapping[str, Any] = self.manifest["fingerprint"]
        return fingerprint

    @property
    def results_path(self) -> Path:
        """The place of the results for programs."""
        return self.path / "results.json"

    @property
    def report_path(self) -> Path:
        """The place of the report for people."""
        return self.path / "report.html"

    @cached_property
    def records(self) -> Records:
        """The generations and verdicts; read-only in a run that is only looked at."""
        return Records(self.path / "records.sqlite", read_only=self._lock is None)

    def recipe(self) -> dict[str, Any]:
        """Return the resolved recipe of the run in plain values.

        Raises:
            UsageError: It is missing or is not YAML.
        """
        text = _read_text(self.path / "recipe.yaml")
        try:
            loaded: dict[str, Any] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(f"{self.path / 'recipe.yaml'}: damaged, it is not YAML any more") from error
        return loaded

    def results(self) -> dict[str, Any]:
        """Return what ``results.json`` holds.

        Raises:
            UsageError: The run has not come that far, or the file is damaged.
        """
        if not self.results_path.is_file():
            raise UsageError(
                f"{self.path}: this run is not finished, it has no results.json: "
                "run the same command again to continue it"
            )
        return _read_json(self.results_path)

    def stage_done(self, name: str) -> bool:
        """Say whether :meth:`mark_done` was called for this stage, by this process or an earlier one."""
        return self._stage(name).is_file()

    def stage_payload(self, name: str) -> dict[str, Any]:
        """Return what was noted when the stage was done.

        Raises:
            UsageError: The stage is not done, or its note is damaged.
        """
        return _read_json(self._stage(name))

    def mark_done(self, name: str, payload: Mapping[str, JSON] | None = None) -> None:
        """Note, durably, that a stage is done, with what the next stages want to know of it."""
        self._writable()
        path = self._stage(name)
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(path, payload or {})

    def artifact(self, name: str) -> Path:
        """Return the final place of an artefact; if something is there, it is complete.

        Raises:
            ValueError: ``name`` is not made of letters, digits, ``. _ -`` and ``/``.
        """
        return self.path / "artifacts" / _checked(name)

    @contextmanager
    def building(self, name: str, *, resumable: bool = False) -> Iterator[Path]:
        """Give a folder to build the artefact ``name`` in; it gets its final name when the block succeeds.

        Args:
            name: As in :meth:`artifact`; an artefact of that name is replaced.
            resumable: Keep what a killed or failed build left (training checkpoints) and hand it out again.
                Otherwise the folder starts empty and is removed if the block fails.
        """
        self._writable()
        final = self.artifact(name)
        built = final.with_name(f"{final.name}{_BUILDING}")
        with disk_errors(built):
            if not resumable:
                remove_tree(built)
            built.mkdir(parents=True, exist_ok=True)
        try:
            yield built
        except BaseException:
            if not resumable:
                remove_tree(built)
            raise
        with disk_errors(final):
            publish_folder(built, final)

    def close(self) -> None:
        """Flush and close the records and let the next process in; a second call does nothing."""
        if "records" in self.__dict__:  # not opened only to be closed
            self.records.close()
        if self._lock is not None:
            self._lock.release()

    def _stage(self, name: str) -> Path:
        return self.path / "stages" / f"{_checked(name)}.json"

    def _writable(self) -> None:
        if self._lock is None:
            raise RuntimeError(f"{self.path} was opened for reading only")


def _refuse_foreign(folder: Path) -> None:
    """Refuse a folder with files of somebody else; the lock file is the first thing a run makes."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UsageError(f"{folder}: this is a file: give a directory for the run")
    names = sorted(entry.name for entry in folder.iterdir())
    started = _LOCK in names and all(_OWN.match(name) for name in names)  # killed before the manifest
    if not names or started or _is_manifest(folder / "manifest.json"):
        return
    shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    raise UsageError(
        f"{folder}: holds files that are not a toxoid run ({shown}): give an empty or a new directory"
    )


def _settle(folder: Path, fingerprint: Any, info: Any) -> Mapping[str, Any]:
    """Return the manifest: the present one if its fingerprint is equal, a new one in a new directory."""
    path = folder / "manifest.json"
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink()
    if not path.exists():
        created = datetime.now(UTC).isoformat(timespec="seconds")
        manifest = {
            "format": MANIFEST_FORMAT,
            "toxoid": __version__,
            "created": created,
            "fingerprint": fingerprint,
            "info": info,
        }
        write_json_atomic(path, manifest)
        return manifest
    manifest = _read_manifest(folder)
    if lines := fingerprint_difference(manifest["fingerprint"], fingerprint):
        lines.sort(key=lambda line: "sha256" in line)  # causes before their consequences
        more = f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        raise UsageError(
            f"{folder}: holds a run with another setup ({'; '.join(lines[:_SHOWN])}{more}): "
            "give another directory, or delete this one to start again"
        )
    return manifest


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.is_file():
        raise UsageError(f"{folder}: not a toxoid run directory, it has no manifest.json")
    manifest = _read_json(path)
    if not isinstance(manifest.get("fingerprint"), dict) or not isinstance(manifest.get("format"), int):
        raise UsageError(f"{path}: not the manifest of a toxoid run")
    if manifest["format"] > MANIFEST_FORMAT:
        raise UsageError(f"{path}: made by a newer toxoid ({manifest.get('toxoid')}): upgrade toxoid")
    return manifest


def _is_manifest(path: Path) -> bool:
    try:
        return path.is_file() and "fingerprint" in _read_json(path)
    except UsageError:
        return False


def _read_json(path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}: damaged, not JSON (line {error.lineno}): restore or delete it") from error
    if not isinstance(loaded, dict):
        raise UsageError(f"{path}: damaged, a JSON object was expected: restore or delete it")
    return loaded


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError as error:
        raise UsageError(f"{path}: missing: this run directory is not complete") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: damaged, not UTF-8 text: restore or delete it") from error


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name) or name.endswith((_BUILDING, ".replaced")):
        raise ValueError(f"not a name for a stage or an artefact: {name!r}")
    return name


def _yaml(recipe: Mapping[str, Any]) -> str:
    text: str = yaml.safe_dump(plain_json(recipe), sort_keys=False, allow_unicode=True, width=110)
    return text
