"""Reads coded texts back, by means that share nothing with the encoders."""

from __future__ import annotations

import ast
import base64
import csv
import html
import io
import json
import re
from collections.abc import Callable

_MORSE = """
.-=a -...=b -.-.=c -..=d .=e ..-.=f --.=g ....=h ..=i .---=j -.-=k .-..=l --=m -.=n ---=o .--.=p --.-=q .-.=r ...=s
-=t ..-=u ...-=v .--=w -..-=x -.--=y --..=z -----=0 .----=1 ..---=2 ...--=3 ....-=4 .....=5 -....=6 --...=7 ---..=8
----.=9 .-.-.-=. --..--=, ..--..=? -.-.--=! .----.=' -..-.=/ -.--.=( -.--.-=) .-...=& ---...=: -.-.-.=; -...-==
.-.-.=+ -....-=- ..--.-=_ .-..-.=" .--.-.=@
"""
MORSE = dict(pair.split("=", 1) for pair in _MORSE.split())
_NATO = """
alfa bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november oscar papa quebec romeo sierra
tango uniform victor whiskey xray yankee zulu
"""
NATO = [*_NATO.split(), *_NATO.title().split()]
LOOKALIKES = str.maketrans(
    "\u0430\u0441\u0435\u0456\u0458\u043e\u0440\u0455\u0445\u0443"
    "\u0410\u0412\u0421\u0415\u041d\u041a\u041c\u041e\u0420\u0422\u0425"
    "aceijopsxyABCEHKMOPTX",
    "aceijopsxyABCEHKMOPTX"
    "\u0430\u0441\u0435\u0456\u0458\u043e\u0440\u0455\u0445\u0443"
    "\u0410\u0412\u0421\u0415\u041d\u041a\u041c\u041e\u0420\u0422\u0425",
)


def _rot13(text: str) -> str:
    def back(letter: re.Match[str]) -> str:
        first = ord("a") if letter[0].islower() else ord("A")
        return chr(first + (ord(letter[0]) - first + 13) % 26)

    return re.sub("[A-Za-z]", back, text)


def _morse(text: str) -> str:
    return "".join(" " if token == "/" else MORSE.get(token, token) for token in text.split(" "))


def _nato(text: str) -> str:
    letters = {word: word[0] for word in NATO} | {"/": " ", "slash": "/"}
    return "".join(letters.get(token, token) for token in text.split(" "))


def _per_token(text: str, back: Callable[[str], str]) -> str:
    return "".join(part if part.isspace() else back(part) for part in re.split(r"(\s+)", text))


def _pig_token(token: str) -> str:
    parts = re.fullmatch(r"(.*)-([A-Za-z]*)ay(\W*)", token)
    return parts[2] + parts[1] + parts[3] if parts else token


def _csv(text: str) -> str:
    return " ".join(row[1] for row in csv.reader(io.StringIO(text, newline="")) if row[0] != "row")


def _markdown_table(text: str) -> str:
    cells = (re.fullmatch(r"\| \d+ \| (.*) \|", line, re.S) for line in text.split("\n")[2:])
    return " ".join(html.unescape(cell[1]) for cell in cells if cell)


DECODERS: dict[str, Callable[[str], str]] = {
    "base64": lambda text: base64.b64decode(text, validate=True).decode(),
    "rot13": _rot13,
    "leetspeak": lambda text: text.translate(str.maketrans("431057aeiost", "aeiost431057")),
    "homoglyphs": lambda text: text.translate(LOOKALIKES),
    "zero_width": lambda text: text[::2],
    "spaced": lambda text: text[::2],
    "morse": _morse,
    "nato": _nato,
    "pig_latin": lambda text: _per_token(text, _pig_token),
    "reversed_words": lambda text: _per_token(text, lambda token: token[::-1]),
    "code": ast.literal_eval,
    "csv": _csv,
    "json": lambda text: json.loads(text)["text"],
    "markdown_table": _markdown_table,
}
