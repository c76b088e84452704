"""Tries over token ids: what the replies of a group share is one node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Trie:
    """Token sequences with a common context, each shared prefix once, in depth-first order.

    Node j is an ancestor of node i, or i itself, exactly if ``j <= i < ends[j]``: the descendants of a node
    follow it without a gap. One row of a model's input can therefore hold a trie, with the depths as positions
    and the intervals as the attention mask.

    Args:
        tokens: Token of each node, shape ``(nodes,)``; the context comes first.
        parents: Node before each node, shape ``(nodes,)``; -1 for the first.
        depths: Tokens before each node on its path, shape ``(nodes,)``.
        ends: End of each node's interval of descendants, exclusive, shape ``(nodes,)``.
        paths: For each reply the nodes of its tokens, the context's not among them.
    """

    tokens: Ints
    parents: Ints
    depths: Ints
    ends: Ints
    paths: tuple[Ints, ...]

    def __len__(self) -> int:
        return len(self.tokens)


def build_trie(context: npt.ArrayLike, replies: Sequence[npt.ArrayLike]) -> Trie:
    """Return the trie of ``replies`` after ``context``.

    In lexicographic order the replies that share a prefix are neighbours, so that each one continues the one
    before it where they part, and numbering its new tokens in turn is a depth-first walk.

    Args:
        context: At least one token.
        replies: At least one, each with at least one token.
    """
    arrays = [np.asarray(reply, dtype=np.int64) for reply in replies]
    order = sorted(range(len(replies)), key=lambda index: arrays[index].tolist())
    trunk = len(np.asarray(context))
    size = trunk + sum(map(len, arrays))  # at most; cut below
    tokens, parents = np.empty(size, dtype=np.int64), np.arange(-1, size - 1)
    depths, ends = np.arange(size), np.empty(size, dtype=np.int64)
    tokens[:trunk] = context
    paths: dict[int, Ints] = {}
    count, last, path = trunk, np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    for index in order:
        reply = arrays[index]
        shared = _common_prefix(last, reply)
        fresh = np.arange(count, count + len(reply) - shared)
        tokens[fresh] = reply[shared:]
        depths[fresh] = np.arange(trunk + shared, trunk + len(reply))
        if len(fresh):
            parents[count] = path[shared - 1] if shared else trunk - 1
        ends[path[shared:]] = count  # what the last reply did not share with this one has no more descendants
        path, last, count = np.concatenate([path[:shared], fresh]), reply, count + len(fresh)
        paths[index] = path
    ends[path] = ends[:trunk] = count
    found = (paths[index] for index in range(len(arrays)))
    return Trie(tokens[:count], parents[:count], depths[:count], ends[:count], tuple(found))


def joined(tries: Sequence[Trie]) -> Trie:
    """Return several tries as one list of nodes, numbered on; their replies in turn."""
    offsets = np.cumsum([0, *map(len, tries)]).tolist()
    starts = list(zip(tries, offsets, strict=False))
    return Trie(
        np.concatenate([trie.tokens for trie in tries]),
        np.concatenate([np.where(trie.parents < 0, -1, trie.parents + start) for trie, start in starts]),
        np.concatenate([trie.depths for trie in tries]),
        np.concatenate([trie.ends + start for trie, start in starts]),
        tuple(path + start for trie, start in starts for path in trie.paths),
    )


def first_fit(sizes: Sequence[int], capacity: int) -> list[list[int]]:
    """Return which items share a bin: first-fit decreasing, ties in the given order.

    An item above ``capacity`` has a bin of its own.
    """
    bins: list[list[int]] = []
    room: list[int] = []
    for item in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        place = next((number for number, free in enumerate(room) if free >= sizes[item]), None)
        if place is None:
            bins.append([item])
            room.append(capacity - sizes[item])
        else:
            bins[place].append(item)
            room[place] -= sizes[item]
    return bins


def _common_prefix(a: Ints, b: Ints) -> int:
    shorter = min(len(a), len(b))
    differing = np.flatnonzero(a[:shorter] != b[:shorter])
    return int(differing[0]) if len(differing) else shorter
