"""Attention within tries: who sees whom, as a dense mask or as a block mask, for every kind of layer.

A node sees itself and its ancestors. A window or a chunk of a layer holds along the path: it is a matter of
depths, not of places in the row.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from toxoid.errors import UsageError
from toxoid.training.preference.settings import AttentionKind

Backend: TypeAlias = Literal["sdpa", "flex", "plain"]
MaskFunction: TypeAlias = Callable[[Any, Any, Any, Any], Tensor]

_FULL, _SLIDING, _CHUNKED = "full_attention", "sliding_attention", "chunked_attention"


@dataclass(frozen=True, slots=True)
class LayerKind:
    """How far a layer looks back along a path.

    Args:
        window: Tokens that it sees, itself included; ``None`` for all.
        chunk: Length of the stretches that it does not look out of; ``None`` for none.
    """

    window: int | None = None
    chunk: int | None = None


def layer_kinds(config: Any) -> dict[str, LayerKind] | None:
    """Return the kinds of attention layers of a model, by the names that its forward pass has for them.

    ``None`` if there is a kind of layer for which order, not position, is what counts: a recurrence runs along
    the row and not along the path.

    Args:
        config: A configuration of ``transformers``; that of the text model is looked at.
    """
    text = config.get_text_config()
    window = getattr(text, "sliding_window", None)
    names = getattr(text, "layer_types", None)
    if not names:
        return {_FULL: LayerKind(window=window)}
    known = {
        _FULL: LayerKind(),
        _SLIDING: LayerKind(window=window),
        _CHUNKED: LayerKind(chunk=getattr(text, "attention_chunk_size", None)),
    }
    return {name: known[name] for name in dict.fromkeys(names)} if set(names) <= known.keys() else None


def obstacle(model: Any) -> str:
    """Return why tries cannot go through a model, empty if nothing is known to be in the way."""
    base = bare(model)
    if layer_kinds(base.config) is None or getattr(base, "_is_stateful", False):
        return "it has layers that are no attention, which carry a state from token to token"
    missing = {"position_ids", "attention_mask"} - inspect.signature(type(base).forward).parameters.keys()
    if missing:
        return f"its forward pass takes no {' and no '.join(sorted(missing))}"
    kernel = base.config._attn_implementation
    return "" if kernel in ("sdpa", "eager") else f"its attention implementation {kernel} takes no such mask"


def candidates(asked: AttentionKind, model: Any) -> tuple[Backend, ...]:
    """Return the ways to compute shared tokens once that are worth a try, the best first.

    Args:
        asked: The setting; ``auto`` is ``flex`` on a GPU for a model that has it, then ``sdpa``.
        model: The model, on its device.

    Raises:
        UsageError: ``flex`` was asked for and cannot run here.
    """
    base = bare(model)
    dropout = getattr(base.config.get_text_config(), "attention_dropout", 0.0)
    flexible = bool(getattr(base, "_supports_flex_attn", False)) and not dropout
    on_gpu = base.device.type == "cuda"
    if asked == "flex" and not (flexible and on_gpu):
        reason = "runs on a GPU only" if flexible else "this model does not have, or not with its dropout"
        raise UsageError(f"attention is flex, which {reason}: give auto or sdpa")
    if asked == "auto":
        return ("flex", "sdpa") if flexible and on_gpu else ("sdpa",)
    return () if asked == "plain" else (asked,)


@contextmanager
def implementation(model: Any, backend: Backend) -> Iterator[Callable[[], None]]:
    """Set a model to the attention implementation of ``backend``; back after the block unless told to keep it.

    The one a model has takes dense masks. Only block masks ask for another.
    """
    base = bare(model)
    before, kept = base.config._attn_implementation, []
    if backend == "flex":
        base.set_attn_implementation("flex_attention")
    yield lambda: kept.append(True)
    if backend == "flex" and not kept:
        base.set_attn_implementation(before)


def bare(model: Any) -> Any:
    """Return the model inside a PEFT model, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def attention_masks(
    depths: Tensor, ends: Tensor, kinds: Mapping[str, LayerKind], *, backend: Backend, dtype: torch.dtype
) -> Any:
    """Return what a model takes as ``attention_mask`` for rows of tries.

    Models with several kinds of layers take one mask for each, by name; the others take the mask itself.

    Args:
        depths: Shape ``(rows, length)``.
        ends: Likewise; an end counts from the beginning of its row.
        kinds: From :func:`layer_kinds`.
        backend: ``sdpa`` for additive masks of shape ``(rows, 1, length, length)``, ``flex`` for block masks.
        dtype: Of the queries: scaled dot-product attention leaves its fast path for a mask of another type.
    """
    make = block_mask if backend == "flex" else dense_mask
    masks = {name: make(depths, ends, kind, dtype) for name, kind in kinds.items()}
    return masks if len(masks) > 1 else next(iter(masks.values()))


def dense_mask(depths: Tensor, ends: Tensor, kind: LayerKind, dtype: torch.dtype) -> Tensor:
    """Return the additive mask, 0 where a node is seen and the type's minimum elsewhere."""
    places = torch.arange(ends.shape[1], device=ends.device)
    query, key = places[:, None], places[None, :]
    seen = (key <= query) & (query < ends[:, None, :])
    if kind.window is not None:
        seen &= depths[:, :, None] - depths[:, None, :] < kind.window
    if kind.chunk is not None:
        stretches = depths // kind.chunk
        seen &= stretches[:, :, None] == stretches[:, None, :]
    mask = torch.zeros(seen.shape, dtype=dtype, device=ends.device)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]


def mask_function(depths: Tensor, ends: Tensor, kind: LayerKind) -> MaskFunction:
    """Return the rule of :func:`dense_mask` for one query and one key, as FlexAttention compiles it."""

    def seen(row: Any, head: Any, query: Any, key: Any) -> Tensor:
        found: Tensor = (key <= query) & (query < ends[row, key])
        if kind.window is not None:
            found = found & (depths[row, query] - depths[row, key] < kind.window)
        if kind.chunk is not None:
            found = found & (depths[row, query] // kind.chunk == depths[row, key] // kind.chunk)
        return found

    return seen


def block_mask(depths: Tensor, ends: Tensor, kind: LayerKind, dtype: torch.dtype) -> Any:
    """Return the mask as FlexAttention's ``BlockMask``: blocks that nobody sees are not computed."""
    from torch.nn.attention.flex_attention import create_block_mask

    rows, length = ends.shape
    return create_block_mask(
        mask_function(depths, ends, kind), B=rows, H=None, Q_LEN=length, KV_LEN=length, device=ends.device
    )
