"""Codes: one text written in another way, from which it can be read back exactly."""

from __future__ import annotations

import base64
import codecs
import csv
import html
import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """One way to write a text.

    Args:
        summary: One line for ``toxoid ls attacks``.
        encode: Text to coded text. Different texts give different ones; Morse alone knows no case.
    """

    summary: str
    encode: Callable[[str], str]


_TOKEN = re.compile(r"\S+")
_PIG_LATIN = re.compile(r"(?P<moved>(?:(?![AEIOUaeiou])[A-Za-z])*)(?P<rest>(?:\S*\w)?)(?P<end>[^\w\s]*)")
"""A token: its first consonants, what follows up to its last letter or figure, and the marks after that."""

_LOOKALIKES = dict(
    zip(
        "aceijopsxyABCEHKMOPTX",
        "\u0430\u0441\u0435\u0456\u0458\u043e\u0440\u0455\u0445\u0443"
        "\u0410\u0412\u0421\u0415\u041d\u041a\u041c\u041e\u0420\u0422\u0425",
        strict=True,
    )
)
"""Latin letters to the Cyrillic ones that look like them."""

_DOTS_AND_DASHES = (
    ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- -..- -.-- --.. "
    "----- .---- ..--- ...-- ....- ..... -.... --... ---.. ----. .-.-.- --..-- ..--.. -.-.-- .----. -..-. -.--. "
    "-.--.- .-... ---... -.-.-. -...- .-.-. -....- ..--.- .-..-. .--.-. /"
)
_MORSE = dict(
    zip("abcdefghijklmnopqrstuvwxyz0123456789.,?!'/()&:;=+-_\"@ ", _DOTS_AND_DASHES.split(), strict=True)
)
"""International Morse code (ITU-R M.1677-1, with the usual ``! & ; _``); a blank is a slash."""

_SPELLING_WORDS = (
    "alfa bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november oscar papa quebec romeo "
    "sierra tango uniform victor whiskey xray yankee zulu slash /"
)
_NATO = dict(zip("abcdefghijklmnopqrstuvwxyz/ ", _SPELLING_WORDS.split(), strict=True))
"""The letters' spelling words; a blank is a slash. A capital letter takes a capitalised word."""


def _swap(pairs: Mapping[str, str]) -> Callable[[str], str]:
    """Return the code in which the two characters of every pair change places."""
    table = str.maketrans({**pairs, **{right: left for left, right in pairs.items()}})
    return lambda text: text.translate(table)


def _spell(words: Mapping[str, str]) -> Callable[[str], str]:
    """Return the code that writes each character as a word of its own; one that has no word stays as it is."""
    return lambda text: " ".join(words.get(character, character) for character in text)


def _pig_latin(token: re.Match[str]) -> str:
    moved, rest, end = token.group("moved", "rest", "end")
    return f"{rest}-{moved}ay{end}" if moved or rest else end


def _csv(text: str) -> str:
    rows = io.StringIO()
    writer = csv.writer(rows, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerows([("row", "word"), *enumerate(text.split(" "), start=1)])
    return rows.getvalue().rstrip("\n")


def _json(text: str) -> str:
    return json.dumps({"text": text, "answer": None}, ensure_ascii=False, indent=2)


def _markdown_table(text: str) -> str:
    rows = (f"| {number} | {_cell(word)} |" for number, word in enumerate(text.split(" "), start=1))
    return "\n".join(["| row | word |", "|---|---|", *rows])


def _cell(word: str) -> str:
    """Return a word without the characters that would end a cell; HTML's references stand for them."""
    escaped = html.escape(word, quote=False)
    return re.sub(r"[|\n\r]", lambda found: f"&#{ord(found[0])};", escaped)


CODES: dict[str, Code] = {
    "base64": Code("Base64 of the UTF-8 text", lambda text: base64.b64encode(text.encode()).decode()),
    "rot13": Code("letters moved by thirteen places", lambda text: codecs.encode(text, "rot13")),
    "leetspeak": Code("figures for letters", _swap(dict(zip("aeiost", "431057", strict=True)))),
    "homoglyphs": Code("Cyrillic letters that look like the Latin ones", _swap(_LOOKALIKES)),
    "zero_width": Code("zero-width spaces between all characters", "\u200b".join),
    "spaced": Code("blanks between all characters", " ".join),
    "morse": Code("Morse code", _spell(_MORSE | {key.upper(): word for key, word in _MORSE.items()})),
    "nato": Code(
        "spelt in the NATO alphabet",
        _spell({key.upper(): word.capitalize() for key, word in _NATO.items()} | _NATO),
    ),
    "pig_latin": Code("Pig Latin", lambda text: _PIG_LATIN.sub(_pig_latin, text)),
    "reversed_words": Code(
        "every word backwards", lambda text: _TOKEN.sub(lambda token: token[0][::-1], text)
    ),
    "code": Code("a text in Python code", repr),
    "csv": Code("one word per row of CSV", _csv),
    "json": Code("a field of JSON", _json),
    "markdown_table": Code("one word per row of a Markdown table", _markdown_table),
}
"""Code by name."""
