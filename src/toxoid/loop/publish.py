"""Writes a run's report from what lies in its directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from toxoid.errors import UsageError
from toxoid.loop.kept import speed
from toxoid.store.files import write_text_atomic
from toxoid.store.run_directory import RunDirectory


def publish(directory: Path) -> Path:
    """Write ``report.html`` of a finished run and return its path.

    Raises:
        UsageError: There is no finished run in ``directory``.
    """
    from toxoid.report.html import render_html

    run = RunDirectory.read(directory)
    write_text_atomic(run.report_path, render_html(with_circumstances(run)))
    return run.report_path


def with_circumstances(run: RunDirectory) -> dict[str, Any]:
    """Return the run's results with what ``results.json`` leaves out: when, where and how long.

    Raises:
        UsageError: The run is not finished, or is the training of a judge.
    """
    results = run.results()
    if "meta" not in results:
        raise UsageError(f"{run.path} holds no audit; the report of a judge's training is {run.report_path}")
    timings = _json(run.path / "timings.json")
    command = run.stage_payload("loop").get("command", "") if run.stage_done("loop") else ""
    meta = results["meta"] | {
        "created": run.manifest["created"],
        "machine": run.manifest.get("info", {}),
        "command": command,
        "seconds": round(sum(timings.values()), 1),
        "timings": timings,
    }
    systems = [
        system | {"cost": system["cost"] | _times(run, system["name"])} for system in results["systems"]
    ]
    return results | {"meta": meta, "systems": systems}


def _times(run: RunDirectory, name: str) -> dict[str, float | None]:
    stage = f"treat-{name}"
    trained = run.stage_payload(stage).get("seconds") if run.stage_done(stage) else None
    return {"train_seconds": trained, **speed(run, name)}


def _json(path: Path) -> dict[str, float]:
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}
