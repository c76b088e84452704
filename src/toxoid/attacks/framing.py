"""Framing attacks: a story around the request, in which to comply seems part of the role."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from toxoid.attacks.base import AttackedPrompt, Pool, asked, choose
from toxoid.attacks.wording import Wording, check_variants, load_wording
from toxoid.data.schemas import Request


@dataclass(frozen=True, slots=True)
class Framing:
    """Put the request into a template of one family.

    Args:
        name: ``persona``: the model is told to be somebody; ``role_play``: the request is part of a scene.
        variants: Templates per request.
        pool: Which templates to use.
    """

    name: Literal["persona", "role_play"]
    variants: int = 1
    pool: Pool = "evaluation"
    wording: Wording = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "wording", load_wording(self.name))
        check_variants(self.name, self.variants, len(self.wording.of("templates", self.pool)))

    def identity(self) -> dict[str, Any]:
        """Return the templates' digest, the pool and the number of variants."""
        return {
            "attack": self.name,
            "wording": self.wording.sha256,
            "pool": self.pool,
            "variants": self.variants,
        }

    def apply(self, request: Request, *, seed: int) -> list[AttackedPrompt]:
        """Return one conversation per template chosen."""
        templates = self.wording.of("templates", self.pool)
        return [
            AttackedPrompt(
                request, asked(request, template.fill(request=request.prompt)), self.name, template.id
            )
            for template in choose(templates, self.variants, seed=seed, request=request, salt=self.name)
        ]
