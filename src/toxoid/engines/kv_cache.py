"""Key-value cache of a batch whose rows split and leave: preallocated, written in place.

``transformers``' own dynamic cache concatenates all it holds at every step, and copies all of it when one row
splits or leaves. Here a step writes its column, and a split copies the rows that are new and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from transformers.cache_utils import (
    Cache,
    CacheLayerMixin,
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
)


class RowCache(Protocol):
    """What the decoding needs of a cache; its first rows are the rows of the batch.

    Attributes:
        past: What the model is given as ``past_key_values``.
        shares: Whether :meth:`share` can be used: whether what is remembered of a prefix can be taken from a
            longer text.
    """

    past: Any
    shares: bool

    def seek(self, first: int, column: int) -> None:
        """Let the next forward pass write to the rows from ``first`` and the columns from ``column``."""

    def share(self, source: tuple[int, int], target: tuple[int, int], count: int) -> None:
        """Copy ``count`` columns from (row, column) ``source`` to (row, column) ``target``."""

    def place(self, sources: Sequence[int]) -> None:
        """Make the rows copies of the earlier rows ``sources``, one each; other rows are lost."""


def row_cache(config: Any, *, capacity: int, rows: int, most: int) -> RowCache:
    """Return a cache that fits what a model of this ``config`` remembers.

    Where that is keys and values only, rows live in slots. Where it is more (recurrent states, compressed or
    shared keys), ``transformers``' own cache is kept and copied: right for every model, and slower.

    Args:
        config: The model's config.
        capacity: Columns, the prompts' and those to come.
        rows: Rows to begin with.
        most: Rows there will ever be.
    """
    own = DynamicCache(config=config)
    text = config.get_text_config()
    plain = bool(own.layers) and all(
        type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in own.layers
    )
    kinds = set(getattr(text, "layer_types", None) or ())
    if not plain or kinds - {"full_attention", "sliding_attention"} or getattr(text, "num_kv_shared_layers", 0):
        return CopiedCache(own)
    return SlotCache(len(own.layers), capacity=capacity, rows=rows, most=most)


def placement(parents: Sequence[int]) -> list[int]:
    """Return which child takes which row, so that few rows have to be copied: the children in row order.

    A row's first child stays where its parent was; the others, and those beyond the last row that is still
    needed, fill the gaps. A row that is filled is therefore never one that is copied from.

    Args:
        parents: The parent's row of each child.
    """
    rows: list[int | None] = [None] * len(parents)
    movers = []
    for child, parent in enumerate(parents):
        if parent < len(rows) and rows[parent] is None:
            rows[parent] = child
        else:
            movers.append(child)
    waiting = iter(movers)
    return [next(waiting) if child is None else child for child in rows]


class SlotLayer(CacheLayerMixin):  # type: ignore[misc,unused-ignore]  # transformers is not typed
    """One layer's keys and values, (slots, heads, capacity, size of a head) each.

    A sliding window is left to the attention mask, which counts columns: all keys are kept.
    """

    is_sliding = False

    def __init__(self, capacity: int, slots: int) -> None:
        super().__init__()
        self.first = 0
        self.length = 0
        self._capacity = capacity
        self._slots = slots

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate; zeros, since a masked column still enters the sum, with weight 0."""
        self.keys, self.values = (
            states.new_zeros(self._slots, states.shape[1], self._capacity, states.shape[3])
            for states in (key_states, value_states)
        )
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new columns, and return views of all up to them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        rows = slice(self.first, self.first + key_states.shape[0])
        start, self.length = self.length, self.length + key_states.shape[2]
        self.keys[rows, :, start : self.length] = key_states
        self.values[rows, :, start : self.length] = value_states
        return self.keys[rows, :, : self.length], self.values[rows, :, : self.length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return how many columns the next pass will see, and the first of them."""
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        """Return the columns written so far."""
        return self.length

    def get_max_length(self) -> int:
        """Return the columns there are."""
        return self._capacity

    def reserve(self, slots: int) -> None:
        """Have at least so many slots."""
        if slots > self._slots:
            self.keys, self.values = (self._grown(states, slots) for states in (self.keys, self.values))
            self._slots = slots

    def _grown(self, states: torch.Tensor, slots: int) -> torch.Tensor:
        grown = states.new_zeros(slots, *states.shape[1:])
        grown[: self._slots, :, : self.length] = states[:, :, : self.length]
        return grown


class SlotCache:
    """A :class:`RowCache` of keys and values in slots; slots double on demand."""

    shares = True

    def __init__(self, layers: int, *, capacity: int, rows: int, most: int) -> None:
        self._layers = [SlotLayer(capacity, rows) for _ in range(layers)]
        self._slots = rows
        self._most = most
        self.past = Cache(layers=self._layers)

    def seek(self, first: int, column: int) -> None:
        """See :class:`RowCache`."""
        for layer in self._layers:
            layer.first, layer.length = first, column

    def share(self, source: tuple[int, int], target: tuple[int, int], count: int) -> None:
        """See :class:`RowCache`. Keys carry the position of their token, not the column they stand in."""
        (row, column), (new_row, new_column) = source, target
        for layer in self._layers:
            for states in (layer.keys, layer.values):
                states[new_row, :, new_column : new_column + count] = states[row, :, column : column + count]

    def place(self, sources: Sequence[int]) -> None:
        """See :class:`RowCache`. A row that is its own source is not touched."""
        targets = [row for row, source in enumerate(sources) if row != source]
        if not targets:
            return
        if len(sources) > self._slots:
            self._slots = max(len(sources), min(2 * self._slots, self._most))
        origins = [sources[row] for row in targets]
        for layer in self._layers:
            layer.reserve(self._slots)
            for states in (layer.keys, layer.values):
                states[targets, :, : layer.length] = states[origins, :, : layer.length]


class CopiedCache:
    """A :class:`RowCache` around the cache that ``transformers`` gives a model, copied whole when rows change."""

    shares = False

    def __init__(self, past: Any) -> None:
        self.past = past

    def seek(self, first: int, column: int) -> None:
        """Do nothing: this cache can only be continued, in all its rows."""

    def share(self, source: tuple[int, int], target: tuple[int, int], count: int) -> None:
        """See :class:`RowCache`.

        Raises:
            NotImplementedError: Always; recurrent states cannot be cut.
        """
        raise NotImplementedError("this cache cannot share prefixes")

    def place(self, sources: Sequence[int]) -> None:
        """See :class:`RowCache`. Reordering, unlike selecting, is what all kinds of layers can do."""
        self.past.reorder_cache(torch.tensor(sources))
