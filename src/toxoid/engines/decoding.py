"""Decoding: token by token over a left-padded batch that shrinks as its rows finish.

The loop knows token ids only. A distinct prompt is read once for all its rows, and finished rows leave the
batch. Neither can be seen in what comes out: a row draws from its own random stream and from nothing else.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from transformers import DynamicCache

from toxoid.errors import ToxoidError

Finish: TypeAlias = Literal["stop", "length"]

_DROP_SHARE = 8
"""Finished rows leave once they are 1/8 of the batch: leaving copies the cache, staying costs their steps."""


@dataclass(slots=True)
class Row:
    """One continuation to be drawn.

    Args:
        prompt: Index into the batch's distinct prompts.
        max_tokens: At most so many tokens, at least 1.
        temperature: 0 is greedy.
        top_p: Nucleus; 1 keeps the whole distribution.
        draws: float64 array of ``max_tokens`` uniforms in [0, 1); empty if greedy.
        stopped: Asked after every token, with all of the row's tokens, whether they end the row.
        ids: The tokens drawn so far, the one that ended the turn included.
        finish: Why the row ended; ``None`` while it runs.
    """

    prompt: int
    max_tokens: int
    temperature: float
    top_p: float
    draws: np.ndarray
    stopped: Callable[[list[int]], bool] | None = None
    ids: list[int] = field(default_factory=list)
    finish: Finish | None = None


def uniforms(seed: int, index: int, count: int) -> np.ndarray:
    """Return the random stream of row ``(seed, index)``: ``count`` float64 in [0, 1), one per token position.

    A longer stream begins with the shorter one. Philox is counter-based: streams of different keys are
    independent by construction, however close the keys are.
    """
    key = np.array([seed % 2**64, index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(count)


def choose_tokens(
    logits: torch.Tensor, temperature: torch.Tensor, top_p: torch.Tensor, draws: torch.Tensor
) -> torch.Tensor:
    """Return one token per row, by inverse transform of the cumulated probabilities.

    Args:
        logits: (rows, vocabulary), any float type.
        temperature: (rows,); rows with 0 take the most probable token.
        top_p: (rows,); only the smallest set of most probable tokens that reaches this mass is kept.
        draws: (rows,) float64 in [0, 1).

    Returns:
        (rows,) int64. A token of probability 0 is never chosen.

    Raises:
        ToxoidError: A logit is not a number.
    """
    if bool(logits.isnan().any()):
        raise ToxoidError("the model's logits are not numbers (NaN): its weights are damaged or overflow")
    greedy = temperature == 0
    if bool(greedy.all()):
        return logits.argmax(dim=-1)
    scale = torch.where(greedy, 1.0, temperature)[:, None]
    probabilities = torch.softmax(logits.float() / scale, dim=-1)
    if bool((top_p < 1).any()):
        probabilities = _nucleus(probabilities, top_p)
    cumulated = probabilities.cumsum(dim=-1, dtype=torch.float64)
    total = cumulated[:, -1]
    # Strictly below the total, whatever the rounding: the search then ends on a step that goes up.
    point = torch.minimum(draws * total, torch.nextafter(total, torch.zeros_like(total)))
    sampled = torch.searchsorted(cumulated, point[:, None], right=True)[:, 0]
    return torch.where(greedy, logits.argmax(dim=-1), sampled) if bool(greedy.any()) else sampled


def decode(model: Any, prompts: Sequence[Sequence[int]], rows: Sequence[Row], *, end_ids: Set[int]) -> None:
    """Draw every row to its end, in place.

    Args:
        model: A causal language model in eval mode.
        prompts: Distinct, non-empty prompts as token ids.
        rows: The continuations; several may share a prompt.
        end_ids: Tokens that end a row (finish reason ``stop``).
    """
    with torch.inference_mode():
        batch = _Batch(model, prompts, rows)
        while True:
            batch.append(choose_tokens(batch.logits, batch.temperature, batch.top_p, batch.draws()), end_ids)
            if not batch.running():
                return
            batch.forward()


class _Batch:
    """The running rows, their cache, and the tensors that go with them; all in the same row order."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], rows: Sequence[Row]) -> None:
        self.model = model
        self.rows = list(rows)
        self.device = model.device
        self.step = 0
        self.length = max(map(len, prompts))
        capacity = self.length + max(row.max_tokens for row in rows)
        self.cache = DynamicCache(config=model.config)
        self._takes = frozenset(inspect.signature(_plain(model).forward).parameters)
        ids = torch.zeros((len(prompts), self.length), dtype=torch.long)
        mask = torch.zeros((len(prompts), capacity), dtype=torch.long)
        for index, prompt in enumerate(prompts):
            ids[index, self.length - len(prompt) :] = torch.tensor(prompt)
            mask[index, self.length - len(prompt) : self.length] = 1
        self.mask = mask.to(self.device)
        positions = self.mask[:, : self.length].cumsum(dim=-1) - 1
        self._run(ids.to(self.device), positions.clamp(min=0))
        self.position = positions[:, -1:]
        self._spread([row.prompt for row in rows])
        self._table = _draw_table(self.rows).to(self.device)
        self.temperature = torch.tensor([row.temperature for row in rows], device=self.device)
        self.top_p = torch.tensor([row.top_p for row in rows], device=self.device)

    def draws(self) -> torch.Tensor:
        """Return each row's uniform of this step: (rows,) float64."""
        return self._table[:, self.step]

    def append(self, tokens: torch.Tensor, end_ids: Set[int]) -> None:
        """Give each running row its token and see who is finished."""
        self._last = tokens
        self.step += 1
        for row, token in zip(self.rows, tokens.tolist(), strict=True):
            if row.finish is None:
                row.ids.append(token)
                row.finish = _finish(row, token, end_ids)

    def running(self) -> bool:
        """Say whether anything is left to do, after letting finished rows leave if enough of them are."""
        alive = [index for index, row in enumerate(self.rows) if row.finish is None]
        gone = len(self.rows) - len(alive)
        if alive and gone * _DROP_SHARE >= len(self.rows):
            self._keep(torch.tensor(alive, device=self.device))
            self.rows = [self.rows[index] for index in alive]
        return bool(alive)

    def forward(self) -> None:
        """Read the last tokens and leave the next logits in :attr:`logits`, (rows, vocabulary)."""
        self.mask[:, self.length] = 1
        self.length += 1
        self.position = self.position + 1
        self._run(self._last[:, None], self.position)

    def _run(self, ids: torch.Tensor, positions: torch.Tensor) -> None:
        inputs = {"position_ids": positions, "logits_to_keep": 1}
        output = self.model(
            input_ids=ids,
            attention_mask=self.mask[:, : self.length],
            past_key_values=self.cache,
            use_cache=True,
            **{name: value for name, value in inputs.items() if name in self._takes},
        )
        self.logits = output.logits[:, -1]

    def _spread(self, prompts: list[int]) -> None:
        """Go from one row per prompt to one row per continuation."""
        if prompts == list(range(len(self.logits))):
            return
        indices = torch.tensor(prompts, device=self.device)
        self.cache.batch_select_indices(indices)
        self.logits, self.mask, self.position = (t[indices] for t in (self.logits, self.mask, self.position))

    def _keep(self, indices: torch.Tensor) -> None:
        self.cache.batch_select_indices(indices)
        self.mask, self.position, self._last, self._table, self.temperature, self.top_p = (
            tensor[indices]
            for tensor in (self.mask, self.position, self._last, self._table, self.temperature, self.top_p)
        )


