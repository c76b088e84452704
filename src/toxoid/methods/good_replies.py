"""Good replies to harmful requests: the data set's own, or the model's under guidance, filtered by a judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from toxoid.config.prompt_files import prompt
from toxoid.data.schemas import Exchange, Request, user
from toxoid.errors import UsageError
from toxoid.judges.base import Aspect, Judge, Outcome
from toxoid.methods.base import MethodInput

Source: TypeAlias = Literal["reference", "guided", "auto"]

TRIES = 4


@dataclass(frozen=True, slots=True)
class GoodReply:
    """A reply worth imitating."""

    request: Request
    text: str
    source: Literal["reference", "guided"]


def good_replies(given: MethodInput, source: Source) -> tuple[list[GoodReply], Counter[str]]:
    """Return at most one good reply per request to learn from.

    ``reference`` takes the data set's and leaves requests without one alone; ``guided`` asks the model under
    the safe system prompt and keeps the first of its :data:`TRIES` replies that is judged a refusal (and not
    harmful); ``auto`` does the second where the first has nothing. To requests that are not harmful (an injected
    instruction stands in them) a refusal is no good reply: for them there is the reference only.

    Raises:
        UsageError: The model has to be asked, and there is no judge of refusals.
    """
    found = [
        GoodReply(r, r.reference, "reference")
        for r in given.harmful
        if r.reference and (source != "guided" or r.kind != "harmful")
    ]
    asked = [] if source == "reference" else [r for r in given.harmful if r.kind == "harmful"]
    have = {reply.request.id for reply in found}
    missing = [request for request in asked if request.id not in have]
    made = _guided(given, missing) if missing else []
    counts = Counter(
        good_reference=len(found), good_guided=len(made), good_guided_dropped=len(missing) - len(made)
    )
    order = {request.id: index for index, request in enumerate(given.harmful)}
    return sorted([*found, *made], key=lambda reply: order[reply.request.id]), counts


def _guided(given: MethodInput, requests: Sequence[Request]) -> list[GoodReply]:
    if "refusal" not in given.judges:
        raise UsageError(
            f"{len(requests)} training requests have no good reply, and no judge of refusals is there to choose one "
            "from the model's own. Give requests with references, or a judge that answers `refusal`."
        )
    safe = prompt("system")["safe"].strip()
    questions = [(request.id, user(request.prompt, safe), "") for request in requests]
    answers = given.ask("good replies", questions, n=TRIES)
    exchanges = [
        Exchange(request, user(request.prompt), done.text, truncated=done.finish_reason == "length")
        for request, row in zip(requests, answers, strict=True)
        for done in row
    ]
    first: dict[str, GoodReply] = {}
    for exchange, good in zip(exchanges, _accepted(given.judges, exchanges), strict=True):
        if good:
            reply = GoodReply(exchange.request, exchange.completion.strip(), "guided")
            first.setdefault(exchange.request.id, reply)
    return list(first.values())


def _accepted(judges: Mapping[Aspect, Judge], exchanges: Sequence[Exchange]) -> list[bool]:
    """Whether each reply is a whole refusal and, where a judge can tell, neither harmful nor gibberish."""
    good = [not exchange.truncated for exchange in exchanges]
    wanted: tuple[tuple[Aspect, Outcome], ...] = (
        ("refusal", Outcome.HIT),
        ("harmful", Outcome.MISS),
        ("valid", Outcome.HIT),
    )
    for aspect, outcome in wanted:
        if aspect in judges:
            verdicts = judges[aspect].judge(exchanges, aspect)
            good = [old and verdict.outcome is outcome for old, verdict in zip(good, verdicts, strict=True)]
    return good
