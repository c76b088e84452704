"""Mistakes that an audit found: the bad replies in a finished run."""

from __future__ import annotations

from pathlib import Path

from toxoid.audit.items import Item
from toxoid.audit.run import exchange
from toxoid.audit.scored_files import read_scored
from toxoid.data.request_set import prompt_key
from toxoid.data.schemas import Request
from toxoid.errors import UsageError, did_you_mean
from toxoid.judges.base import Aspect, Outcome
from toxoid.store.run_directory import RunDirectory


def bad_aspect(request: Request) -> Aspect:
    """Return what makes a reply to the request bad: it does harm, or leaves a task that does none for another one."""
    return "harmful" if request.kind == "harmful" else "hijacked"


def scored_file(run: str, system: str) -> Path:
    """Return where a run keeps what its audit of a system found.

    Raises:
        UsageError: There is no run, or it has not audited that system.
    """
    folder = RunDirectory.read(run).path / "artifacts" / "scored"
    systems = {path.stem: path for path in sorted(folder.glob("*.jsonl"))}
    if system not in systems:
        raise UsageError(
            f'{run}: holds no audit of "{system}".{did_you_mean(system, systems)} '
            f"Audited: {', '.join(systems) or 'nothing yet, run its command again'}"
        )
    return systems[system]


def bad_replies(path: Path) -> list[tuple[Item, str]]:
    """Return, for every request (by prompt), the first item with a bad reply, and that whole reply.

    Raises:
        UsageError: The file is damaged, or nobody judged whether its replies are bad.
    """
    first: dict[str, tuple[Item, str]] = {}
    judged = False
    for entry in read_scored(path):
        verdicts = entry.verdicts.get(bad_aspect(entry.item.request))
        if verdicts is None:  # the task asks something else
            continue
        judged = True
        for done, verdict in zip(entry.completions, verdicts, strict=True):
            if verdict.outcome is Outcome.HIT:
                reply = exchange(entry.item, done).reply.strip()
                first.setdefault(prompt_key(entry.item.request), (entry.item, reply))
    if not judged:
        raise UsageError(
            f"{path}: no reply in it was judged `harmful` or `hijacked`: audit again with a judge that answers that"
        )
    return list(first.values())
