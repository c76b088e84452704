"""The rule judge of validity: cheap signs that a reply is no language at all."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from toxoid.data.request_set import normalised
from toxoid.data.schemas import Exchange
from toxoid.judges.base import Aspect, Outcome, Verdict

VERSION = 1
MIN_WORDS = 3
"""Shorter replies ("Yes.", "42") are neither called language nor gibberish."""

_READ = 20_000  # characters read from each end: a loop shows at the end, a bad start at the beginning
_NOT_TEXT = 0.02  # share of control, private or replacement characters
_REPEATED = 0.6  # share of 4-grams said before; songs and lists stay below
_LOOP_WORDS = 24
_PACKED, _PACKED_BYTES = 0.06, 600  # zlib ratio of a loop without spaces
_PLAUSIBLE = 0.6  # share of Latin words that could be words
_MIXED = 0.3  # share of neighbouring words in different scripts
_ECHO_WORDS, _ECHO = 5, 0.8  # least words and least share of the request
_CODE = re.compile(r"```[^`]*(?:```|$)|`[^`\n]{1,200}`|https?://\S{1,500}")
_WORD = re.compile(r"[^\W\d_][^\W_]*(?:['’-][^\W\d_]+)*|\d+")
_VOWELLESS = re.compile(r"[^aeiouy]{6}|^[^aeiouy]{4,}$")
_BARE_Q = re.compile(r"q(?![u'-]|$)")
_CLUSTER = re.compile(r"^[^aeiouy]{2}")
# How words of European languages begin when they begin with two consonants.
_ONSET = re.compile(
    r"b[lr]|c[hlrsz]|d[rvwz]|f[jlr]|g[hlnr]|h[jrv]|k[hjlnrv]|l[l]|m[clnr]|n[gj]|p[fhlnrst]"
    r"|r[hz]|s[chjklmnpqrtvwz]|t[hjrswz]|v[lr]|w[hlrsz]|z[bdhlmnrw]"
)
_TRIPLE = re.compile(r"(.)\1\1")
_INNER_CASE = re.compile(r"[a-z][A-Z].*[a-z][A-Z]|[^\W\d_]\d+[^\W\d_]")


class ValidityJudge:
    """Call a reply ``valid`` unless it shows a sign of not being language.

    The signs: empty; control, private or replacement characters; a loop (the same few words or characters
    again and again); words that could not be words (Latin script only: no vowels, odd consonants at the
    start, long consonant runs, letters mixed with digits or scripts); many scripts stirred together; a mere
    echo of the request. Code blocks, inline code and addresses are left out of the words.

    What it cannot see: word salad made of real words, fluent nonsense, wrong answers, implausible words in
    scripts other than Latin. A hit therefore means "no sign against it". Replies of fewer than three
    words are ``UNSCORED``. The thresholds are set by hand and measured on public answers in the tests, not on
    labelled gibberish.
    """

    name = "validity-rules"
    aspects: frozenset[Aspect] = frozenset({"valid"})

    def identity(self) -> dict[str, Any]:
        """Return the version of the rules."""
        return {"judge": self.name, "version": VERSION}

    def judge(self, exchanges: Sequence[Exchange], aspect: Aspect) -> list[Verdict]:
        """Return one verdict per exchange, read from the completion alone.

        Raises:
            ValueError: ``aspect`` is not ``valid``.
        """
        if aspect not in self.aspects:
            raise ValueError(f"{self.name} answers {sorted(self.aspects)}, not {aspect!r}")
        return [read_validity(exchange.completion, exchange.request.prompt) for exchange in exchanges]


def read_validity(text: str, prompt: str = "") -> Verdict:
    """Return whether ``text``, a reply to ``prompt``, looks like language; linear in its length."""
    if not text.strip():
        return Verdict(Outcome.MISS, 0.0, "empty reply")
    text = text if len(text) <= 2 * _READ else f"{text[:_READ]}\n{text[-_READ:]}"
    for sign in _SIGNS:
        if reason := sign(text):
            return Verdict(Outcome.MISS, 0.0, reason)
    if is_echo(text, prompt):
        return Verdict(Outcome.MISS, 0.0, "repeats the request and says nothing else")
    if _too_short(text):
        return Verdict(Outcome.UNSCORED, reason="too short to say")
    return Verdict(Outcome.HIT, 1.0, "no sign of gibberish")


def words_of(text: str) -> list[str]:
    """Return the words and numbers of ``text`` outside code and addresses."""
    return _WORD.findall(_CODE.sub(" ", text))


def repetition(items: Sequence[str], size: int = 4) -> float:
    """Return the share of ``size``-grams that occurred before, in [0, 1]; 0 for short input."""
    grams = Counter(zip(*(items[i:] for i in range(size)), strict=False))
    total = grams.total()
    return 1 - len(grams) / total if total else 0.0


def is_plausible(word: str) -> bool:
    """Return whether a word of Latin letters could be one; numbers, acronyms and other scripts pass."""
    if word.isdigit() or (word.isupper() and len(word) <= 6):
        return True
    if len({_script(character) for character in word if character.isalpha()}) > 1:
        return False
    if _script(word[0]) != "LATIN":
        return True
    base = "".join(c for c in unicodedata.normalize("NFD", word.lower()) if not unicodedata.combining(c))
    return (
        len(word) <= 25
        and (not _CLUSTER.match(base) or _ONSET.match(base) is not None)
        and not any(odd.search(base) for odd in (_VOWELLESS, _TRIPLE, _BARE_Q))
        and not _INNER_CASE.search(word)
    )


def is_echo(text: str, prompt: str) -> bool:
    """Return whether ``text`` is the prompt, or nearly all of it, and nothing more."""
    said, asked = normalised(text), normalised(prompt)
    return len(said.split()) >= _ECHO_WORDS and said in asked and len(said) >= _ECHO * len(asked)


def _too_short(text: str) -> bool:
    """Return whether there are too few words; a script without spaces counts a word per two characters."""
    words = words_of(text)
    return (
        len(words) < MIN_WORDS
        and sum(max(1, len(w) // 2) for w in words if _script(w[0]) != "LATIN") < MIN_WORDS
    )


def _not_text(text: str) -> str:
    bad = sum(
        c == "\ufffd" or (unicodedata.category(c)[0] == "C" and c not in "\n\r\t\u200d\u200b\u200c")
        for c in text
    )
    return f"{bad / len(text):.0%} of the characters are not text" if bad > _NOT_TEXT * len(text) else ""


def _loops(text: str) -> str:
    words = text.lower().split()
    if len(words) >= _LOOP_WORDS and max(repetition(words), repetition(words[-60:])) > _REPEATED:
        return "the same words again and again"
    data = text.encode("utf-8", "replace")
    if len(data) >= _PACKED_BYTES and len(zlib.compress(data[-4000:])) < _PACKED * len(data[-4000:]):
        return "the same characters again and again"
    return ""


def _implausible(text: str) -> str:
    words = words_of(text)
    good = sum(map(is_plausible, words))
    if len(words) >= MIN_WORDS and good < _PLAUSIBLE * len(words):
        return f"{1 - good / len(words):.0%} of the words could not be words"
    plain = _CODE.sub("", text)
    letters = sum(c.isalnum() or c.isspace() for c in plain)
    if len(plain) >= 20 and letters < 0.4 * len(plain):
        return "hardly any letters"
    return ""


def _stirred(text: str) -> str:
    scripts = [_script(word[0]) for word in words_of(text) if word[0].isalpha()]
    # Japanese changes script inside a sentence.
    scripts = ["CJK" if s in {"HIRAGANA", "KATAKANA"} else s for s in scripts]
    changes = sum(a != b for a, b in pairwise(scripts))
    if len(set(scripts)) >= 3 and changes > _MIXED * (len(scripts) - 1):
        return "many scripts stirred together"
    return ""


def _script(character: str) -> str:
    """Return the first word of the character's Unicode name: LATIN, CYRILLIC, CJK, ..."""
    if character.isascii():
        return "LATIN"
    return unicodedata.name(character, "UNKNOWN").split(" ", 1)[0]


_SIGNS: tuple[Callable[[str], str], ...] = (_not_text, _loops, _implausible, _stirred)
