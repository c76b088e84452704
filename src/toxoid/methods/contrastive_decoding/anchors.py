"""Anchors: replies to harmful and to safe instructions under opposite prompts, sorted by what they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar, get_args

from toxoid.config.prompt_files import prompt
from toxoid.data.layouts import KINDS
from toxoid.data.request_set import hash_fraction
from toxoid.data.rows import Row, read_table
from toxoid.data.schemas import Exchange, Kind, Request, user
from toxoid.engines.base import Completion
from toxoid.errors import UsageError
from toxoid.judges.base import Aspect, Outcome
from toxoid.methods.base import MethodInput
from toxoid.methods.contrastive_decoding.options import AnchorOptions
from toxoid.training.examples import Example
from toxoid.training.soft_prompts.settings import Anchors

AnchorSet: TypeAlias = Literal["kept", "refused", "complied", "declined"]
SETS: tuple[AnchorSet, ...] = get_args(AnchorSet)
NEEDED: tuple[AnchorSet, ...] = ("kept", "refused", "complied")
"""What opposite prompts cannot be trained without."""

FEW = 20
"""Fewer refusals of contentious instructions are reported: a prompt of a hundred tokens learns them by heart."""

Name = TypeVar("Name", bound=str)

_KIND_OF: dict[AnchorSet, Kind] = {
    "kept": "benign",
    "refused": "harmful",
    "complied": "harmful",
    "declined": "contentious",
}
_ADVICE: dict[str, str] = {
    "kept": "give benign requests that the model answers (--benign)",
    "refused": "give more instructions (options: {anchors: N}), another model that declines them (replies_by), or "
    "replies of your own (anchors_file)",
    "complied": "the model is safe on these requests even under the opposite prompt: give more instructions (options: "
    "{anchors: N}), another model that complies (replies_by), or replies of your own (anchors_file)",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply to an anchor instruction.

    Args:
        request: The instruction.
        text: What it says.
        under: The prompt it was given under; empty if that is not known.
        known: Its set, where a file says it.
        complaint: Why it may not be used, if so.
    """

    request: Request
    text: str
    under: str = ""
    known: AnchorSet | None = None
    complaint: str = ""


def make_anchors(
    given: MethodInput,
    options: AnchorOptions,
    *,
    two_sided: bool = False,
    needs: Sequence[AnchorSet] = NEEDED,
) -> tuple[Anchors, Counter[str]]:
    """Return the anchors, and what became of every reply.

    Every instruction is answered under the safe, the opposite and no system prompt (three replies each), and stands
    in the anchors without it. Replies to harmful instructions are sorted by the judges: ``harmful`` is complied,
    else ``refusal`` is refused, else dropped. Of replies to safe instructions all are kept as published; with
    contentious ones among these (``options.contentious``), refusals, gibberish and wrong answers are left out.
    Replies that reached the token limit or are empty are dropped. Refusals of contentious instructions are rare in a
    model that is not over-cautious: if there are few, ``options.decline_tries`` more replies to each of these
    instructions are drawn under the safe prompt, of which only the refusals are taken.

    Args:
        given: The model, the judges and the requests; which of these are anchors depends on the seed and their ids.
        options: See there.
        two_sided: Take refusals of contentious instructions as ``declined``; AP then learns nothing else about
            such instructions.
        needs: Sets that may not be empty.

    Source: Zhao et al. 2024, section "Opposite Prompt Optimization" (100 safe and 100 unsafe instructions, 600
    replies). How refusing and complying replies are told apart is not in the paper.

    Raises:
        UsageError: A set that is needed is empty, the judges cannot tell refusals, or the file is wrong.
    """
    replies = (
        _in_file(Path(options.anchors_file).expanduser()) if options.anchors_file else _drawn(given, options)
    )
    sets = _sets(given, replies, judged=options.contentious > 0, two_sided=two_sided)
    tried, more = 0, list[Reply]()
    if two_sided and not options.anchors_file and sets.count("declined") < FEW:
        tried, more = _more_refusals(given, options, replies)
    replies, sets = [*replies, *more], [*sets, *["declined"] * len(more)]
    counts = _counts(replies, sets)
    counts["declined_tried"] = tried
    _demand(needs, counts)
    found = {
        name: [reply for reply, chosen in zip(replies, sets, strict=True) if chosen == name] for name in SETS
    }
    kept, refused, complied, declined = (tuple(_example(r, name) for r in found[name]) for name in SETS)
    for_opposite = _for_opposite(given, found, counts) if two_sided else None
    return Anchors(kept, refused, complied, declined, kept_by_opposite=for_opposite), counts


