"""Key-value cache of a batch whose rows split and leave: preallocated, written in place.

``transformers``' own dynamic cache concatenates all it holds at every step, and copies all of it when one row
splits or leaves. Here a step writes its column, and a split copies the rows that are new and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

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


Selection: TypeAlias = slice | torch.Tensor
"""Some rows of a cache: a slice, which is looked at in place, or their numbers, which are gathered."""


@dataclass(frozen=True)
class KnownPrefix:
    """Keys and values of a token sequence that many prompts begin with.

    Args:
        tokens: The sequence.
        layers: By layer, its keys and values, (1, heads, tokens, size of a head) each.
    """

    tokens: tuple[int, ...]
    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]


class RowCache(Protocol):
    """What the decoding needs of a cache; its first rows are the rows of the batch.

    Attributes:
        past: What the model is given as ``past_key_values``.
        shares: Whether rows are independent of each other in time: whether :meth:`seek`, :meth:`share`,
            :meth:`recall`, :meth:`resize` and :meth:`take` can be used.
        size: Slots and columns allocated, (0, 0) where that is not known.
    """

    past: Any
    shares: bool

    @property
    def size(self) -> tuple[int, int]:
        """See the class."""

    def seek(self, rows: Selection, column: int) -> None:
        """Let the next forward pass write to ``rows`` and the columns from ``column``."""

    def share(self, source: tuple[int, int], target: tuple[int, int], count: int) -> None:
        """Copy ``count`` columns from (row, column) ``source`` to (row, column) ``target``."""

    def recall(self, prefix: KnownPrefix, target: tuple[int, int], count: int, columns: int) -> None:
        """Copy the first ``count`` tokens of a prefix to (row, column) ``target``, in a cache of ``columns``."""

    def place(self, sources: Sequence[int]) -> None:
        """Make the rows copies of the earlier rows ``sources``, one each; other rows are lost."""

    def resize(self, slots: int, columns: int, shift: int) -> None:
        """Allocate so many slots and columns, and take along what fits, ``shift`` columns further to the right."""

    def take(self, other: RowCache, row: int, count: int) -> None:
        """Copy the first ``count`` rows of a cache that is not longer to the rows from ``row``; they end together."""


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
        self.rows: Selection = slice(0, slots)
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
        start, self.length = self.length, self.length + key_states.shape[2]
        if self.length > self.keys.shape[2]:
            self._move(self._slots, start, self.length + _SPARE_COLUMNS)
        self.keys[self.rows, :, start : self.length] = key_states
        self.values[self.rows, :, start : self.length] = value_states
        keys, values = self.keys[:, :, : self.length], self.values[:, :, : self.length]
        return keys[self.rows], values[self.rows]

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

    def resize(self, slots: int, columns: int, shift: int) -> None:
        """See :class:`RowCache`."""
        first = max(-shift, 0)
        for name, states in (("keys", self.keys), ("values", self.values)):
            moved = states.new_zeros(slots, states.shape[1], columns, states.shape[3])
            kept = states[:slots, :, first : self.length]
            moved[: len(kept), :, first + shift : self.length + shift] = kept
            setattr(self, name, moved)
        self._slots, self.length = slots, self.length + shift

    def take(self, other: SlotLayer, row: int, count: int) -> None:
        """See :class:`RowCache`."""
        start = self.length - other.length
        for states, given in ((self.keys, other.keys), (self.values, other.values)):
            states[row : row + count, :, :start] = (
                0  # what stood there may not be numbers, and 0 times that is not 0
            )
            states[row : row + count, :, start : self.length] = given[:count, :, : other.length]

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

    @property
    def size(self) -> tuple[int, int]:
        """See :class:`RowCache`."""
        return self._slots, self._layers[0].keys.shape[2]

    def seek(self, rows: Selection, column: int) -> None:
        """See :class:`RowCache`."""
        for layer in self._layers:
            layer.rows, layer.length = rows, column

    def share(self, source: tuple[int, int], target: tuple[int, int], count: int) -> None:
        """See :class:`RowCache`. Keys carry the position of their token, not the column they stand in."""
        (row, column), (new_row, new_column) = source, target
        for layer in self._layers:
            for states in (layer.keys, layer.values):
                states[new_row, :, new_column : new_column + count] = states[row, :, column : column + count]

    def recall(self, prefix: KnownPrefix, target: tuple[int, int], count: int, columns: int) -> None:
        """See :class:`RowCache`."""
        row, column = target
        for layer, (keys, values) in zip(self._layers, prefix.layers, strict=True):
            if not layer.is_initialized:
                layer.length = columns
                layer.lazy_initialization(keys[:, :, :0], values[:, :, :0])
            layer.keys[row, :, column : column + count] = keys[0, :, :count]
            layer.values[row, :, column : column + count] = values[0, :, :count]

    def remember(self, tokens: tuple[int, ...]) -> KnownPrefix:
        """Return what the first row holds of ``tokens``, which are all that was read into it."""
        kept = [
            tuple(states[:1, :, : len(tokens)].clone() for states in (layer.keys, layer.values))
            for layer in self._layers
        ]
        return KnownPrefix(tokens, tuple((keys, values) for keys, values in kept))

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

    def resize(self, slots: int, columns: int, shift: int) -> None:
        """See :class:`RowCache`."""
        self._slots = slots
        for layer in self._layers:
            layer.resize(slots, columns, shift)

    def take(self, other: RowCache, row: int, count: int) -> None:
        """See :class:`RowCache`.

        Raises:
            NotImplementedError: ``other`` is of another kind.
        """
        if not isinstance(other, SlotCache):
            raise NotImplementedError("rows in slots cannot be taken from a cache of another kind")
        for layer, given in zip(self._layers, other._layers, strict=True):
            layer.take(given, row, count)


class CopiedCache:
    """A :class:`RowCache` around the cache that ``transformers`` gives a model, copied whole when rows change."""

    shares = False
    size = (0, 0)

    def __init__(self, past: Any, *, rows: int) -> None:
        self.past = past
        self._rows = rows

    def seek(self, rows: Selection, column: int) -> None:
        """Do nothing: this cache can only be continued, in all its rows."""

    def recall(self, prefix: KnownPrefix, target: tuple[int, int], count: int, columns: int) -> None:
        """See :class:`RowCache`.

        Raises:
            NotImplementedError: Always; recurrent states cannot be taken up row by row.
        """
        raise NotImplementedError("this cache cannot begin from known prefixes")

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

    def resize(self, slots: int, columns: int, shift: int) -> None:
        """See :class:`RowCache`.

        Raises:
            NotImplementedError: Always; recurrent states have no columns.
        """
        raise NotImplementedError("this cache has no slots")

    def take(self, other: RowCache, row: int, count: int) -> None:
        """See :class:`RowCache`.

        Raises:
            NotImplementedError: Always; its rows go on together.
        """
        raise NotImplementedError("this cache cannot take up other rows")
