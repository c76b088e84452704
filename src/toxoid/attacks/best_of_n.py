"""Best-of-N: the request is asked again and again in noisy spellings, until a reply lands.

Source: Hughes et al. 2024, "Best-of-N Jailbreaking" (arXiv 2412.03556): the augmentations for text and their strength.
The paper draws up to 10,000 samples; here N is the campaign's budget, and success over N is read off the campaigns
(:func:`toxoid.audit.campaigns.success_at`) without a fitted power law.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from toxoid.attacks.base import asked
from toxoid.attacks.course_wording import wording_for
from toxoid.attacks.interactive import Ask, Moves, WordingChoice
from toxoid.data.schemas import Request

STRENGTHS = {"english": 0.4, "lab": 0.001}
"""σ: the paper's, and what the lab's models can still read."""
WAVE = 16
"""Most samples asked at once: a wave is as large as all before it, so that at most half of the samples are wasted."""
_WORD = re.compile(r"[^\W\d_]{4,}")


@dataclass(frozen=True, slots=True)
class BestOfN:
    """Ask the request in ever new noisy spellings; it ends with the budget.

    Args:
        wording: Decides the strength of the noise, see :data:`STRENGTHS`.
        wave: Most samples asked at once.
    """

    wording: WordingChoice = "auto"
    wave: int = WAVE
    name: str = "best_of_n"
    needs_attacker: bool = field(default=False, init=False)
    reads_refusals: bool = field(default=False, init=False)

    def identity(self) -> dict[str, Any]:
        """Return the wording and the strengths; how many are asked at once changes no sample."""
        return {"attack": self.name, "wording": self.wording, "strengths": STRENGTHS}

    def play(self, request: Request, *, seed: int) -> Moves:
        """Ask sample after sample, without end."""
        strength = STRENGTHS[wording_for([request]) if self.wording == "auto" else self.wording]
        done = 0
        while True:
            wave = range(done, done + max(1, min(done, self.wave)))
            yield [self._sample(request, Random(f"{seed}/{request.id}/{index}"), strength) for index in wave]
            done = wave.stop

    def _sample(self, request: Request, rng: Random, strength: float) -> Ask:
        return Ask(asked(request, augmented(request.prompt, rng, strength)), self.name)


def augmented(text: str, rng: Random, strength: float) -> str:
    """Return ``text`` in a noisy spelling of the same length.

    Args:
        text: Any.
        rng: Where the noise comes from.
        strength: σ in [0, 1]. The inner letters of a word of four letters or more are shuffled with probability
            σ^(1/2), each letter changes its case with probability σ^(1/2), and each printable ASCII character becomes
            a neighbour in the code table with probability σ^3.
    """
    often, seldom = strength**0.5, strength**3
    text = _WORD.sub(lambda word: _scrambled(word[0], rng) if rng.random() < often else word[0], text)
    return _each(_each(text, _other_case, rng, often), lambda letter: _neighbour(letter, rng), rng, seldom)


def _scrambled(word: str, rng: Random) -> str:
    inner = list(word[1:-1])
    rng.shuffle(inner)
    return word[0] + "".join(inner) + word[-1]


def _each(text: str, change: Callable[[str], str], rng: Random, share: float) -> str:
    return "".join(change(letter) if rng.random() < share else letter for letter in text)


def _other_case(letter: str) -> str:
    other = letter.swapcase()
    return other if len(other) == 1 else letter  # "ß" has a capital of two letters


def _neighbour(letter: str, rng: Random) -> str:
    code = ord(letter) + rng.choice((-1, 1))
    return chr(code) if letter.isascii() and 32 <= code <= 126 else letter
