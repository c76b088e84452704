"""Texts with human labels: what a judge is measured on and trained on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from toxoid.data import contrast
from toxoid.data.layouts import recognise, states_kind, to_requests
from toxoid.data.loading import load_requests
from toxoid.data.registry import DATASETS
from toxoid.data.request_set import prompt_key
from toxoid.data.rows import Row, read_table
from toxoid.data.schemas import Exchange, Request, user
from toxoid.errors import UsageError, did_you_mean

LABEL_COLUMNS = ("final_label", "human", "annotation", "label")
"""Where a label is sought; the first one that a file has counts."""
PROMPT_COLUMNS = ("prompt", "text")
REPLY_COLUMNS = ("completion", "response", "reply")
GROUP_COLUMNS = ("group", "category", "type")

WORDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "truth": {"no": ("0", "0.0", "false", "no", "miss"), "yes": ("1", "1.0", "true", "yes", "hit")},
    "harm": {
        "harmless": ("harmless", "safe", "benign", "unproblematic", "not toxic", "non toxic", "nontoxic"),
        "problematic": ("problematic", "unsafe", "harmful", "toxic"),
    },
    "refusal": {
        "compliance": ("compliance", "full compliance"),
        "partial refusal": ("partial refusal",),
        "refusal": ("refusal", "full refusal"),
    },
}
"""The vocabularies: label to its spellings, in lower case, with blanks for ``_`` and ``-`` and without ``1_``."""
NEGATIVE = frozenset({"no", "harmless", "compliance"})
"""The labels that are misses; all others are hits."""

_NUMBERED = re.compile(r"^\d+ (?=[a-z])")


@dataclass(frozen=True, slots=True)
class LabelledExchange:
    """A request, perhaps a reply, and what people say of it.

    Args:
        exchange: The completion is empty where only the request was labelled. A prompt has one request id, however
            many replies to it there are.
        label: A key of :data:`WORDS`' vocabularies.
        group: The row's category, ``"all"`` if it has none.
        source: The data set or file it comes from.
    """

    exchange: Exchange
    label: str
    group: str
    source: str

    @property
    def human(self) -> bool:
        """Whether the label is a hit: problematic, a refusal in whole or in part, or simply yes."""
        return self.label not in NEGATIVE


def read_labelled(*sources: str | Path) -> list[LabelledExchange]:
    """Return the labelled texts of files and of registered sets of requests, in order.

    A file has a column ``prompt`` or ``text`` (or a published layout), perhaps one of :data:`REPLY_COLUMNS` and of
    :data:`GROUP_COLUMNS`, and one of :data:`LABEL_COLUMNS`. Registered sets, and files without a label whose layout
    says what kind the requests are, are labelled by it: harmful ones are problematic, the others harmless.

    Raises:
        UsageError: A missing column, a word that is no known label, labels of both harm and refusal, or only hits or
            only misses.
    """
    found = [item for source in sources for item in _of_source(source)]
    _check(found, ", ".join(str(source) for source in sources))
    first: dict[str, str] = {}
    return [_same_id(item, first) for item in found]


def _of_source(source: str | Path) -> Iterator[LabelledExchange]:
    name = str(source)
    if name in DATASETS or name in contrast.NAMES or name.startswith("lab-"):
        yield from (_by_kind(request, name) for request in load_requests(name))
        return
    path = Path(source).expanduser()
    rows, stem = read_table(path).rows, path.name.split(".")[0] or path.name
    column = next((column for column in LABEL_COLUMNS if column in rows[0].values), None)
    if column is not None:
        yield from (_labelled(row, column, stem, number) for number, row in enumerate(rows))
    elif states_kind(rows):
        yield from (_by_kind(request, stem) for request in to_requests(rows, name=stem))
    else:
        rows[0].fail(
            f"no label among the columns {', '.join(rows[0].values)}; expected one of {', '.join(LABEL_COLUMNS)}."
        )


def _by_kind(request: Request, source: str) -> LabelledExchange:
    label = "problematic" if request.kind == "harmful" else "harmless"
    return LabelledExchange(Exchange(request, user(request.prompt), ""), label, request.category, source)


def _labelled(row: Row, column: str, source: str, number: int) -> LabelledExchange:
    label = _label(row, column)
    asked = next((name for name in PROMPT_COLUMNS if name in row.values), None)
    prompt = row.text(asked) if asked else recognise(row).read(row).prompt
    group = _first(row, GROUP_COLUMNS) or "all"
    request = Request(f"{source}/{number}", prompt, category=group)
    return LabelledExchange(
        Exchange(request, user(prompt), _first(row, REPLY_COLUMNS) or ""), label, group, source
    )


def _first(row: Row, columns: Sequence[str]) -> str | None:
    return next((row.optional(column) for column in columns if column in row.values), None)


def _label(row: Row, column: str) -> str:
    given = str(row.values.get(column, "")).strip()
    word = _NUMBERED.sub("", " ".join(re.split(r"[\s_-]+", given.lower())).strip())
    for labels in WORDS.values():
        for label, spellings in labels.items():
            if word in spellings:
                return label
    known = [word for labels in WORDS.values() for spellings in labels.values() for word in spellings]
    row.fail(
        f'column "{column}" holds {given[:40]!r}; expected one of {", ".join(known)}.{did_you_mean(word, known)}'
    )


def _check(found: Sequence[LabelledExchange], sources: str) -> None:
    """Refuse labels of more than one vocabulary, and hits or misses alone."""
    counts = Counter(item.label for item in found)
    told = ", ".join(f"{count} {label}" for label, count in counts.items())
    if all(counts.keys() & WORDS[name].keys() for name in ("harm", "refusal")):
        raise UsageError(
            f"{sources}: the labels are {told}; expected those of one question. Give labels of harm or of refusal."
        )
    if len({item.human for item in found}) < 2:
        raise UsageError(
            f"{sources}: the labels are {told}; expected hits and misses. Add texts with the other label."
        )


def _same_id(item: LabelledExchange, first: dict[str, str]) -> LabelledExchange:
    """Give a request the id that its prompt had when it was met first."""
    request = item.exchange.request
    known = first.setdefault(prompt_key(request), request.id)
    return replace(item, exchange=replace(item.exchange, request=replace(request, id=known)))
