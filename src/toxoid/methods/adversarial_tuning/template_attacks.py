"""An adversary without a model: attack templates put around prompts whose labels are known, and the truth of these."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from toxoid.attacks.base import Attack
from toxoid.data.request_set import normalised
from toxoid.data.schemas import Request
from toxoid.methods.adversarial_tuning.prompts import LabelledPrompt
from toxoid.store.keys import content_key
from toxoid.training.examples import Example


class TemplateAdversary:
    """Puts a known prompt, problematic or not, into an attack's template: the wrapping must not decide.

    Args:
        known: Prompts with their labels; both sides are drawn equally often.
        attacks: Where to put them.
    """

    name = "templates"

    def __init__(self, known: Sequence[LabelledPrompt], attacks: Sequence[Attack]) -> None:
        self._sides = [[row for row in known if row.problematic is side] for side in (True, False)]
        self._sides = [side for side in self._sides if side]
        self._attacks = list(attacks)

    def identity(self) -> dict[str, Any]:
        """Return the attacks' identities and the hash of the prompts."""
        texts = [[row.text for row in side] for side in self._sides]
        attacks = [attack.identity() for attack in self._attacks]
        return {"adversary": self.name, "attacks": attacks, "known": content_key(texts)}

    def propose(self, count: int, successes: Sequence[str], *, seed: int) -> list[str]:
        """Return wrapped prompts; see :class:`toxoid.methods.adversarial_tuning.adversary.Adversary`."""
        rng = Random(seed)
        return [self._wrapped(rng.choice(self._sides[i % len(self._sides)]), rng) for i in range(count)]

    def examples(self, successes: Sequence[str], *, seed: int) -> list[Example]:
        """Return nothing: there is nothing that could learn."""
        return []

    def _wrapped(self, row: LabelledPrompt, rng: Random) -> str:
        attack = rng.choice(self._attacks)
        request = Request(f"known/{rng.getrandbits(32)}", row.text)
        (first, *_) = attack.apply(request, seed=rng.getrandbits(32))
        return "\n".join(turn.content for turn in first.conversation if turn.role == "user")


class KnownTruth:
    """The label of the known prompt that a text holds; of several, of the longest.

    Args:
        known: Prompts with their labels.
    """

    name = "known prompts"

    def __init__(self, known: Sequence[LabelledPrompt]) -> None:
        rows = sorted(known, key=lambda row: (-len(row.key), row.key))
        self._known = [(row.key, row.problematic) for row in rows if row.key]

    def identity(self) -> dict[str, Any]:
        """Return the hash of the prompts."""
        return {"truth": self.name, "known": content_key(self._known)}

    def label(self, texts: Sequence[str]) -> list[bool | None]:
        """See :class:`toxoid.methods.adversarial_tuning.truth.Truth`."""
        return [self._label(f" {normalised(text)} ") for text in texts]

    def _label(self, text: str) -> bool | None:
        return next((label for key, label in self._known if f" {key} " in text), None)
