"""Attacks of one question in combination: a frame around another, a reply begun to either.

Combinations land where each attack alone is declined (Wei et al. 2023, arXiv 2307.02483, section 4).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import Any

from toxoid.attacks.base import Attack, AttackedPrompt, asked, choose
from toxoid.attacks.course_wording import WordingName, load_course_wording
from toxoid.attacks.interactive import worded
from toxoid.attacks.lab import slots
from toxoid.attacks.prefill import opener_of
from toxoid.attacks.wording import load_wording
from toxoid.data.schemas import Request


@dataclass(frozen=True, slots=True)
class Framed:
    """Put the request into every evaluation template of one file, or of its counterpart in the lab's words.

    Args:
        name: The file: ``role_play``, ``persona``, or ``embedded``, where the request stands in material to work on.
        wording: Which words.
    """

    name: str
    wording: WordingName

    def identity(self) -> dict[str, Any]:
        """Return the file's name and digest."""
        file = self.name if self.wording == "english" else f"{self.name}_lab"
        return {"attack": self.name, "wording": load_wording(file).sha256}

    def apply(self, request: Request, *, seed: int) -> list[AttackedPrompt]:
        """Return one conversation per template, in an order drawn by (seed, request)."""
        templates = worded(self.name, self.wording, request).of("templates", "evaluation")
        words = slots(request, self.wording)
        return [
            AttackedPrompt(request, asked(request, template.fill(**words)), self.name, template.id)
            for template in choose(templates, len(templates), seed=seed, request=request, salt=self.name)
        ]


@dataclass(frozen=True, slots=True)
class Layered:
    """Apply an attack to what another one makes of the request, as if that were the request.

    Args:
        inner: Applied first; its last turn is what ``outer`` is applied to.
        outer: Applied to that.
    """

    inner: Attack
    outer: Attack

    @property
    def name(self) -> str:
        """Both names."""
        return f"{self.inner.name}+{self.outer.name}"

    def identity(self) -> dict[str, Any]:
        """Return the identities of both."""
        return {"attack": self.name, "layers": [self.inner.identity(), self.outer.identity()]}

    def apply(self, request: Request, *, seed: int) -> list[AttackedPrompt]:
        """Return every pair of their conversations, in an order drawn by (seed, request)."""
        pairs = [
            replace(prompt, request=request, attack=self.name, variant=f"{first.variant}+{prompt.variant}")
            for first in self.inner.apply(request, seed=seed)
            for prompt in self.outer.apply(replace(request, prompt=first.conversation[-1].content), seed=seed)
        ]
        return choose(pairs, len(pairs), seed=seed, request=request, salt=self.name)


@dataclass(frozen=True, slots=True)
class Begun:
    """Begin the reply to what an attack asks, with the request's target and then with each of the own openers.

    Args:
        attack: What is asked.
        wording: Of the openers.
    """

    attack: Attack
    wording: WordingName

    @property
    def name(self) -> str:
        """The attack's, and that the reply is begun."""
        return f"{self.attack.name}+prefill"

    def identity(self) -> dict[str, Any]:
        """Return the attack's identity and the openers."""
        openers = [[opener, text] for opener, text in self._openers()]
        return {"attack": self.name, "inner": self.attack.identity(), "openers": openers}

    def apply(self, request: Request, *, seed: int) -> list[AttackedPrompt]:
        """Return the attack's conversations with the first opener, then with the next one, and so on."""
        own = self._openers()
        openers = [("target", opener_of(request.target))] if request.target else []
        openers += choose(own, len(own), seed=seed, request=request, salt=self.name)
        return [
            replace(prompt, attack=self.name, variant=f"{prompt.variant}+{opener}", prefill=text)
            for opener, text in openers
            for prompt in self.attack.apply(request, seed=seed)
        ]

    def _openers(self) -> list[tuple[str, str]]:
        own = (
            load_course_wording("lab").openers("evaluation")
            if self.wording == "lab"
            else load_wording("prefill").of("openers", "evaluation")
        )
        return [(phrase.id, phrase.text) for phrase in own]


@dataclass(frozen=True, slots=True)
class Several:
    """Attacks of one kind as one: their conversations in turn.

    Args:
        name: Of all of them.
        attacks: In the order of their turns.
    """

    name: str
    attacks: tuple[Attack, ...]

    def identity(self) -> dict[str, Any]:
        """Return the identities of all."""
        return {"attack": self.name, "of": [attack.identity() for attack in self.attacks]}

    def apply(self, request: Request, *, seed: int) -> list[AttackedPrompt]:
        """Return the first conversation of each, then the second of each, and so on."""
        turns = zip_longest(*(attack.apply(request, seed=seed) for attack in self.attacks))
        return [prompt for prompt in chain.from_iterable(turns) if prompt is not None]
