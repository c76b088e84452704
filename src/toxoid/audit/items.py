"""Frozen audit items: exactly what is sent to every system under test."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from toxoid.attacks.base import Attack
from toxoid.data.schemas import Conversation, Request, as_dicts
from toxoid.engines.base import GenerationRequest, Sampling
from toxoid.store.keys import content_key


@dataclass(frozen=True, slots=True)
class Item:
    """One conversation of one task; several items of one request form a cluster."""

    task: str
    request: Request
    conversation: Conversation
    prefill: str = ""
    attack: str = "direct"

    @property
    def key(self) -> str:
        """A content hash: equal for equal items in any run."""
        return content_key(self.task, self.request.id, as_dicts(self.conversation), self.prefill)

    def generation(self, sampling: Sampling, samples: int, seed: int) -> GenerationRequest:
        """Return what an engine is asked; the seed is the item's own, the same for every system."""
        digest = hashlib.sha256(f"{seed}/{self.key}".encode()).digest()
        return GenerationRequest(
            conversation=self.conversation,
            prefill=self.prefill,
            sampling=sampling,
            n=samples,
            seed=int.from_bytes(digest[:6], "big"),
        )


def build_items(task: str, requests: Sequence[Request], attack: Attack, *, seed: int) -> list[Item]:
    """Return the items of a task: every request under every variant that the attack yields."""
    return [
        Item(task, attacked.request, attacked.conversation, attacked.prefill, attacked.variant)
        for request in requests
        for attacked in attack.apply(request, seed=seed)
    ]


def items_fingerprint(items: Sequence[Item]) -> dict[str, Any]:
    """Return, by task, how many items there are and the hash of them all."""
    tasks: dict[str, list[str]] = {}
    for item in items:
        tasks.setdefault(item.task, []).append(item.key)
    return {task: {"items": len(keys), "sha256": content_key(keys)} for task, keys in tasks.items()}
