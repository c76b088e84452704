"""Windows: how a text of any length becomes rows that a classifier can read."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

Piece = TypeVar("Piece")

_UNREADABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffd]")
_INVISIBLE = (
    "CZ"  # the first letters of Unicode's categories of controls, formats, private use, and separators
)


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a text that is read at once.

    Args:
        tokens: With the tokenizer's own marks, so many at most.
        overlap: So many tokens of a text stand in a window and in the next one.

    Raises:
        ValueError: A window without room for what is new in it.
    """

    tokens: int = 256
    overlap: int = 32

    def __post_init__(self) -> None:
        if self.tokens < 8 or not 0 <= self.overlap <= self.tokens // 4:
            raise ValueError(
                f"a window of {self.tokens} tokens with {self.overlap} in common with the next: give 8 tokens "
                "or more, and an overlap of at most a quarter"
            )


WINDOW = Window()


@dataclass(frozen=True, slots=True)
class Row:
    """One window of a text.

    Args:
        text: The number of the text.
        ids: Of the tokens.
        types: Of each token, whether it belongs to the first (0) or second (1) part; empty where that is not told.
    """

    text: int
    ids: list[int]
    types: list[int]

    def __len__(self) -> int:
        return len(self.ids)


def readable(text: str) -> str:
    """Return ``text`` with a blank in place of what cannot be decoded: control characters, lone surrogates.

    A text without one visible character becomes empty.
    """
    plain = _UNREADABLE.sub(" ", text)
    return plain if any(unicodedata.category(sign)[0] not in _INVISIBLE for sign in plain) else ""


def cuts(length: int, room: int, overlap: int) -> Iterator[slice]:
    """Yield windows of at most ``room`` over ``length`` tokens; the last one ends with the text and is full, too."""
    if length <= room:
        yield slice(0, length)
        return
    for start in range(0, length - overlap, room - overlap):
        first = min(start, length - room)
        yield slice(first, first + room)


def shortened(pieces: Sequence[Piece], room: int) -> list[Piece]:
    """Return at most ``room`` tokens: the first and the last of a request, where it says what it wants."""
    if len(pieces) <= room:
        return list(pieces)
    head = (room + 1) // 2
    return [*pieces[:head], *pieces[len(pieces) - (room - head) :]]
