"""What a run keeps of each of its systems beside ``results.json``: the scored items, and how fast it replied."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from toxoid.engines.metered import Usage
from toxoid.store.files import write_json_atomic
from toxoid.store.run_directory import RunDirectory


def scored_path(run: RunDirectory, system: str) -> Path:
    """Return where a run keeps the scored items of one of its systems."""
    return run.path / "artifacts" / "scored" / f"{system}.jsonl"


def note_speed(run: RunDirectory, system: str, used: Usage) -> None:
    """Add to what a system's replies took; those from the cache took nothing."""
    if used.replies:
        kept = _speeds(run)
        whole = Usage(**kept.get(system, {})).plus(used)  # type: ignore[arg-type]
        write_json_atomic(_speed_path(run), kept | {system: asdict(whole)})


def speed(run: RunDirectory, system: str) -> dict[str, float]:
    """Return how fast a system replied in its run, as costs name it; nothing where that was not measured."""
    used = Usage(**_speeds(run).get(system, {}))  # type: ignore[arg-type]
    if not (used.replies and used.seconds):
        return {}
    return {
        "seconds_per_reply": used.seconds / used.replies,
        "tokens_per_second": used.reply_tokens / used.seconds,
    }


def _speeds(run: RunDirectory) -> dict[str, dict[str, float]]:
    path = _speed_path(run)
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def _speed_path(run: RunDirectory) -> Path:
    return run.path / "speed.json"
