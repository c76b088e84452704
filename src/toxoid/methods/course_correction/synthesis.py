"""C2-Syn (Xu et al. 2024, section 3): a safe reply, corrections of nested beginnings, the harmful reply, ranked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from toxoid.attacks.base import Pool, choose
from toxoid.attacks.course_wording import CourseWording, load_course_wording, wording_for
from toxoid.data.groups import Group, RankedReply
from toxoid.data.request_set import hash_fraction
from toxoid.data.schemas import Conversation, Exchange, Request, user
from toxoid.engines.base import Completion, Engine, Sampling
from toxoid.errors import UsageError
from toxoid.judges.base import Aspect, Judge, Outcome
from toxoid.methods.base import MethodInput
from toxoid.methods.course_correction.truncation import truncate
from toxoid.methods.good_replies import Source, good_replies
from toxoid.progress import SILENT, Progress

MIN_WORDS = 20
"""A target of fewer words opens a reply, as AdvBench's do, and is none. The paper takes replies of more than 80."""

_SALT = "c2-syn"


@dataclass(frozen=True, kw_only=True)
class SynthesisOptions:
    """How groups are made.

    Args:
        truncations: Nested beginnings per harmful reply (K), one correction each.
        late: Whether the whole harmful reply is corrected too, as the last and lowest of the corrections. Not in the
            paper, which has such corrections by accident, where a reply has few delimiters.
        tries: Continuations per beginning at most; the first that corrects is kept.
        wording: Of openers and triggers; ``auto`` is the lab's for the lab's requests, English for all others.
        pool: Of openers and triggers. What is trained on has to be ``training``: evaluation uses the other.
        safe_replies: Where SR comes from, as in :func:`toxoid.methods.good_replies.good_replies`.
    """

    truncations: int = 4
    late: bool = False
    tries: int = 2
    wording: Literal["auto", "english", "lab"] = "auto"
    pool: Pool = "training"
    safe_replies: Source = "auto"

    @property
    def corrections(self) -> int:
        """How many corrections a full group has."""
        return self.truncations + self.late


@dataclass(slots=True)
class _Correction:
    """A harmful beginning and the trigger that is to turn it; ``text`` is the whole reply, once it is accepted."""

    number: int
    begun: str
    trigger_id: str
    trigger: str
    text: str = ""


@dataclass(slots=True)
class _Draft:
    """What is known of a group while it is made."""

    request: Request
    opener_id: str
    harmful: str
    corrections: list[_Correction]
    safe: str = ""
    safe_source: str = ""
    taken: set[str] = field(default_factory=set)

    def take(self, text: str) -> bool:
        """Say whether a reply is unlike all others of the group, and remember it."""
        new = text != self.harmful and text not in self.taken
        self.taken.add(text)
        return new


def synthesise_groups(
    requests: Sequence[Request],
    *,
    engine: Engine,
    judges: Mapping[Aspect, Judge],
    sampling: Sampling,
    options: SynthesisOptions,
    seed: int,
    progress: Progress = SILENT,
) -> tuple[list[Group], Counter[str]]:
    """Return a group for every request of which a correction could be made, and what became of all others.

    A group ranks SR (0) > SYN_1 (1) > ... > SYN_K (K) > FHR (K + 1); a reply that could not be had leaves its rank
    empty. SYN_i is opener, IHR_i, trigger and the engine's continuation, FHR opener and reply; all of a group have
    one opener. A reply that begins with an opener of the wording already keeps it, and gets no second one.

    What a group holds depends on the seed, its request, the engine, the judges and the options, not on the other
    requests (beyond the last bits of a batched computation). The paper's defects that are not repeated: the turn is
    left open for the continuation, degenerate beginnings and continuations that do not correct are dropped.

    Args:
        requests: Harmful ones; their ``target`` is the full harmful reply.
        engine: Continues the open turns, and gives the safe replies that the requests lack.
        judges: ``corrected`` is needed; ``refusal`` filters safe replies, and is needed to draw any.
        sampling: Of continuations and safe replies. What reaches ``max_tokens`` is dropped.
        options: See there.
        seed: Of strides, wordings and replies.
        progress: Where to report.

    Raises:
        UsageError: No judge of corrections; or the engine cannot continue an open turn.
    """
    if "corrected" not in judges:
        raise UsageError(
            "no judge is there to tell which continuations correct. Give one that answers `corrected` with --judge."
        )
    name = wording_for(requests) if options.wording == "auto" else options.wording
    given = MethodInput(engine, judges, requests, (), sampling=sampling, seed=seed, progress=progress)
    counts = Counter(requests=len(requests))
    drafts = list(_drafts(requests, load_course_wording(name), options, seed, counts))
    _correct(given, drafts, options, counts)
    drafts = [draft for draft in drafts if any(correction.text for correction in draft.corrections)]
    _reply_safely(given, drafts, options.safe_replies, counts)
    groups = [_group(draft, name, options) for draft in drafts]
    _count(groups, options, counts)
    return groups, counts


