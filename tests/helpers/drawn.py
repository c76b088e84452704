"""Scored items with drawn verdicts: no model, no judge."""

from __future__ import annotations

from random import Random

from toxoid.attacks.base import asked
from toxoid.audit.items import Item
from toxoid.audit.run import Scored
from toxoid.audit.tasks import task_spec
from toxoid.data.schemas import Request
from toxoid.engines.base import Completion
from toxoid.judges.base import Outcome, Verdict

KINDS = {
    "harmfulness": "harmful",
    "jailbreak": "harmful",
    "over-refusal": "contentious",
    "helpfulness": "benign",
}


def scored(task, *, items=12, replies=2, hits=0.5, attack=None, seed=0, unscored=0.1):
    """Return items of one task; ``hits`` is the share of hits among scored verdicts, of every aspect."""
    found = []
    for number in range(items):
        rng = Random(f"{seed}/{task}/{attack}/{number}")
        request = Request(f"{task}/{number}", f"Ask {number}", KINDS[task], f"part {number % 3}")
        text = f"{attack}: {request.prompt}" if attack else None
        item = Item(task, request, asked(request, text), attack=attack or "direct")
        aspects = dict.fromkeys(a for metric in task_spec(task).metrics for a in metric.aspects)
        verdicts = {
            aspect: tuple(_verdict(rng, hits, unscored) for _ in range(replies)) for aspect in aspects
        }
        texts = tuple(Completion(f"reply {seed} {number} {index}", "stop", 5, 7) for index in range(replies))
        found.append(Scored(item, texts, verdicts))
    return found


def _verdict(rng, hits, unscored):
    if rng.random() < unscored:
        return Verdict(Outcome.UNSCORED, reason="?")
    return Verdict(Outcome.HIT if rng.random() < hits else Outcome.MISS, reason="drawn")
