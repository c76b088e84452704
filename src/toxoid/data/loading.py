"""Names and paths into request sets: the one way in which requests enter toxoid."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from toxoid.data import contrast
from toxoid.data.layouts import states_kind, to_requests
from toxoid.data.registry import DATASETS, DatasetFile, DatasetSpec
from toxoid.data.request_set import (
    RequestSet,
    of_kind,
    overlap,
    refuse_overlap,
    split_by_prompt,
    subsample,
    without_duplicates,
)
from toxoid.data.rows import read_table
from toxoid.data.schemas import Kind, Request
from toxoid.errors import UsageError, did_you_mean
from toxoid.plugins import DATASETS as PLUGINS

__all__ = ["RequestSet", "data_folders", "load_requests", "overlap", "refuse_overlap", "split_by_prompt"]

DATA_ENV = "TOXOID_DATA"
_FILE_HINTS = ("/", "\\", ".")


def load_requests(
    name_or_path: str | Path,
    *,
    kind: Kind | None = None,
    limit: int | None = None,
    seed: int = 0,
    split: str | None = None,
) -> RequestSet:
    """Load a registered data set (:mod:`toxoid.data.registry`), a lab set, one that ships, a plug-in's, or a file.

    Args:
        name_or_path: A registered name goes before a file of that name; write ``./name`` for the file.
        kind: Only requests of this kind. Rows of a *file* that say nothing about their kind are taken for it.
        limit: At most this many, chosen by hashing (seed, id).
        seed: Of the choice.
        split: A published part, e.g. ``"train"``, of a data set that has some; lab sets: ``test`` if None.

    Returns:
        The requests in file order, every normalised prompt once, with ids ``<name>/<row>`` counted from 0.

    Raises:
        UsageError: Unknown name, missing or malformed file (with its line), nothing of the kind asked for.
    """
    name = str(name_or_path)
    if name.startswith("lab-"):
        loaded = _load_lab(name, split or "test")
    elif name in contrast.NAMES:
        _check_split(name, contrast.SPLITS, split)
        loaded = contrast.contrast_requests(name, split=split)
    elif name in DATASETS:
        loaded = _load_registered(name, DATASETS[name], split)
    else:
        loaded = _load_plugin(name_or_path, split) or _load_file(name_or_path, kind, split)
    return subsample(of_kind(loaded, kind), limit, seed=seed)


def data_folders() -> list[Path]:
    """Return the folders in which registered data sets are sought, first match wins.

    ``TOXOID_DATA``, where it is set, is the only one.

    Raises:
        UsageError: ``TOXOID_DATA`` names no folder.
    """
    given = os.environ.get(DATA_ENV)
    if not given:
        return [Path("~/.cache/toxoid/data").expanduser(), Path("../shared/data")]
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise UsageError(
            f"{DATA_ENV} is {given!r}, which is no folder; expected the folder of the data sets."
        )
    return [folder]


def _load_lab(name: str, split: str) -> RequestSet:
    from toxoid.data.lab import lab_requests  # the lab's grammar is read only when a lab set is asked for

    _check_split(name, ("train", "test"), split)
    return lab_requests(name, split="train" if split == "train" else "test")


def _load_registered(name: str, spec: DatasetSpec, split: str | None) -> RequestSet:
    _check_split(name, spec.splits, split)
    folder = _find(name, spec)
    requests: list[Request] = []
    digests: list[str] = []
    first = 0
    for file in spec.files:
        table = read_table(folder / file.path)
        if split is None or file.split == split:
            requests += to_requests(
                table.rows, name=name, kind=file.kind or spec.kind, category=file.category, first=first
            )
            digests.append(table.sha256)
        first += len(table.rows)  # an id does not depend on the split asked for
    return _request_set(name, requests, digests, spec.licence, spec.caveats)


def _load_plugin(given: str | Path, split: str | None) -> RequestSet | None:
    if isinstance(given, Path) or any(hint in given for hint in _FILE_HINTS):
        return None
    made: RequestSet | None = PLUGINS.make(given)
    if made is not None:
        _check_split(given, (), split)
    return made


def _load_file(given: str | Path, kind: Kind | None, split: str | None) -> RequestSet:
    path = Path(given).expanduser()
    if isinstance(given, str) and not path.exists() and not any(hint in given for hint in _FILE_HINTS):
        raise UsageError(
            f'"{given}" is neither a data set nor a file.{did_you_mean(given, [*DATASETS, *PLUGINS.names()])} '
            "See `toxoid ls datasets` for names, or give the path of a file."
        )
    _check_split(path.name, (), split)
    table = read_table(path)
    name = path.name.split(".")[0] or path.name
    requests = to_requests(table.rows, name=name, assume=kind)
    notes = () if states_kind(table.rows) else (f"the file does not say kinds: taken for {requests[0].kind}",)
    return _request_set(name, requests, [table.sha256], "unknown", notes)


def _check_split(name: str, known: tuple[str, ...], split: str | None) -> None:
    if split is not None and split not in known:
        known_text = f"expected one of {', '.join(known)}" if known else "it has no published splits"
        raise UsageError(
            f"Split {split!r} of {name} was asked for; {known_text}.{did_you_mean(split, known)}"
        )


def _find(name: str, spec: DatasetSpec) -> Path:
    """Return the data folder that has all files of a data set."""
    folders = data_folders()
    for folder in folders:
        if all((folder / file.path).is_file() for file in spec.files):
            return folder
    wanted = _first_missing(folders[0], spec.files)
    sought = ", ".join(str(folder) for folder in folders)
    raise UsageError(
        f'Data set "{name}" is not here: no {wanted} in {sought}. '
        f"Get it from {spec.homepage}, and set {DATA_ENV} to the folder that holds {Path(wanted).parts[0]}/."
    )


def _first_missing(folder: Path, files: tuple[DatasetFile, ...]) -> str:
    return next(file.path for file in files if not (folder / file.path).is_file())


def _request_set(
    name: str, requests: list[Request], digests: list[str], licence: str, notes: tuple[str, ...]
) -> RequestSet:
    """Drop duplicate prompts, join the digests, and note what was done."""
    kept, dropped = without_duplicates(requests)
    joined = digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
    dropped_note = (f"{dropped} rows with a prompt that stands earlier were dropped",) if dropped else ()
    return RequestSet(tuple(kept), name, joined, licence, (*notes, *dropped_note))