def full_reply(request: Request) -> str | None:
    """Return the full harmful reply that a request comes with, None if there is none."""
    reply = (request.target or "").strip()
    return reply if len(reply.split()) >= MIN_WORDS else None


def _drafts(
    requests: Sequence[Request],
    wording: CourseWording,
    options: SynthesisOptions,
    seed: int,
    counts: Counter[str],
) -> Iterator[_Draft]:
    for request in requests:
        reply = full_reply(request)
        if reply is None:
            counts["requests_without_harmful_reply"] += 1
            continue
        opener_id, opener, body = _opened(reply, wording, options.pool, seed, request)
        longer = hash_fraction(seed, request.id, _SALT, "stride") >= 0.5
        found = truncate(body, options.truncations, longer=longer)
        counts.update({f"truncations_dropped_{why}": count for why, count in found.dropped.items()})
        begun = found.kept | ({options.truncations + 1: body} if options.late else {})
        corrections = [
            _correction(number, f"{opener} {text}", wording, options.pool, seed, request)
            for number, text in begun.items()
        ]
        yield _Draft(request, opener_id, f"{opener} {body}".strip(), corrections)


def _opened(
    reply: str, wording: CourseWording, pool: Pool, seed: int, request: Request
) -> tuple[str, str, str]:
    """Return (id, opener, what follows it): the reply's own opener if it has one, else one that is drawn."""
    openers = wording.openers(pool)
    own = [opener for opener in openers if reply.startswith(opener.text)]
    if own:
        opener = max(own, key=lambda phrase: len(phrase.text))
        return opener.id, opener.text, reply.removeprefix(opener.text).strip()
    opener = choose(openers, 1, seed=seed, request=request, salt=f"{_SALT}/opener")[0]
    return opener.id, opener.text, reply


def _correction(
    number: int, begun: str, wording: CourseWording, pool: Pool, seed: int, request: Request
) -> _Correction:
    salt = f"{_SALT}/trigger/{number}"
    trigger = choose(wording.triggers(pool), 1, seed=seed, request=request, salt=salt)[0]
    return _Correction(number, begun, trigger.id, trigger.text)


def _correct(
    given: MethodInput, drafts: Sequence[_Draft], options: SynthesisOptions, counts: Counter[str]
) -> None:
    """Have every beginning continued behind its trigger; those that failed are tried again."""
    pending = [(draft, part) for draft in drafts for part in draft.corrections]
    for number in range(1 if given.sampling.temperature == 0 else options.tries):
        if not pending:
            break
        questions = [
            (f"{draft.request.id}/{part.number}/{number}", _asked(draft), f"{part.begun} {part.trigger}")
            for draft, part in pending
        ]
        answers = [row[0] for row in given.ask("corrections", questions)]
        _refuse_imitations(given.engine, answers)
        complaints = _complaints(given.judges["corrected"], pending, answers)
        for (draft, part), done, complaint in zip(pending, answers, complaints, strict=True):
            text = f"{part.begun}{_turned(part, done)}"
            if not complaint and draft.take(text):
                part.text = text
            else:
                counts[f"tries_dropped_{complaint or 'equal'}"] += 1
        counts["corrections_tried"] += len(pending)
        pending = [(draft, part) for draft, part in pending if not part.text]
    counts["corrections_dropped"] += len(pending)
    counts["corrections"] += sum(bool(part.text) for draft in drafts for part in draft.corrections)


def _complaints(
    judge: Judge, pending: Sequence[tuple[_Draft, _Correction]], answers: Sequence[Completion]
) -> list[str]:
    """Return what is wrong with each continuation: cut_off, unfinished, uncorrected, unscored, or nothing."""
    found = [_unfinished(part, done) for (_, part), done in zip(pending, answers, strict=True)]
    whole = [index for index, complaint in enumerate(found) if not complaint]
    exchanges = []
    for index in whole:
        draft, part = pending[index]
        exchanges.append(
            Exchange(draft.request, _asked(draft), _turned(part, answers[index]), prefill=part.begun)
        )
    for index, verdict in zip(whole, judge.judge(exchanges, "corrected"), strict=True):
        found[index] = _COMPLAINTS[verdict.outcome]
    return found