def _finish(row: Row, token: int, end_ids: Set[int]) -> Finish | None:
    if token in end_ids or (row.stopped is not None and row.stopped(row.ids)):
        return "stop"
    return "length" if len(row.ids) >= row.max_tokens else None


def _draw_table(rows: Sequence[Row]) -> torch.Tensor:
    """Return the rows' streams as one (rows, steps) float64 tensor; what a row will not draw is 0."""
    table = np.zeros((len(rows), max(row.max_tokens for row in rows)))
    for index, row in enumerate(rows):
        table[index, : len(row.draws)] = row.draws
    return torch.from_numpy(table)


def _nucleus(probabilities: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Return ``probabilities`` (rows, vocabulary) with all but each row's nucleus set to 0.

    A token stays if those more probable do not reach ``top_p`` without it; equally probable ones stay or go
    together, so that no order of ties matters. Rows with ``top_p`` 1 stay whole.
    """
    ordered = _descending(probabilities)
    before = ordered.cumsum(dim=-1, dtype=torch.float64) - ordered
    size = (before < top_p[:, None]).sum(dim=-1, keepdim=True).clamp(min=1)
    least = torch.where((top_p < 1)[:, None], ordered.gather(-1, size - 1), 0.0)
    return probabilities.masked_fill(probabilities < least, 0.0)


def _descending(values: torch.Tensor) -> torch.Tensor:
    if values.device.type == "cpu":  # numpy's vector sort: 30 times faster than torch's on a CPU
        return torch.from_numpy(np.sort(values.numpy(), axis=-1)).flip(-1)
    return values.sort(dim=-1, descending=True).values


def _plain(model: Any) -> Any:
    """Return the model below an adapter's wrapper, whose ``forward`` names its arguments."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
