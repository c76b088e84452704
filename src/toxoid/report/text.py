"""Makes hostile text visible: what a model wrote is shown, never obeyed, by a browser or a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

MAX_MARKS = 3
"""Combining marks that may sit on one letter; more pile up over the lines around them."""

_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and marks that draw nothing, so that text can be hidden in them."""

_PLAIN = frozenset("\n\t")


class Piece(NamedTuple):
    """A stretch of text; ``escaped`` tells a marker that stands for a character from its double."""

    text: str
    escaped: bool


def visible(text: object, *, limit: int | None = None) -> str:
    r"""Return ``text`` with what hides, reorders or controls written as markers like ``\u202e``.

    Line ends and tabs stay. Control characters and ANSI escapes, bidi overrides, zero-width and other format
    characters, lone surrogates, private and unassigned characters, invisible letters and piled-up combining
    marks are written out.

    Args:
        text: Anything; what is no string is shown as ``str`` gives it.
        limit: Longest stretch of the original to show; what follows is cut, with a note that says how much.
    """
    return "".join(piece.text for piece in pieces(text, limit=limit))


def one_line(text: object, *, limit: int = 120) -> str:
    r"""Return :func:`visible` text on one line: line ends and tabs as spaces, runs of spaces as one."""
    whole = str(text)
    flat = " ".join(visible(whole[: limit * 4]).split())
    return flat if len(flat) <= limit and len(whole) <= limit * 4 else f"{flat[:limit].rstrip()} …"


def pieces(text: object, *, limit: int | None = None) -> list[Piece]:
    """Return the text as stretches that are plain or escaped; see :func:`visible`."""
    whole = text if isinstance(text, str) else str(text)
    shown = whole if limit is None else whole[:limit]
    found = [
        Piece("".join(piece.text for piece in run), escaped)
        for escaped, run in groupby(_characters(shown.replace("\r\n", "\n")), key=lambda piece: piece.escaped)
    ]
    left = len(whole) - len(shown)
    return [*found, Piece(f" … [{left:,} more characters not shown]", True)] if left else found


def past_marks(text: str, place: int) -> int:
    """Return the first place from ``place`` on that parts no letter from the marks that sit on it."""
    while place < len(text) and unicodedata.category(text[place]).startswith("M"):
        place += 1
    return min(place, len(text))


def _characters(text: Iterable[str]) -> Iterator[Piece]:
    marks = 0
    for character in text:
        category = "" if character.isascii() else unicodedata.category(character)
        marks = marks + 1 if category.startswith("M") else 0
        hidden = marks > MAX_MARKS or _hides(character, category)
        yield Piece(_escape(character), True) if hidden else Piece(character, False)


def _hides(character: str, category: str) -> bool:
    if character.isascii():
        return not character.isprintable() and character not in _PLAIN
    return category in _HIDDEN_CATEGORIES or character in _BLANK or _is_variation_selector(character)


def _is_variation_selector(character: str) -> bool:
    """Find the selectors that text can be hidden in; the one that asks for a coloured emoji is harmless."""
    return "\ufe00" <= character <= "\ufe0e" or "\U000e0100" <= character <= "\U000e01ef"


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