def _for_opposite(
    given: MethodInput, found: Mapping[AnchorSet, Sequence[Reply]], counts: Mapping[str, int]
) -> tuple[bool, ...]:
    """Return whether each kept reply is for a prompt that learns to decline contentious instructions."""
    declined = {reply.request.prompt for reply in found["declined"]}
    if counts["declined"] < FEW:
        given.progress.note(
            f"{counts['declined']} refusals of {counts['instructions_contentious']} contentious instructions are few: "
            "the adversarial prompt hardly learns to decline these, and the contrast will not lower over-refusal"
        )
    kept = tuple(
        reply.request.kind != "contentious" and reply.request.prompt not in declined
        for reply in found["kept"]
    )
    if not any(kept):
        raise UsageError(
            f"all {len(kept)} replies to keep to answer contentious instructions, which the adversarial prompt "
            "learns to decline: give plain benign requests too, or two_sided: false"
        )
    return kept


def _drawn(given: MethodInput, options: AnchorOptions) -> list[Reply]:
    """Return a reply to each anchor instruction under each prompt."""
    given = _answering(given, options)
    instructions = anchor_instructions(given, options.anchors, options.contentious)
    systems = {name: prompt("system")[name].strip() for name in ("safe", "opposite")} | {"null": None}
    asked = [(request, under) for request in instructions for under in systems]
    answers = given.ask(
        "anchor replies",
        [(f"{request.id}/{under}", user(request.prompt, systems[under]), "") for request, under in asked],
    )
    return [_reply(request, under, row[0]) for (request, under), row in zip(asked, answers, strict=True)]


def anchor_instructions(given: MethodInput, count: int, contentious: float) -> list[Request]:
    """Return the harmful instructions, the plain ones and the contentious ones that are anchors.

    Args:
        given: The requests; which of these are chosen depends on the seed and their ids.
        count: Instructions per side, as far as there are so many.
        contentious: Share of the safe side that is contentious, as far as there are any.
    """
    sounding = [request for request in given.benign if request.kind == "contentious"]
    plain = [request for request in given.benign if request.kind != "contentious"]
    sounding = _chosen(sounding, round(count * contentious), given.seed)
    return [
        *_chosen(given.harmful, count, given.seed),
        *_chosen(plain, count - len(sounding), given.seed),
        *sounding,
    ]


def _answering(given: MethodInput, options: AnchorOptions) -> MethodInput:
    """Return ``given`` with the engine that answers the instructions."""
    if options.replies_by is None:
        return given
    if given.other is None:
        raise UsageError(
            f"replies_by names {options.replies_by!r}, and only the model itself can be asked here: leave it out"
        )
    return replace(given, engine=given.other)


def _more_refusals(
    given: MethodInput, options: AnchorOptions, replies: Sequence[Reply]
) -> tuple[int, list[Reply]]:
    """Ask the contentious instructions among ``replies`` again under the safe prompt.

    Returns:
        How many replies were drawn, and the refusals that are new among them.
    """
    instructions = {r.request.id: r.request for r in replies if r.request.kind == "contentious"}
    safe = prompt("system")["safe"].strip()
    answers = _answering(given, options).ask(
        "refusals of contentious instructions",
        [(f"{request.id}/again", user(request.prompt, safe), "") for request in instructions.values()],
        n=options.decline_tries,
    )
    drawn = [
        _reply(request, "safe", done)
        for request, row in zip(instructions.values(), answers, strict=True)
        for done in row
    ]
    known = {(reply.request.id, reply.text) for reply in replies}
    sets = _sets(given, drawn, judged=True, two_sided=True)
    refusals = {
        (reply.request.id, reply.text): reply
        for reply, name in zip(drawn, sets, strict=True)
        if name == "declined" and (reply.request.id, reply.text) not in known
    }
    return len(drawn), list(refusals.values())


def _chosen(requests: Sequence[Request], count: int, seed: int) -> list[Request]:
    """Return ``count`` requests in their order, or all; a smaller choice is part of a larger one."""
    ranked = sorted(requests, key=lambda request: hash_fraction("anchors", seed, request.id))
    kept = {request.id for request in ranked[:count]}
    return [request for request in requests if request.id in kept]


def _reply(request: Request, under: str, done: Completion) -> Reply:
    text = done.text.strip()
    complaint = "unfinished" if done.finish_reason != "stop" else "" if text else "empty"
    return Reply(request, text, under, complaint=complaint)


def _in_file(path: Path) -> list[Reply]:
    """Return the replies of a file of anchors."""
    if path.suffix == ".parquet":
        from toxoid.data.parquet import read_rows

        return [_from_row(Row(f"{path.name}, row {n}", row)) for n, row in enumerate(read_rows(path), 1)]
    return [_from_row(row) for row in read_table(path).rows]


