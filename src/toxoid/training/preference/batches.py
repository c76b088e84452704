"""Batches: how groups and their anchors become the tensors of one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from toxoid.training.batches import Collator
from toxoid.training.examples import TokenisedExample
from toxoid.training.preference.layout import Layout
from toxoid.training.preference.trie import Ints, first_fit


@dataclass(frozen=True, slots=True)
class PreferenceRow:
    """What comes at one position of the training.

    Args:
        layout: The group.
        margins: log-probability of the chosen minus that of the rejected reply under the reference, of each
            pair; shape ``(pairs,)``.
        anchors: That go with it.
        counts: Whether it has a say; one that does not fills up a process that got no group.
    """

    layout: Layout
    margins: npt.NDArray[np.float32]
    anchors: tuple[TokenisedExample, ...] = ()
    counts: bool = True


class GroupCollator:
    """Turns groups into the tensors of one forward pass; several tries share a row.

    Args:
        pad: The id to pad with; any id will do.
        row_tokens: Nodes up to which tries share a row.
        shared: Whether tries have branches. Chains have a row each, and need no mask.
    """

    def __init__(self, *, pad: int, row_tokens: int, shared: bool) -> None:
        self._pad = pad
        self._row_tokens = row_tokens
        self._shared = shared
        self._anchors = Collator(pad=pad, narrow=False)

    def __call__(self, rows: Sequence[PreferenceRow]) -> dict[str, Any]:
        """Return the tensors of one batch.

        Returns:
            ``input_ids``, ``depths`` and ``ends`` (all ``(rows, longest)``; an end counts from the beginning of
            its row); ``heads``, indices into the flattened rows; ``picked``, ``targets``, ``imitation``;
            ``path_tokens``, ``path_replies``; ``reply_lengths``; ``chosen``, ``rejected``, ``weights``, ``margins``
            (as in :class:`toxoid.training.preference.layout.Layout`, numbered over the batch); ``lengths``, the
            tokens of each group and anchor; and, if there are any, ``anchors``, as
            :class:`toxoid.training.batches.Collator` makes them.
        """
        layouts = [row.layout for row in rows]
        arrays = self._arrays(layouts) | {"margins": np.concatenate([row.margins for row in rows])}
        for name in ("weights", "imitation"):
            arrays[name] = arrays[name] * np.repeat([row.counts for row in rows], _counts(layouts, name))
        batch: dict[str, Any] = {name: torch.from_numpy(array) for name, array in arrays.items()}
        batch["lengths"] = torch.tensor([len(row.layout) if row.counts else 0 for row in rows])
        anchors = [anchor for row in rows if row.counts for anchor in row.anchors]
        if anchors:
            batch["anchors"] = self._anchors(anchors)
            batch["lengths"] = torch.cat([batch["lengths"], batch["anchors"]["lengths"]])
        return batch

    def _arrays(self, layouts: Sequence[Layout]) -> dict[str, npt.NDArray[Any]]:
        sizes = [size for layout in layouts for size in layout.sizes]
        places, (height, width) = self._places(sizes)
        flat = np.concatenate(
            [np.arange(start, start + size) for start, size in zip(places, sizes, strict=True)]
        )
        nodes_before = _offsets(list(map(len, layouts)))
        first = np.repeat(np.arange(len(sizes)), sizes)  # the trie of each node
        before, starts = _offsets(sizes), np.asarray(places)
        # An end within its group becomes one within its row: minus the trie's beginning, plus the trie's column.
        ends = _numbered(layouts, "ends", nodes_before) - before[first] + (starts % width)[first]
        cells = height * width
        grids = {
            "input_ids": (_joined(layouts, "tokens"), np.full(cells, self._pad)),
            "depths": (_joined(layouts, "depths"), np.zeros(cells, dtype=np.int64)),
            "ends": (ends, np.tile(np.arange(1, width + 1), height)),  # padding sees itself, nothing sees it
        }
        for values, grid in grids.values():
            grid[flat] = values
        return {
            **{name: grid.reshape(height, width) for name, (_, grid) in grids.items()},
            "heads": flat[_numbered(layouts, "heads", nodes_before)],
            "picked": _numbered(layouts, "picked", _offsets(_counts(layouts, "heads"))),
            "targets": _joined(layouts, "targets"),
            "imitation": _joined(layouts, "imitation"),
            "path_tokens": _numbered(layouts, "path_tokens", _offsets(_counts(layouts, "targets"))),
            **{
                name: _numbered(layouts, name, _offsets(_counts(layouts, "lengths")))
                for name in ("path_replies", "chosen", "rejected")
            },
            "reply_lengths": _joined(layouts, "lengths"),
            "weights": _joined(layouts, "weights"),
        }

    def _places(self, sizes: Sequence[int]) -> tuple[list[int], tuple[int, int]]:
        """Return where in the flattened rows each trie begins, and the shape of the rows."""
        rows = [[index] for index in range(len(sizes))]
        if self._shared:
            rows = first_fit(sizes, max(self._row_tokens, *sizes))  # a row is as long as the longest anyway
        width = max(sum(sizes[index] for index in row) for row in rows)
        places = [0] * len(sizes)
        for number, row in enumerate(rows):
            start = number * width
            for index in row:
                places[index] = start
                start += sizes[index]
        return places, (len(rows), width)


def _joined(layouts: Sequence[Layout], name: str) -> npt.NDArray[Any]:
    joined = np.concatenate([getattr(layout, name) for layout in layouts])
    return joined.astype(np.int64) if joined.dtype == np.int32 else joined  # as torch wants its indices


def _counts(layouts: Sequence[Layout], name: str) -> list[int]:
    return [len(getattr(layout, name)) for layout in layouts]


def _offsets(counts: Sequence[int]) -> Ints:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)[:-1]])


def _numbered(layouts: Sequence[Layout], name: str, offsets: Ints) -> Ints:
    parts = [getattr(layout, name) + offset for layout, offset in zip(layouts, offsets, strict=True)]  # int64
    return np.concatenate(parts)