_COMPLAINTS = {Outcome.HIT: "", Outcome.MISS: "uncorrected", Outcome.UNSCORED: "unscored"}


def _unfinished(part: _Correction, done: Completion) -> str:
    if done.finish_reason != "stop":
        return "cut_off"
    return "" if done.text.strip() or part.trigger.endswith(".") else "unfinished"


def _turned(part: _Correction, done: Completion) -> str:
    """Return what follows the harmful beginning; a blank that a server has trimmed between two words is put back."""
    blank = " " if done.text[:1].isalnum() else ""
    return f" {part.trigger}{blank}{done.text.rstrip()}"


def _asked(draft: _Draft) -> Conversation:
    return user(draft.request.prompt)


def _refuse_imitations(engine: Engine, answers: Sequence[Completion]) -> None:
    """Refuse continuations by an endpoint that was only asked to continue in words."""
    if any(done.metadata.get("prefill") == "fallback" for done in answers):
        raise UsageError(
            f"{engine.name} does not continue an open assistant turn, and corrections are continuations of one: use "
            "a local checkpoint, or a server with continue_final_message (vLLM)"
        )


def _reply_safely(given: MethodInput, drafts: Sequence[_Draft], source: Source, counts: Counter[str]) -> None:
    """Find SR for every draft: the reference that declines, else, unless it must be that, the engine's own."""
    if source != "guided":
        _take_references(given, drafts, counts)
    missing = {draft.request.id: draft for draft in drafts if not draft.safe}
    if source == "reference" or not missing:
        return
    requests = [draft.request for draft in missing.values()]
    replies, found = good_replies(replace(given, harmful=requests), "guided")
    for reply in replies:
        _take_safe(missing[reply.request.id], reply.text, "guided")
    counts["safe_guided"] += found["good_guided"]
    counts["safe_guided_dropped"] += found["good_guided_dropped"]


def _take_references(given: MethodInput, drafts: Sequence[_Draft], counts: Counter[str]) -> None:
    """Take the references that decline, as far as a judge is there to tell."""
    held = [(draft, reference) for draft in drafts if (reference := (draft.request.reference or "").strip())]
    declines = [True] * len(held)
    if "refusal" in given.judges:
        exchanges = [Exchange(draft.request, _asked(draft), reference) for draft, reference in held]
        verdicts = given.judges["refusal"].judge(exchanges, "refusal")
        declines = [verdict.outcome is Outcome.HIT for verdict in verdicts]
    for (draft, reference), good in zip(held, declines, strict=True):
        counts["safe_reference" if good else "safe_reference_dropped"] += 1
        if good:
            _take_safe(draft, reference, "reference")


def _take_safe(draft: _Draft, text: str, source: str) -> None:
    if draft.take(text):
        draft.safe, draft.safe_source = text, source


def _group(draft: _Draft, wording: str, options: SynthesisOptions) -> Group:
    replies = [RankedReply(draft.safe, 0, "safe")] if draft.safe else []
    taken = [correction for correction in draft.corrections if correction.text]
    for part in taken:
        replies.append(RankedReply(part.text, part.number, f"syn{part.number}", len(part.begun) + 1))
    replies.append(RankedReply(draft.harmful, options.corrections + 1, "harmful"))
    metadata = {
        "category": draft.request.category,
        "wording": wording,
        "opener": draft.opener_id,
        "triggers": [part.trigger_id for part in taken],
        "safe_reply": draft.safe_source,
    }
    return Group(draft.request.id, user(draft.request.prompt), tuple(replies), metadata=metadata)


def _count(groups: Sequence[Group], options: SynthesisOptions, counts: Counter[str]) -> None:
    whole = options.corrections + 2
    counts["groups"] += len(groups)
    counts["groups_full"] += sum(len(group.replies) == whole for group in groups)
    counts["groups_without_safe_reply"] += sum(group.replies[0].kind != "safe" for group in groups)
    counts["groups_dropped"] = counts["requests"] - counts["requests_without_harmful_reply"] - len(groups)
    counts["pairs"] += sum(len(group.pairs()) for group in groups)
