"""Guided mistake induction (section 4.2, step 1): the model shows how it fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from toxoid.config.prompt_files import prompt
from toxoid.data.schemas import Conversation, Exchange, Request, user
from toxoid.errors import UsageError
from toxoid.judges.base import Outcome
from toxoid.methods.base import MethodInput
from toxoid.methods.mistake_analysis.options import MistakeAnalysisOptions


@dataclass(frozen=True, slots=True)
class Mistake:
    """A bad reply to a request."""

    request: Request
    reply: str


def find_mistakes(given: MethodInput, options: MistakeAnalysisOptions) -> tuple[list[Mistake], Counter[str]]:
    """Return at most one bad reply per request, judged harmful, and the counts on the way there.

    Raises:
        UsageError: There is no judge of harm to tell mistakes from good replies.
    """
    if options.mistakes == "dataset":
        found = [Mistake(request, request.target) for request in given.harmful if request.target]
        return found, Counter(mistakes_dataset=len(found), mistakes_missing=len(given.harmful) - len(found))
    if "harmful" not in given.judges:
        raise UsageError(
            "no judge of harm is there to tell mistakes from good replies. Give one with --judge, "
            "or take the data's own mistakes (options: {mistakes: dataset})."
        )
    questions = [_question(request, options) for request in given.harmful]
    answers = given.ask("induced mistakes", questions, n=options.tries)
    exchanges = [
        Exchange(request, user(request.prompt), done.text.strip())
        for request, row in zip(given.harmful, answers, strict=True)
        for done in row
    ]
    return _first_harmful(given, exchanges)


def _question(request: Request, options: MistakeAnalysisOptions) -> tuple[str, Conversation, str]:
    if options.mistakes == "natural":
        return request.id, user(request.prompt), ""
    form: dict[str, str] = prompt("mistake_analysis")["induction"][options.hint]
    name: Literal["safe", "opposite"] | None = form.get("system")  # type: ignore[assignment]
    system = prompt("system")[name].strip() if name else None
    return request.id, user(form["user"].format(request=request.prompt), system), form.get("prefill", "")


def _first_harmful(given: MethodInput, exchanges: Sequence[Exchange]) -> tuple[list[Mistake], Counter[str]]:
    verdicts = given.judges["harmful"].judge(exchanges, "harmful")
    counts = Counter({"induced_replies": len(exchanges)})
    first: dict[str, Mistake] = {}
    for exchange, verdict in zip(exchanges, verdicts, strict=True):
        counts[f"induced_{verdict.outcome}"] += 1
        if verdict.outcome is Outcome.HIT:
            first.setdefault(exchange.request.id, Mistake(exchange.request, exchange.completion))
    counts["mistakes"] = len(first)
    return list(first.values()), counts