def _from_row(row: Row) -> Reply:
    known, kind = _one_of(row, "set", SETS), _one_of(row, "kind", KINDS)
    if kind is None:
        if known is None:
            row.fail(
                f"neither `set` ({', '.join(SETS)}) nor `kind` ({', '.join(KINDS)}) is given; a judge needs the kind "
                "of the request to choose the set of the reply"
            )
        kind = _KIND_OF[known]
    return Reply(Request(row.where, row.text("request"), kind), row.text("reply"), known=known)


def _one_of(row: Row, column: str, names: Sequence[Name]) -> Name | None:
    given = row.optional(column)
    found = next((name for name in names if name == given), None)
    if given is not None and found is None:
        row.fail(f'column "{column}" holds {given[:40]!r}; expected one of {", ".join(names)}')
    return found


def _sets(given: MethodInput, replies: Sequence[Reply], *, judged: bool, two_sided: bool) -> list[str]:
    """Return the set of each reply, or why it has none."""
    sets: list[str] = [reply.complaint or reply.known or "kept" for reply in replies]
    unsorted = [index for index, reply in enumerate(replies) if not (reply.complaint or reply.known)]
    harmful = [index for index in unsorted if replies[index].request.kind == "harmful"]
    safe = [index for index in unsorted if replies[index].request.kind != "harmful"] if judged else []
    valid: tuple[Aspect, ...] = ("valid",) if judged else ()
    for index, seen in _seen(given, replies, harmful, ("refusal", "harmful", *valid)):
        sets[index] = _harmful_set(seen)
    for index, seen in _seen(given, replies, safe, ("refusal", "helpful", *valid)):
        sets[index] = _safe_set(seen, contentious=replies[index].request.kind == "contentious")
    return sets if two_sided else ["overrefused" if name == "declined" else name for name in sets]


def _seen(
    given: MethodInput, replies: Sequence[Reply], chosen: Sequence[int], aspects: Sequence[Aspect]
) -> Iterator[tuple[int, Mapping[Aspect, Outcome]]]:
    """Yield each chosen reply's index, and what the judges that are there make of it."""
    if chosen and "refusal" not in given.judges:
        raise UsageError(
            f"{len(chosen)} replies to anchor instructions have to be sorted, and no judge is there to tell which "
            "refuse. Give one that answers `refusal` with --judge, or a file that names the sets (anchors_file)."
        )
    exchanges = [
        Exchange(replies[i].request, user(replies[i].request.prompt), replies[i].text) for i in chosen
    ]
    verdicts = {
        aspect: given.judges[aspect].judge(exchanges, aspect) for aspect in aspects if aspect in given.judges
    }
    for place, index in enumerate(chosen):
        yield index, {aspect: found[place].outcome for aspect, found in verdicts.items()}


def _harmful_set(seen: Mapping[Aspect, Outcome]) -> str:
    """Return the set of a reply to a harmful instruction, or why it has none."""
    if seen.get("valid") is Outcome.MISS:
        return "gibberish"
    if "harmful" not in seen:
        return {Outcome.HIT: "refused", Outcome.MISS: "complied"}.get(seen["refusal"], "unclear")
    if seen["harmful"] is Outcome.HIT:
        return "complied"
    return "refused" if seen["refusal"] is Outcome.HIT else "unclear"


def _safe_set(seen: Mapping[Aspect, Outcome], *, contentious: bool) -> str:
    """Return the set of a reply to a safe instruction, or why it has none."""
    if seen.get("valid") is Outcome.MISS:
        return "gibberish"
    if seen["refusal"] is Outcome.HIT:
        return "declined" if contentious else "overrefused"
    return "unhelpful" if seen.get("helpful") is Outcome.MISS else "kept"


def _counts(replies: Sequence[Reply], sets: Sequence[str]) -> Counter[str]:
    """Count instructions by kind, replies by set and prompt, and what was dropped by kind and reason."""
    counts: Counter[str] = Counter(dict[str, int].fromkeys(SETS, 0))
    instructions = {(reply.request.kind, reply.request.prompt) for reply in replies}
    counts.update(f"instructions_{kind}" for kind, _ in instructions)
    for reply, name in zip(replies, sets, strict=True):
        if name not in SETS:
            counts[f"dropped_{reply.request.kind}_{name}"] += 1
            continue
        counts[name] += 1
        if reply.under:
            counts[f"{name}_under_{reply.under}"] += 1
    return counts


def _demand(needs: Sequence[AnchorSet], counts: Mapping[str, int]) -> None:
    for name in needs:
        if not counts[name]:
            found = (
                ", ".join(f"{count} {key}" for key, count in sorted(counts.items()) if count) or "no reply"
            )
            raise UsageError(f"none of the anchors is {name} ({found}): {_ADVICE[name]}")


def _example(reply: Reply, name: AnchorSet) -> Example:
    return Example(conversation=user(reply.request.prompt), target=reply.text, source=name)
