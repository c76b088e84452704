"""Remembered prefixes: what prompts have begun with alike is read once, system prompts and earlier turns above all.

Nobody has to say where a system prompt ends: what a prompt has in common with one of those before it is remembered, as
soon as there are two of them.
"""

from __future__ import annotations

from collections import OrderedDict, deque

import torch

from toxoid.engines.kv_cache import KnownPrefix
from toxoid.engines.prefix_tree import Tokens

_LEAST_GAIN = 32
"""Tokens that a prefix must spare to be worth its own forward pass and its memory."""
_RECENT = 64
"""Prompts that new ones are compared with."""


class Prefixes:
    """The prefixes of one model, those used least recently dropped first.

    Virtual tokens mean nothing without their embeddings, so what was read under one table is not used under another.

    Args:
        limit: Bytes of keys and values to be held.

    Attributes:
        size: Bytes held.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: OrderedDict[tuple[int, Tokens], tuple[KnownPrefix, torch.Tensor | None]] = OrderedDict()
        self._recent: deque[tuple[torch.Tensor | None, Tokens]] = deque(maxlen=_RECENT)
        self.size = 0

    def find(self, prompt: Tokens, table: torch.Tensor | None) -> KnownPrefix | None:
        """Return the longest prefix of ``prompt``, shorter than it, that is remembered."""
        found = [
            key
            for key in self._known
            if key[0] == id(table) and len(key[1]) < len(prompt) and prompt[: len(key[1])] == key[1]
        ]
        if not found:
            return None
        key = max(found, key=lambda entry: len(entry[1]))
        self._known.move_to_end(key)
        return self._known[key][0]

    def shared(self, prompt: Tokens, table: torch.Tensor | None, known: int) -> int:
        """Return how many first tokens of ``prompt`` are worth remembering, and take note of it.

        Args:
            prompt: A prompt that is about to be read.
            table: Embeddings of its virtual tokens.
            known: How many tokens of it need not be read.

        Returns:
            Always fewer than the prompt has; 0 if it has too little in common with those before it.
        """
        others = [tokens for other, tokens in self._recent if other is table]
        longest = max((_common(prompt, other) for other in others), default=0)
        self._recent.append((table, prompt))
        longest = min(longest, len(prompt) - 1)
        return longest if longest >= known + _LEAST_GAIN else 0

    def add(self, prefix: KnownPrefix, table: torch.Tensor | None) -> None:
        """Remember a prefix, unless it is larger than all there may be."""
        size = _size(prefix)
        key = id(table), prefix.tokens
        if size > self._limit or key in self._known:
            return
        self._known[key] = prefix, table
        self.size += size
        while self.size > self._limit:
            dropped, _ = self._known.popitem(last=False)[1]
            self.size -= _size(dropped)


def _size(prefix: KnownPrefix) -> int:
    return sum(states.nbytes for layer in prefix.layers for states in layer)


def _common(one: Tokens, other: Tokens) -> int:
    """Return the length of the longest common beginning, by bisection: slices are compared by C."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
