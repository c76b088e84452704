"""Two contexts at once: every node is read under the positive and under the negative prompt.

Both are rows of one batch, side by side, so that a step goes through the weights once (at small batches that is
what a step costs). The negative row is needed only where the contrast has a say. Where it has none, because a gate
is closed or because the plausibility mask leaves a single token, it stays behind, and catches up with all it has
missed in one pass when it is needed again. If that is foreseen and not much, the positive row reads it again along with
it rather than its last token in another pass. What is drawn is the same, up to the last bits of the logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import torch

from toxoid.engines.contrast import Contrast, contrasted, implausible, total_variation
from toxoid.engines.decoding import Gate, Node, OneContext, Reading
from toxoid.engines.forward import Rows
from toxoid.engines.prefix_tree import Tokens

_LONGEST_INTERVAL = 16
_MOST_AGAIN = 32
"""Tokens of the positive context that are read again rather than in a pass of their own: a pass costs about as much."""


class TwoContexts(OneContext):
    """The distributions of nodes in two contexts: rows ``2 i`` and ``2 i + 1`` are node ``i``'s.

    Attributes:
        nodes: The nodes, in the order of their rows; the gates of each are kept up to date.
    """

    def __init__(self, model: Any, nodes: Sequence[Node], reading: Reading, most: int) -> None:
        prompts = [tokens for node in nodes for tokens in (node.tokens, (*(node.against or ()), *node.ids))]
        self._contrast = reading.contrast
        self.rows = Rows(model, prompts, most=2 * most, table=reading.table, known=reading.known)
        self.nodes = [nodes[index // 2] for index in self.rows.order if index % 2 == 0]
        place = {index: row for row, index in enumerate(self.rows.order)}
        first = [index for index in self.rows.order if index % 2 == 0]
        pairs = [place[index + side] for index in first for side in (0, 1)]
        self.rows.place(pairs)
        self._behind = [0] * len(nodes)
        logits = self.rows.logits[pairs]
        self._combine(logits[0::2], logits[1::2])

    def go_on(self, sources: Sequence[int], nodes: Sequence[Node]) -> None:
        """See :class:`toxoid.engines.decoding.OneContext`."""
        self.nodes = list(nodes)
        self.rows.place([2 * source + side for source in sources for side in (0, 1)])
        self._behind = [self._behind[source] + 1 for source in sources]
        if self._together():
            missed = max(self._behind)
            both = [_last(tokens, node, missed) for node in nodes for tokens in (node.prompt, node.against)]
            self._behind = [0] * len(nodes)
            logits = self.rows.append(both, slice(0, len(both)))
            self._combine(logits[0::2], logits[1::2])
        else:
            positive = self.rows.append([node.ids[-1:] for node in nodes], slice(0, 2 * len(nodes), 2))
            self._combine(positive, None)

    def join(self, other: Self) -> None:
        """See :class:`toxoid.engines.decoding.OneContext`."""
        super().join(other)
        self._behind += other._behind

    def _together(self) -> bool:
        """Whether both contexts go on in one pass: most nodes will probably need both, and little is read again."""
        if not self.rows.lazy:
            return True
        expected = sum(self._open(node) and not node.gate.decided for node in self.nodes)
        again = len(self.nodes) * (max(self._behind) - 1)
        return again <= _MOST_AGAIN and 2 * expected >= len(self.nodes)

    def _open(self, node: Node) -> bool:
        """Whether the gates let the next token of a node be contrasted."""
        first = self._contrast.first
        return (first is None or len(node.ids) < first) and node.gate.wait == 0

    def _combine(self, positive: torch.Tensor, negative: torch.Tensor | None) -> None:
        """Leave the nodes' distributions in :attr:`logits`, and note in their gates how they came about."""
        removed = implausible(positive, self._contrast.plausibility)
        free = [True] * len(self.nodes) if removed is None else ((~removed).sum(-1) > 1).tolist()
        looked = [i for i, node in enumerate(self.nodes) if free[i] and self._open(node)]
        used = looked
        logits = positive
        if looked:
            below = self._caught_up(looked) if negative is None else negative[looked]
            above = positive[looked]
            used, above, below = self._diverging(looked, above, below)
            if len(used) == len(self.nodes):
                logits = contrasted(above, below, self._contrast)
            elif used:
                logits = positive.float().clone()
                logits[used] = contrasted(above, below, self._contrast)
        for i, node in enumerate(self.nodes):
            node.gate = passed(node.gate, self._contrast, free=free[i], looked=i in looked, used=i in used)
        self.logits = logits if removed is None else logits.masked_fill(removed, -torch.inf)

    def _diverging(
        self, looked: list[int], positive: torch.Tensor, negative: torch.Tensor
    ) -> tuple[list[int], torch.Tensor, torch.Tensor]:
        """Return those of the nodes ``looked`` at whose contexts differ enough, with their logits."""
        if self._contrast.divergence is None:
            return looked, positive, negative
        far = total_variation(positive, negative) >= self._contrast.divergence
        if bool(far.all()):
            return looked, positive, negative
        return (
            [i for i, there in zip(looked, far.tolist(), strict=True) if there],
            positive[far],
            negative[far],
        )

    def _caught_up(self, nodes: list[int]) -> torch.Tensor:
        """Read what the negative rows of ``nodes`` have missed, and return their logits."""
        missed = max(self._behind[i] for i in nodes)
        whole = len(nodes) == len(self.nodes)
        numbers = [2 * i + 1 for i in nodes]
        rows = slice(1, 2 * len(nodes), 2) if whole else torch.tensor(numbers, device=self.rows.device)
        tokens = [_last(self.nodes[i].against, self.nodes[i], missed) for i in nodes]
        logits = self.rows.run(tokens, [self.rows.starts[row] for row in numbers], rows)
        for i in nodes:
            self._behind[i] = 0
        return logits


def _last(prompt: Tokens | None, node: Node, count: int) -> Sequence[int]:
    """Return the last tokens of a node in the context of ``prompt``; one that joined late has drawn fewer."""
    return node.ids[-count:] if count <= len(node.ids) else (*(prompt or ()), *node.ids)[-count:]


def passed(gate: Gate, contrast: Contrast, *, free: bool, looked: bool, used: bool) -> Gate:
    """Return a node's gate after one more token.

    Args:
        gate: Before it.
        contrast: Says what the gates are.
        free: Whether the mask left a choice.
        looked: Whether the negative context was looked at.
        used: Whether the token is drawn from the contrast.
    """
    if not looked:
        return replace(gate, wait=max(gate.wait - 1, 0), decided=not free)
    if used or contrast.divergence is None:
        return Gate(gate.contrasted + used)
    interval = min(max(2 * gate.interval, 1), _LONGEST_INTERVAL)
    return replace(gate, interval=interval, wait=interval - 1, decided=False)
