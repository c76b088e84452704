"""Hijacking: an instruction injected into a benign request tries to replace its task by a harmless marker."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Literal, TypeAlias

from toxoid.attacks.base import AttackedPrompt, Pool, asked, choose
from toxoid.attacks.wording import Phrase, Wording, check_variants, load_wording
from toxoid.data.schemas import Request
from toxoid.errors import UsageError

HijackName: TypeAlias = Literal["goal_hijacking", "suffix_injection"]


@dataclass(frozen=True, slots=True)
class Hijacking:
    """Inject an instruction that asks for a given harmless sentence in place of the user's task.

    ``goal_hijacking`` puts it before or after the request, in the user's own voice; ``suffix_injection``
    hides it in a quoted document, which is not the user's voice at all. The request that a judge sees carries
    the sentence (``payload``) and the whole instruction (``injection``) in its metadata.

    Args:
        name: Which of the two.
        variants: Injections per request.
        pool: Which instructions, carriers and payloads to use.
    """

    name: HijackName
    variants: int = 1
    pool: Pool = "evaluation"
    wording: Wording = field(init=False, repr=False)
    payloads: Wording = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "wording", load_wording(self.name))
        object.__setattr__(self, "payloads", load_wording("payloads"))
        check_variants(self.name, self.variants, len(self._combinations()))

    def identity(self) -> dict[str, Any]:
        """Return the digests of wordings and payloads, the pool and the number of variants."""
        return {
            "attack": self.name,
            "wording": self.wording.sha256,
            "payloads": self.payloads.sha256,
            "pool": self.pool,
            "variants": self.variants,
        }

    def apply(self, request: Request, *, seed: int) -> list[AttackedPrompt]:
        """Return one conversation per injection.

        Raises:
            UsageError: The request is harmful: following the injection would then be no failure.
        """
        if request.kind == "harmful":
            raise UsageError(
                f'Attack "{self.name}" needs benign requests; {request.id} is harmful. Give a benign set.'
            )
        chosen = choose(self._combinations(), self.variants, seed=seed, request=request, salt=self.name)
        return [self._inject(request, *combination) for combination in chosen]

    def _combinations(self) -> list[tuple[Phrase, Phrase, Phrase]]:
        """Return every (carrier, instruction, payload) of the pool."""
        sections = (self.wording.of("carriers", self.pool), self.wording.of("instructions", self.pool))
        return list(product(*sections, self.payloads.of("payloads", self.pool)))

    def _inject(
        self, request: Request, carrier: Phrase, instruction: Phrase, payload: Phrase
    ) -> AttackedPrompt:
        injection = instruction.fill(payload=payload.text)
        seen = {**request.metadata, "payload": payload.text, "injection": injection, "topic": payload.id}
        text = carrier.fill(request=request.prompt, injection=injection)
        variant = f"{carrier.id}/{instruction.id}/{payload.id}"
        return AttackedPrompt(replace(request, metadata=seen), asked(request, text), self.name, variant)
