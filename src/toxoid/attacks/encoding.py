"""Encodings: the request in a code that safety training may not have seen, with a line on how to read it.

Source: Wei et al. 2023 (arXiv 2307.02483), "mismatched generalization".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any

from toxoid.attacks.base import AttackedPrompt, Pool, asked, choose
from toxoid.attacks.codes import CODES
from toxoid.attacks.wording import Wording, check_variants, load_wording
from toxoid.data.schemas import Request
from toxoid.errors import UsageError, did_you_mean


@dataclass(frozen=True, slots=True)
class Encoding:
    """Send the request in a code; the request that a judge sees stays in plain text.

    Args:
        code: One of :data:`~toxoid.attacks.codes.CODES`.
        variants: Instructions per request.
        pool: Which instructions to use.

    Raises:
        UsageError: An unknown code, no or too many variants.
    """

    code: str
    variants: int = 1
    pool: Pool = "evaluation"
    wording: Wording = field(default_factory=lambda: load_wording("encoding"), repr=False)

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise UsageError(
                f'"{self.code}" is no code.{did_you_mean(self.code, CODES)} Known: {", ".join(CODES)}.'
            )
        asks = self.wording.of("asks", self.pool)
        check_variants(self.name, self.variants, len(asks) * len(self.wording.of(self.code, self.pool)))

    @property
    def name(self) -> str:
        """The registered name."""
        return f"encoding_{self.code}"

    def identity(self) -> dict[str, Any]:
        """Return the instructions' digest, the pool and the number of variants."""
        return {
            "attack": self.name,
            "wording": self.wording.sha256,
            "pool": self.pool,
            "variants": self.variants,
        }

    def apply(self, request: Request, *, seed: int) -> list[AttackedPrompt]:
        """Return one conversation per instruction chosen."""
        encoded = CODES[self.code].encode(request.prompt)
        combinations = list(
            product(self.wording.of(self.code, self.pool), self.wording.of("asks", self.pool))
        )
        return [
            AttackedPrompt(
                request,
                asked(request, reading.fill(ask=ask.text, encoded=encoded)),
                self.name,
                f"{reading.id}/{ask.id}",
            )
            for reading, ask in choose(
                combinations, self.variants, seed=seed, request=request, salt=self.name
            )
        ]
