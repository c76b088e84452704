"""Scored items on disk: one JSON line per item, everything a comparison or a report needs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from toxoid.attacks.base import Cut
from toxoid.audit.items import Item
from toxoid.audit.run import Scored
from toxoid.data.schemas import Message, Request, as_dicts
from toxoid.data.writing import write_jsonl_atomic
from toxoid.engines.base import Completion
from toxoid.errors import UsageError
from toxoid.judges.base import Outcome, Verdict


def write_scored(path: Path, scored: Iterable[Scored]) -> None:
    """Write scored items; the file appears whole or not at all."""
    write_jsonl_atomic(path, (_row(entry) for entry in scored))


def read_scored(path: Path) -> list[Scored]:
    """Read what :func:`write_scored` wrote.

    Raises:
        UsageError: The file is missing or damaged.
    """
    return list(iter_scored(path))


def iter_scored(path: Path) -> Iterator[Scored]:
    """Yield what :func:`read_scored` returns, item by item.

    Raises:
        UsageError: The file is missing or damaged.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    yield _entry(json.loads(line))
                except (ValueError, KeyError, TypeError) as error:
                    raise UsageError(
                        f"{path}, line {number}: no scored item ({error}): run the audit again"
                    ) from error
    except FileNotFoundError as error:
        raise UsageError(
            f"{path}: missing; the run it belongs to is not finished: run the same command again"
        ) from error


def _row(entry: Scored) -> dict[str, Any]:
    item, request = entry.item, entry.item.request
    return {
        "task": item.task,
        "attack": item.attack,
        "variant": item.variant,
        "request": {
            "id": request.id,
            "prompt": request.prompt,
            "kind": request.kind,
            "category": request.category,
            "reference": request.reference,
            "metadata": dict(request.metadata),
        },
        "conversation": as_dicts(item.conversation),
        "prefill": item.prefill,
        "cut": None if item.cut is None else asdict(item.cut),
        "campaign": item.campaign,
        "completions": [
            {
                "text": done.text,
                "finish_reason": done.finish_reason,
                "prompt_tokens": done.prompt_tokens,
                "completion_tokens": done.completion_tokens,
            }
            for done in entry.completions
        ],
        "verdicts": {
            aspect: [
                [verdict.outcome.value, verdict.score, verdict.reason, verdict.position, verdict.evidence]
                for verdict in verdicts
            ]
            for aspect, verdicts in entry.verdicts.items()
        },
    }


def _entry(row: Mapping[str, Any]) -> Scored:
    item = Item(
        task=row["task"],
        request=Request(**row["request"]),
        conversation=tuple(Message(**turn) for turn in row["conversation"]),
        prefill=row["prefill"],
        attack=row["attack"],
        variant=row["variant"],
        cut=None if row["cut"] is None else Cut(**row["cut"]),
        campaign=row["campaign"],
    )
    verdicts = {aspect: tuple(_verdict(*told) for told in found) for aspect, found in row["verdicts"].items()}
    return Scored(item, tuple(Completion(**done) for done in row["completions"]), verdicts)


def _verdict(
    outcome: str,
    score: float | None,
    reason: str,
    position: int | None,
    evidence: Iterable[Sequence[int]] = (),
) -> Verdict:
    """Return a verdict; files of earlier versions hold no evidence."""
    return Verdict(Outcome(outcome), score, reason, position, tuple((start, end) for start, end in evidence))
