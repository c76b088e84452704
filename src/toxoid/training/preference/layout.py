"""Layouts: which nodes of a group go through the model, which of them predict, and what is made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from toxoid.training.preference.tokens import TokenisedGroup
from toxoid.training.preference.trie import Trie, build_trie, joined

Ints: TypeAlias = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Layout:
    """A group, ready to be put into batches; every array is made once and only numbered on from there.

    Arrays are short, because all groups of a training are held as layouts.

    Args:
        tokens: Of the nodes of all its tries in turn, as in :class:`toxoid.training.preference.trie.Trie`.
        depths: Likewise.
        ends: Likewise, counted through all its tries.
        distinct: Tokens of the group with what its replies share counted once, however it is laid out.
        sizes: Number of nodes of each of its tries.
        heads: Nodes whose next token's distribution is needed, ascending.
        picked: For each token with a say in the loss, the index into ``heads`` of the node before it.
        targets: That token.
        path_tokens: For each such token of each reply, its index into ``targets``.
        path_replies: The reply that it belongs to.
        lengths: Number of tokens of each reply, all of them.
        chosen: Of each pair, shape ``(pairs,)``.
        rejected: Likewise.
        weights: Likewise.
        imitation: How many replies imitate each token, shape of ``targets``.
    """

    tokens: Ints
    depths: Ints
    ends: Ints
    distinct: int
    sizes: tuple[int, ...]
    heads: Ints
    picked: Ints
    targets: Ints
    path_tokens: Ints
    path_replies: Ints
    lengths: Ints
    chosen: Ints
    rejected: Ints
    weights: npt.NDArray[np.float32]
    imitation: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.tokens)


def lay_out(group: TokenisedGroup, *, shared: bool, whole: bool = False) -> Layout:
    """Return the layout of a group.

    A token has a say if its log-probability does not cancel from every loss: in a difference of sums, what the
    chosen and the rejected reply of all pairs share does.

    Args:
        group: The group.
        shared: One trie for all replies, or a trie (a mere chain) for each.
        whole: Every token of every reply has a say, as in means over replies of unlike lengths.
    """
    trie = build_trie(group.context, group.replies)
    tries = [trie] if shared else [build_trie(group.context, [reply]) for reply in group.replies]
    nodes = joined(tries)
    said = _with_a_say(group, trie, whole=whole)
    chosen_nodes = [path[mask] for path, mask in zip(nodes.paths, said, strict=True)]
    targets, path_tokens = np.unique(np.concatenate(chosen_nodes), return_inverse=True)
    heads, picked = np.unique(nodes.parents[targets], return_inverse=True)
    imitated = [nodes.paths[index][start:] for index, start in group.imitated]
    counts = np.bincount(np.concatenate(imitated), minlength=len(nodes)) if imitated else np.zeros(len(nodes))
    pairs = np.asarray([pair[:2] for pair in group.pairs], dtype=np.int32).reshape(-1, 2)
    return Layout(
        tokens=_short(nodes.tokens),
        depths=_short(nodes.depths),
        ends=_short(nodes.ends),
        distinct=len(trie),
        sizes=tuple(map(len, tries)),
        heads=_short(heads),
        picked=_short(picked),
        targets=_short(nodes.tokens[targets]),
        path_tokens=_short(path_tokens),
        path_replies=_short(np.repeat(np.arange(len(said)), [len(path) for path in chosen_nodes])),
        lengths=np.asarray([len(reply) for reply in group.replies], dtype=np.int32),
        chosen=pairs[:, 0],
        rejected=pairs[:, 1],
        weights=np.asarray([weight for _, _, weight in group.pairs], dtype=np.float32),
        imitation=counts[targets].astype(np.float32),
    )


def _short(values: npt.NDArray[np.int64]) -> Ints:
    return values.astype(np.int32)


def _with_a_say(group: TokenisedGroup, trie: Trie, *, whole: bool) -> list[npt.NDArray[np.bool_]]:
    """Return for each reply which of its tokens have a say."""
    if whole:
        return [np.ones(len(path), dtype=np.bool_) for path in trie.paths]
    member = np.zeros((len(group.replies), len(trie)), dtype=np.bool_)
    for index, path in enumerate(trie.paths):
        member[index, path] = True
    said = np.zeros(len(trie), dtype=np.bool_)
    for a, b, _ in group.pairs:
        said |= member[a] ^ member[b]
    for index, start in group.imitated:
        said[trie.paths[index][start:]] = True
    return [said[path] for path in trie.paths]
