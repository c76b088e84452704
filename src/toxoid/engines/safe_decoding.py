"""Safe decoding: the first tokens of a reply are drawn with the help of an expert that was trained to decline.

Source: Xu et al. 2024, "SafeDecoding" (arXiv 2402.08983), inference phase.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from toxoid.engines.base import GenerationRequest
from toxoid.engines.decoding import Continuation, Node
from toxoid.engines.forward import Rows
from toxoid.engines.loading import LoadedModel
from toxoid.engines.local import LocalEngine, Piece
from toxoid.engines.token_choice import choose_tokens
from toxoid.store.keys import content_key

_ROWS = 32
"""Rows read at once for the first tokens; bounds the memory of what is held for each token of the vocabulary."""


class SafeDecodingEngine(LocalEngine):
    """Draws the first tokens of every reply from both models (:func:`guided`), the others from the base alone.

    Args:
        base: The model to be made safe.
        expert: The same model, tuned to decline.
        alpha: Strength, 0 or more.
        first: How many tokens, 1 or more (m).
        candidates: Least size of the sample space, 1 or more (c).
        limits: See :class:`toxoid.engines.local.LocalEngine`.
    """

    def __init__(
        self,
        base: LoadedModel,
        expert: LoadedModel,
        *,
        alpha: float = 3.0,
        first: int = 2,
        candidates: int = 5,
        **limits: Any,
    ) -> None:
        super().__init__(base, **limits)
        self.expert = expert
        self.alpha = alpha
        self.first = first
        self.candidates = candidates
        self.name = f"{self.name} (safe decoding)"

    def identity(self) -> dict[str, Any]:
        """Return the identities of both models and the settings."""
        settings = {"alpha": self.alpha, "first": self.first, "candidates": self.candidates}
        return {
            **super().identity(),
            "safe_decoding": {"expert": content_key(self.expert.identity), **settings},
        }

    def stream(self, request: GenerationRequest) -> Iterator[Piece]:
        """Yield each completion in one piece."""
        for index, done in enumerate(self.generate([request])[0]):
            yield Piece(index, done.text, done.finish_reason)

    def _decode(self, waiting: list[Node]) -> None:
        for _ in range(self.first):
            waiting = [child for batch in self._batches(waiting) for child in self._opened(batch)]
        super()._decode(waiting)

    def _batches(self, nodes: Sequence[Node]) -> Iterator[list[Node]]:
        rest = sorted(nodes, key=lambda node: len(node.tokens), reverse=True)
        while rest:
            fitting = min(_ROWS, self.max_batch, self.max_batch_tokens // len(rest[0].tokens))
            count = max(fitting, 1)
            yield rest[:count]
            rest = rest[count:]

    def _opened(self, nodes: Sequence[Node]) -> list[Node]:
        """Draw a token for every continuation, and return the nodes at which they stand then."""
        prompts = [node.tokens for node in nodes]
        with torch.inference_mode():
            base, expert = (_next_logits(loaded.model, prompts) for loaded in (self.loaded, self.expert))
            logits = guided(base, expert, alpha=self.alpha, candidates=self.candidates)
        children: dict[tuple[int, int], Node] = {}
        for index, node in enumerate(nodes):
            for path in node.continuations:
                token = _drawn(logits[index], path, len(node.ids))
                ids = [*node.ids, token]
                if not self._ends(path, ids):
                    child = children.setdefault((index, token), Node(node.prompt, [], ids))
                    child.continuations.append(path)
        return list(children.values())

    def _ends(self, path: Continuation, ids: list[int]) -> bool:
        """Finish a continuation if ``ids`` are its end, and say whether they are."""
        stops = ids[-1] in self._end_ids or (path.stopped is not None and path.stopped(ids))
        if stops or len(ids) >= path.max_tokens:
            path.ids, path.finish = ids, "stop" if stops else "length"
        return path.finish is not None


def guided(base: torch.Tensor, expert: torch.Tensor, *, alpha: float, candidates: int) -> torch.Tensor:
    """Return log P = log(P_base + alpha (P_expert - P_base)) on the sample space, and minus infinity outside.

    The sample space is what the k most probable tokens of both models have in common, for the smallest k with at
    least ``candidates`` such tokens. Negative values count as 0, and P is normalised. Where nothing is above 0, since
    the expert finds every token of the space less probable, its own probabilities decide.

    Args:
        base: (rows, vocabulary) logits.
        expert: The same of the expert.
        alpha: Strength; at 0 the base model's probabilities on the sample space.
        candidates: Least size of the sample space.
    """
    worse = torch.maximum(_ranks(base), _ranks(expert))
    last = worse.kthvalue(min(candidates, base.shape[-1]), dim=-1, keepdim=True).values
    outside = worse > last
    p, q = (logits.double().softmax(-1).masked_fill(outside, 0.0) for logits in (base, expert))
    mixed = (p + alpha * (q - p)).clamp(min=0.0)
    mixed = torch.where(mixed.sum(-1, keepdim=True) == 0, q, mixed)
    return (mixed / mixed.sum(-1, keepdim=True)).log()


def _ranks(logits: torch.Tensor) -> torch.Tensor:
    """Return the place of each token in its row, 0 for the most probable; of equal ones the first goes before."""
    return logits.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)


def _next_logits(model: Any, prompts: Sequence[tuple[int, ...]]) -> torch.Tensor:
    """Return the logits after each prompt: (prompts, vocabulary)."""
    rows = Rows(model, prompts, most=len(prompts))
    return rows.logits[torch.tensor(rows.order).argsort()]


def _drawn(logits: torch.Tensor, path: Continuation, position: int) -> int:
    draw = path.draws[position] if path.temperature > 0 else 0.0
    temperature, top_p, draws = (
        torch.tensor([value], dtype=torch.float64, device=logits.device)
        for value in (path.temperature, path.top_p, draw)
    )
    return int(choose_tokens(logits[None], temperature, top_p, draws[:, None]))
