"""Frozen audit items: exactly what is sent to every system under test."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toxoid.attacks.base import Attack, Cut
from toxoid.data.schemas import Conversation, Request, as_dicts
from toxoid.engines.base import GenerationRequest, Sampling
from toxoid.store.keys import content_key

WHOLE = "whole"
"""The stratum of texts that are shorter than the length asked for."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """How many replies every item of a task gets, and how they are drawn."""

    sampling: Sampling
    samples: int


@dataclass(frozen=True, slots=True)
class Item:
    """One conversation of one task; several items of one request form a cluster.

    Args:
        task: Of the audit.
        request: What a judge sees.
        conversation: What is sent.
        prefill: The beginning of the reply.
        attack: The attack's name, as recipes name it.
        variant: Which of its wordings.
        cut: Where the prefill is the beginning of a whole reply, how much of it.
        campaign: Of interactive attacks, the figures of the campaign that asked this in the end (JSON values; see
            :meth:`toxoid.audit.campaigns.Campaign.figures`).
    """

    task: str
    request: Request
    conversation: Conversation
    prefill: str = ""
    attack: str = "direct"
    variant: str = ""
    cut: Cut | None = None
    campaign: Mapping[str, Any] | None = None

    @property
    def key(self) -> str:
        """A content hash: equal for equal items in any run.

        A text that is too short for two lengths is one prefill and two items, each with replies of its own.
        """
        if self.campaign is not None:  # what was asked in the end depends on the system
            return content_key(self.task, self.request.id, self.attack)
        length = [] if self.cut is None else [self.cut.words]
        return content_key(self.task, self.request.id, as_dicts(self.conversation), self.prefill, *length)

    @property
    def stratum(self) -> str:
        """The part of the task by which its rates are broken down: a length, or the category of the request."""
        if self.cut is None:
            return self.request.category
        return WHOLE if self.cut.whole else f"k={self.cut.words}"

    def generation(self, drawing: Drawing, seed: int) -> GenerationRequest:
        """Return what an engine is asked; the seed is the item's own, the same for every system."""
        digest = hashlib.sha256(f"{seed}/{self.key}".encode()).digest()
        return GenerationRequest(
            conversation=self.conversation,
            prefill=self.prefill,
            sampling=drawing.sampling,
            n=drawing.samples,
            seed=int.from_bytes(digest[:6], "big"),
        )


def build_items(task: str, requests: Sequence[Request], attack: Attack, *, seed: int) -> list[Item]:
    """Return the items of a task: every request under every variant that the attack yields."""
    return [
        Item(task, one.request, one.conversation, one.prefill, one.attack, one.variant, one.cut)
        for request in requests
        for one in attack.apply(request, seed=seed)
    ]


def items_fingerprint(items: Sequence[Item]) -> dict[str, Any]:
    """Return, by task, how many items there are and the hash of them all."""
    tasks: dict[str, list[str]] = {}
    for item in items:
        tasks.setdefault(item.task, []).append(item.key)
    return {task: {"items": len(keys), "sha256": content_key(keys)} for task, keys in tasks.items()}
