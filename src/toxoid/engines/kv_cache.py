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

from toxoid.errors import UsageError

_SPARE_COLUMNS = 32
"""Columns allocated beyond those needed: so many steps write in place before everything is copied once."""


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


def row_cache(config: Any, *, rows: int, most: int) -> RowCache:
    """Return a cache that fits what a model of this ``config`` remembers.

    Where that is keys and values only, rows live in slots. Where it is more (recurrent states, compressed or
    shared keys), ``transformers``' own cache is kept and copied: right for every model, and slower.

    Args:
        config: The model's config.
        rows: Rows to begin with.
        most: Rows there will ever be.

    Raises:
        UsageError: The model keeps its state outside any cache.
    """
    text = config.get_text_config()
    if text.model_type == "recurrent_gemma":
        raise UsageError(
            "a RecurrentGemma model cannot be decoded in batches, since it keeps its state outside the cache: "
            "serve it and give the endpoint instead"
        )
    own = DynamicCache(config=config)
    kinds = set(getattr(text, "layer_types", None) or ())
    plain = (
        len(own.layers) > 0
        and all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in own.layers)
        and kinds <= {"full_attention", "sliding_attention"}
        and not getattr(text, "num_kv_shared_layers", None)
    )
    if not plain:
        return CopiedCache(own, rows=rows)
    return SlotCache(len(own.layers), rows=rows, most=most)


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
    """One layer's keys and values, (slots, heads, columns, size of a head) each.

    There are never many more columns than are written, so that short replies cost what they need. A sliding
    window is left to the attention mask, which counts columns: all keys are kept.
    """

    is_sliding = False

    def __init__(self, slots: int) -> None:
        super().__init__()
        self.first = 0
        self.length = 0
        self._slots = slots

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate; zeros, since a masked column still enters the sum, with weight 0."""
        columns = self.length + key_states.shape[2] + _SPARE_COLUMNS
        self.keys, self.values = (
            states.new_zeros(self._slots, states.shape[1], columns, states.shape[3])
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
        if self.length > self.keys.shape[2]:
            self._move(self._slots, start, self.length + _SPARE_COLUMNS)
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
        """Return that there is no limit."""
        return -1

    def place(self, targets: torch.Tensor, origins: torch.Tensor, slots: int) -> None:
        """Copy the rows ``origins`` to the rows ``targets``, in ``slots`` slots."""
        if slots > self._slots:
            self._move(slots, self.length, self.keys.shape[2])
        targets, origins = targets.to(self.keys.device), origins.to(self.keys.device)
        for states in (self.keys, self.values):
            written = states[:, :, : self.length]
            written.index_copy_(0, targets, written.index_select(0, origins))

    def _move(self, slots: int, length: int, columns: int) -> None:
        """Allocate anew and take ``length`` columns along; what else there is will be written before it is read."""
        for name, states in (("keys", self.keys), ("values", self.values)):
            moved = states.new_empty(slots, states.shape[1], columns, states.shape[3])
            moved[: self._slots, :, :length] = states[:, :, :length]
            setattr(self, name, moved)
        self._slots = slots


class SlotCache:
    """A :class:`RowCache` of keys and values in slots; slots double on demand."""

    shares = True

    def __init__(self, layers: int, *, rows: int, most: int) -> None:
        self._layers = [SlotLayer(rows) for _ in range(layers)]
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
        filled, origins = torch.tensor(targets), torch.tensor([sources[row] for row in targets])
        for layer in self._layers:
            layer.place(filled, origins, self._slots)


class CopiedCache:
    """A :class:`RowCache` around the cache that ``transformers`` gives a model, copied whole when rows change."""

    shares = False

    def __init__(self, past: Any, *, rows: int) -> None:
        self.past = past
        self._rows = rows

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
        if list(sources) != list(range(self._rows)):
            self.past.reorder_cache(torch.tensor(sources))
            self._rows = len(sources)
