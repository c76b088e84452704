"""Writes a finished run in the formats of others: CI, code scanning, inspect, the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from toxoid.audit.scored_files import read_scored
from toxoid.errors import UsageError
from toxoid.loop.kept import scored_path
from toxoid.loop.publish import with_circumstances
from toxoid.report.html import checked, render_html
from toxoid.report.inspect_log import write_inspect_logs
from toxoid.report.junit import junit
from toxoid.report.model_card import write_model_card
from toxoid.report.sarif import sarif
from toxoid.report.subject import system_of
from toxoid.store.files import disk_errors, write_text_atomic
from toxoid.store.run_directory import RunDirectory

Format: TypeAlias = Literal["html", "junit", "sarif", "inspect", "model-card"]


def export(
    directory: Path, format: Format, *, out: Path | None = None, system: str | None = None
) -> list[Path]:
    """Write a finished run in a format and return the paths written.

    Args:
        directory: Of the run.
        format: ``html`` tells of all systems (:mod:`toxoid.report.html`), the others of one:
            :mod:`~toxoid.report.junit`, :mod:`~toxoid.report.sarif`, :mod:`~toxoid.report.inspect_log`,
            :mod:`~toxoid.report.model_card`.
        out: A file; for ``inspect`` and ``model-card`` a folder. By default a place in the run's directory, for a
            model card the folder of the treated model.
        system: A system of the run, by default the one that the verdict is about.

    Raises:
        UsageError: No finished run, no such system, or a place that cannot be written to.
    """
    if format == "html" and system:
        raise UsageError(f"the html report tells of every system: leave --system {system} out")
    run = RunDirectory.read(directory)
    results = checked(with_circumstances(run))
    if format == "html":
        return _file(out or run.report_path, render_html(results))
    told = system_of(results, system)
    if format == "model-card":
        return write_model_card(out or _artifact(run, told["name"]), results, told)
    path = scored_path(run, told["name"])
    scored = read_scored(path)
    if format == "inspect":
        return write_inspect_logs(out or run.path / "inspect", results, told, scored)
    if format == "junit":
        return _file(out or run.path / "junit.xml", junit(results, told["name"], scored))
    text = sarif(results, told["name"], scored, file=path.relative_to(run.path).as_posix())
    return _file(out or run.path / "report.sarif", text)


def _file(path: Path, text: str) -> list[Path]:
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomic(path, text)
    return [path]


def _artifact(run: RunDirectory, system: str) -> Path:
    """Return the folder of a treated model; arms may share one."""
    arms = {arm["name"]: arm for arm in run.recipe().get("arms", [])}
    if system not in arms:
        raise UsageError(
            f"{system} is no treated model, so that there is no folder for its card: choose one with --system "
            f"({', '.join(arms) or 'this run has none'}), or a folder with --out"
        )
    return run.artifact(arms[system].get("artifact_of") or system)
