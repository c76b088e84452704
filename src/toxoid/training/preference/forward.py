"""One forward pass over rows of tries: log-probabilities of the tokens that are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from toxoid.errors import ToxoidError
from toxoid.training.preference.attention import Backend, LayerKind, attention_masks
from toxoid.training.preference.losses import selected_log_probabilities


@dataclass(frozen=True, slots=True)
class Attention:
    """How tries go through a model.

    Args:
        backend: Of the attention; ``plain`` is causal rows without a mask.
        kinds: Of the model's layers; not needed for ``plain``.
        dtype: Of the queries; bfloat16 under autocast.
    """

    backend: Backend
    kinds: Mapping[str, LayerKind]
    dtype: torch.dtype

    @property
    def shared(self) -> bool:
        """Return whether what replies share is computed once."""
        return self.backend != "plain"


def reply_sums(log_probabilities: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Return for each reply of a batch the sum over those of its tokens that have a say, shape ``(replies,)``."""
    sums = log_probabilities.new_zeros(len(batch["reply_lengths"]))
    return sums.index_add(0, batch["path_replies"], log_probabilities[batch["path_tokens"]])


def log_probabilities(model: Any, head: Any, batch: Mapping[str, Tensor], attention: Attention) -> Tensor:
    """Return log p of a batch's targets, shape of ``batch["targets"]``, float32 or better.

    Args:
        model: A causal language model, wrapped or not.
        head: Its output layer.
        batch: From :class:`toxoid.training.preference.batches.GroupCollator`, on the model's device.
        attention: How.
    """
    given: dict[str, Any] = {}
    if attention.shared:
        masks = attention_masks(
            batch["depths"],
            batch["ends"],
            attention.kinds,
            backend=attention.backend,
            dtype=attention.dtype,
        )
        given = {"position_ids": batch["depths"], "attention_mask": masks}
    logits = logits_at(model, head, batch["input_ids"], batch["heads"], **given)
    return selected_log_probabilities(logits, batch["picked"], batch["targets"])


def logits_at(model: Any, head: Any, input_ids: Tensor, places: Tensor, **given: Any) -> Tensor:
    """Return the logits at some places only, shape ``(places, vocabulary)``.

    The output layer, the dearest of a small model, is given the hidden states of these places alone; whatever
    the model does to its logits after it stays as it is.

    Args:
        model: A causal language model, wrapped or not.
        head: Its output layer.
        input_ids: Shape ``(rows, length)``.
        places: Indices into the flattened rows.
        given: Further arguments of the forward pass.

    Raises:
        ToxoidError: The model computes its logits some other way.
    """
    with _only(head, places):
        logits: Tensor = model(input_ids=input_ids, use_cache=False, **given).logits
    if logits.shape[:2] != (1, len(places)):
        raise ToxoidError(
            "the model did not return logits for the positions asked for: it cannot be trained on groups"
        )
    return logits[0]


def output_head(model: Any) -> Any:
    """Return the layer that makes logits of hidden states.

    Raises:
        ToxoidError: The model does not name one.
    """
    head = model.get_output_embeddings()
    if head is None:
        raise ToxoidError(
            "the model names no output layer (get_output_embeddings): it cannot be trained on groups"
        )
    return head


@contextmanager
def _only(head: Any, places: Tensor) -> Iterator[None]:
    def gather(module: Any, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (given[0].flatten(0, 1)[places][None], *given[1:])

    handle = head.register_forward_pre_hook(gather)
    try:
        yield
    finally:
        handle.remove()


def on_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Return a batch whose tensors lie on ``device``."""
    return {
        name: on_device(value, device) if isinstance(value, Mapping) else value.to(device)
        for name, value in batch.items()
    }


def autocast(device: torch.device, bf16: bool) -> AbstractContextManager[Any]:
    """Return bfloat16 autocast, or nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if bf16 else nullcontext()
