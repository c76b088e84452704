"""The direct request: no attack, the control beside every other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from toxoid.attacks.base import AttackedPrompt, asked
from toxoid.data.schemas import Request


@dataclass(frozen=True, slots=True)
class Direct:
    """Send the request as it is."""

    name: str = "direct"

    def identity(self) -> dict[str, Any]:
        """Return the name: nothing else matters."""
        return {"attack": self.name}

    def apply(self, request: Request, *, seed: int) -> list[AttackedPrompt]:
        """Return the request itself; ``seed`` has no influence."""
        return [AttackedPrompt(request, asked(request), self.name, "direct")]
