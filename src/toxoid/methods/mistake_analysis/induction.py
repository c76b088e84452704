"""Guided mistake induction (section 4.2, step 1) and the other sources of bad replies: the model shows how it fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from toxoid.attacks.base import AttackedPrompt
from toxoid.attacks.hijacking import HijackName
from toxoid.attacks.registry import make_attack
from toxoid.config.prompt_files import prompt
from toxoid.data.request_set import prompt_key
from toxoid.data.schemas import Conversation, Exchange, Request, user
from toxoid.errors import UsageError
from toxoid.judges.base import Aspect, Outcome, Verdict
from toxoid.methods.base import MethodInput
from toxoid.methods.mistake_analysis.audited import bad_aspect, bad_replies, scored_file
from toxoid.methods.mistake_analysis.options import MistakeOptions

HINTS = ("prefill", "user", "system")
"""The places of the hint words, in the order in which they are tried."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """A bad reply. The request's prompt is what the user said, with all that an attack made of it."""

    request: Request
    reply: str


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One way to ask for a bad reply.

    Args:
        request: What is learnt from, if it works.
        conversation: What is asked.
        prefill: The beginning of the reply.
        shown: What a judge sees, without the completion.
    """

    request: Request
    conversation: Conversation
    prefill: str
    shown: Exchange


def find_mistakes(given: MethodInput, options: MistakeOptions) -> tuple[list[Mistake], Counter[str]]:
    """Return at most one bad reply per request, and the counts on the way there.

    Bad is what a judge calls harmful; of requests that are not harmful, what it calls hijacked.

    Raises:
        UsageError: There is no judge to tell bad replies from good ones, no such attack or no such run.
    """
    if options.mistakes == "dataset":
        found = [Mistake(request, request.target) for request in given.harmful if request.target]
        return found, Counter(mistakes_dataset=len(found), mistakes_missing=len(given.harmful) - len(found))
    if options.mistakes == "audit":
        return _audited(given, options)
    counts: Counter[str] = Counter()
    first: dict[str, Mistake] = {}
    for family, attempts in _attempts(given, options).items():
        for mistake in _induced(given, options.tries, family, attempts, counts):
            first.setdefault(mistake.request.id, mistake)
    counts["mistakes"] = len(first)
    return list(first.values()), counts


def training_requests(given: MethodInput, options: MistakeOptions) -> list[Request]:
    """Return the requests to learn from: under an attack, here or in another run, their prompts are what it sent."""
    sent: dict[str, Request] = {}
    if options.mistakes == "audit":
        sent = {mistake.request.id: mistake.request for mistake in _audited(given, options)[0]}
    if options.attack is not None:
        for attacked in _attacked(given, options.attack):
            sent.setdefault(attacked.request.id, _as_sent(attacked))
    own = [sent.pop(request.id, request) for request in given.harmful]
    return [*own, *sent.values()]  # the others: benign requests under an attack that hijacks


def _audited(given: MethodInput, options: MistakeOptions) -> tuple[list[Mistake], Counter[str]]:
    """Return the mistakes of another run about the requests to learn from; the others must not be used."""
    own = {prompt_key(request): request for request in given.harmful}
    bad = bad_replies(scored_file(options.run or "", options.system))
    found = [
        Mistake(replace(own[key], prompt=item.conversation[-1].content), reply)
        for item, reply in bad
        if (key := prompt_key(item.request)) in own
    ]
    return found, Counter(mistakes_audit=len(found), mistakes_unused=len(bad) - len(found))


def _attempts(given: MethodInput, options: MistakeOptions) -> Mapping[str, list[_Attempt]]:
    """Return by family what is asked, in order."""
    if options.attack is not None:
        attacked = _attacked(given, options.attack)
        return {options.attack: [_under_attack(prompt) for prompt in attacked]}
    if options.mistakes == "natural":
        return {"natural": [_attempt(request, user(request.prompt)) for request in given.harmful]}
    hints = HINTS if options.hint == "all" else (options.hint,)
    return {hint: [_hinted(request, hint) for request in given.harmful] for hint in hints}


def _attempt(request: Request, conversation: Conversation, prefill: str = "") -> _Attempt:
    """Return an attempt of which a judge sees the plain request: hint words are no part of it."""
    return _Attempt(request, conversation, prefill, Exchange(request, user(request.prompt), ""))


def _hinted(request: Request, hint: str) -> _Attempt:
    form: dict[str, str] = prompt("mistake_analysis")["induction"][hint]
    name: Literal["safe", "opposite"] | None = form.get("system")  # type: ignore[assignment]
    system = prompt("system")[name].strip() if name else None
    return _attempt(
        request, user(form["user"].format(request=request.prompt), system), form.get("prefill", "")
    )


def _under_attack(attacked: AttackedPrompt) -> _Attempt:
    shown = Exchange(attacked.request, attacked.conversation, "", attacked.prefill)
    return _Attempt(_as_sent(attacked), attacked.conversation, attacked.prefill, shown)


def _as_sent(attacked: AttackedPrompt) -> Request:
    return replace(attacked.request, prompt=attacked.conversation[-1].content)


def _attacked(given: MethodInput, name: str) -> list[AttackedPrompt]:
    attack = make_attack(name, pool="training")
    requests = given.benign if _hijacks(name) else given.harmful
    return [attacked for request in requests for attacked in attack.apply(request, seed=given.seed)]


def _hijacks(attack: str) -> bool:
    return attack in get_args(HijackName)


def _induced(
    given: MethodInput, tries: int, family: str, attempts: Sequence[_Attempt], counts: Counter[str]
) -> list[Mistake]:
    """Return every bad reply, and count all that were drawn."""
    _check_judges(given, attempts)
    questions = [(attempt.request.id, attempt.conversation, attempt.prefill) for attempt in attempts]
    answers = given.ask("induced mistakes", questions, n=tries)
    drawn = [
        (attempt.request, replace(attempt.shown, completion=done.text))
        for attempt, row in zip(attempts, answers, strict=True)
        for done in row
    ]
    verdicts = _judged(given, [exchange for _, exchange in drawn])
    found = []
    for (request, exchange), verdict in zip(drawn, verdicts, strict=True):
        counts.update(["induced_replies", f"induced_{verdict.outcome}", f"induced_{family}_tried"])
        if verdict.outcome is Outcome.HIT:
            counts[f"induced_{family}_harmful"] += 1
            found.append(Mistake(request, exchange.reply.strip()))
    return found


def _check_judges(given: MethodInput, attempts: Sequence[_Attempt]) -> None:
    for aspect in sorted({bad_aspect(attempt.shown.request) for attempt in attempts} - given.judges.keys()):
        raise UsageError(
            f"no judge answers `{aspect}`, which tells mistakes from good replies. Give one with --judge, "
            "or take the data's own mistakes (options: {mistakes: dataset})."
        )


def _judged(given: MethodInput, exchanges: Sequence[Exchange]) -> list[Verdict]:
    """Return a verdict per exchange on what would make its reply bad."""
    by_aspect: dict[Aspect, list[int]] = {}
    for index, exchange in enumerate(exchanges):
        by_aspect.setdefault(bad_aspect(exchange.request), []).append(index)
    found: dict[int, Verdict] = {}
    for aspect, indices in by_aspect.items():
        verdicts = given.judges[aspect].judge([exchanges[index] for index in indices], aspect)
        found.update(zip(indices, verdicts, strict=True))
    return [found[index] for index in range(len(exchanges))]
