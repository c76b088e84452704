"""Batches: in which order examples are seen, and how rows become tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from toxoid.training.examples import IGNORED, TokenisedExample

_BATCHES_PER_WINDOW = 16
"""Rows are sorted by length within a window of so many batches: little padding, still mostly random."""


def epoch_order(lengths: Sequence[int], *, batch_size: int, seed: int, epoch: int) -> list[int]:
    """Return the row numbers of one epoch; consecutive runs of ``batch_size`` have about equal lengths.

    A pure function of its arguments, so that a resumed training sees what an uninterrupted one would have
    seen. The short batch, if there is one, comes last, as data loaders cut it.
    """
    random = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    shuffled = random.permutation(len(lengths)).tolist()
    window = _BATCHES_PER_WINDOW * batch_size
    batches: list[list[int]] = []
    for start in range(0, len(shuffled), window):
        rows = sorted(shuffled[start : start + window], key=lambda row: lengths[row])
        batches += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    tail = batches.pop() if batches and len(batches[-1]) < batch_size else []
    order = [batches[i] for i in random.permutation(len(batches))]
    return [row for batch in [*order, tail] for row in batch]


NOTHING = -1
"""In place of a row number: a process has no row there."""


def shared_out(order: Sequence[int], *, batch_size: int, processes: int) -> list[int]:
    """Return ``order`` cut into the batches of several processes that go forward at the same time.

    Consecutive ``processes`` x ``batch_size`` rows are one forward pass of all, dealt out in turn as data
    loaders do. What the last pass lacks is filled up with :data:`NOTHING`, evenly, so that all have a share.

    Args:
        order: Row numbers.
        batch_size: Of one process.
        processes: How many; with 1 the order is returned as it is.
    """
    whole = len(order) - len(order) % (batch_size * processes)
    rest = order[whole:]
    if processes == 1 or not rest:
        return list(order)
    parts = [rest[process::processes] for process in range(processes)]
    filled = [[*part, *[NOTHING] * (batch_size - len(part))] for part in parts]
    return [*order[:whole], *(row for part in filled for row in part)]


class EpochSampler(Sampler[int]):
    """Yields the order of the epoch that ``epoch`` names when iteration starts.

    The epoch is asked for and not counted: a resumed training starts in the middle of one.
    """

    def __init__(self, order: Callable[[int], list[int]], *, epoch: Callable[[], int], size: int) -> None:
        self._order = order
        self._epoch = epoch
        self._size = size

    def __iter__(self) -> Iterator[int]:
        return iter(self._order(self._epoch()))

    def __len__(self) -> int:
        return self._size


class Collator:
    """Turns rows into the tensors of one forward pass.

    Rows are padded on the right and no attention mask is made: causal attention never looks right, and
    padding carries no loss, so the mask would change nothing but the speed (scaled dot-product attention
    takes its causal fast path only without one).

    The output head is the dearest layer of a small model. It is therefore asked only for the positions that
    predict a target token in at least one row, where the model can do so (``logits_to_keep``).

    Args:
        pad: The id to pad with; any id will do.
        narrow: Ask the model only for the needed positions.
    """

    def __init__(self, *, pad: int, narrow: bool) -> None:
        self._pad = pad
        self._narrow = narrow

    def __call__(self, rows: Sequence[TokenisedExample]) -> dict[str, Tensor]:
        """Return the tensors of one batch.

        Returns:
            ``input_ids`` ``(rows, longest)``; ``positions`` ``(kept,)``, those the head is asked for;
            ``picked`` ``(tokens,)``, indices into the flattened ``(rows, kept)`` logits; ``targets`` and
            ``weights`` ``(tokens,)``; ``lengths`` ``(rows,)``.
        """
        lengths = torch.tensor([len(row.input_ids) for row in rows])
        longest = int(lengths.max())
        input_ids = torch.full((len(rows), longest), self._pad)
        labels = torch.full((len(rows), longest), IGNORED)
        for index, row in enumerate(rows):
            input_ids[index, : len(row.input_ids)] = torch.tensor(row.input_ids)
            labels[index, : len(row.labels)] = torch.tensor(row.labels)
        following = labels[:, 1:]  # position t predicts token t + 1
        needed = following.ne(IGNORED)
        positions = needed.any(0).nonzero()[:, 0] if self._narrow else torch.arange(longest)
        kept = needed[:, positions] if self._narrow else torch.nn.functional.pad(needed, (0, 1))
        weights = torch.tensor([row.weight for row in rows]).repeat_interleave(needed.sum(1))
        return {
            "input_ids": input_ids,
            "positions": positions,
            "picked": kept.flatten().nonzero()[:, 0],
            "targets": following[needed],
            "weights": weights,
            "lengths": lengths,
        }
