"""Soft prompts: vectors that stand in the place of a system prompt's tokens.

A soft prompt is a table of embeddings, (tokens, size of an embedding). Its rows are addressed by *virtual* token
ids, which begin where the model's own end, so that prompts with soft parts are token sequences like any other:
compared, shared and cached as such, and turned into vectors only when they are read.

Where they stand: I = concat(z, tau(x)) in Zhao et al. 2024 (equation 2). With placement ``system`` z takes the
place of a system message's text, between what the template writes before it (which may be the beginning-of-sequence
token, that many models need at the very first place) and the rest of the conversation. With ``front`` it stands
before everything, as in PEFT's prompt tuning.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch

from toxoid.data.schemas import Conversation, user
from toxoid.engines.guided import with_guidance
from toxoid.engines.prefix_tree import Tokens
from toxoid.engines.templates import encode, encode_text, open_text
from toxoid.errors import UsageError

Placement: TypeAlias = Literal["system", "front"]


@dataclass(frozen=True, slots=True)
class Frame:
    """How a soft prompt enters conversations, whatever the tokenizer.

    Args:
        placement: See the module.
        manual: The system prompt whose place it takes: conversations are rendered with it, and its tokens are then
            replaced. Not used with ``front``.
    """

    placement: Placement = "system"
    manual: str = ""


class Place:
    """A frame in the chat template of one tokenizer.

    Attributes:
        head: The tokens before the soft prompt.

    Raises:
        UsageError: The template changes the text of a system prompt, or that is empty.
    """

    def __init__(self, tokenizer: Any, frame: Frame) -> None:
        self.frame = frame
        self._tokenizer = tokenizer
        self.head: Tokens = ()
        if frame.placement == "system":
            self._opening = _opening(tokenizer, frame.manual)
            self.head = self._opening.head

    def manual_ids(self, text: str) -> Tokens:
        """Return the tokens that a manual prompt has in the soft prompt's place: what that begins from."""
        if self.frame.placement == "front":
            return tuple(encode_text(self._tokenizer, text))
        opening = _opening(self._tokenizer, text)
        return opening.ids[len(opening.head) :]

    def rest(self, conversation: Conversation, prefill: str | None = None) -> Tokens:
        """Return the tokens after the soft prompt, which do not depend on what stands in its place.

        A system message of the conversation's own stays, after the soft prompt.

        Raises:
            UsageError: The template refuses the conversation, or begins it in another way than all others.
        """
        if self.frame.placement == "front":
            return tuple(encode(self._tokenizer, conversation, prefill=prefill))
        text = open_text(self._tokenizer, with_guidance(conversation, self.frame.manual), prefill=prefill)
        if text.startswith(self._opening.text):
            whole = tuple(encode_text(self._tokenizer, text))
            return whole[_common(self._opening.ids, whole) :]
        # Some templates (Mistral's) move a system message to the last user turn: the soft prompt stays in the first.
        bare = tuple(encode(self._tokenizer, conversation, prefill=prefill))
        if bare[: len(self.head)] != self.head:
            raise UsageError(
                "the chat template begins this conversation in another way than others, so the soft prompt has no "
                "place in it: use placement front"
            )
        return bare[len(self.head) :]


@dataclass(frozen=True, slots=True)
class _Opening:
    """What a template writes up to the end of a system prompt: its text, its tokens, and those before the prompt."""

    text: str
    ids: Tokens
    head: Tokens


def _opening(tokenizer: Any, manual: str) -> _Opening:
    manual = manual.strip()  # as many templates do
    if not manual:
        raise UsageError("the manual prompt, in whose place a soft prompt is put, is empty: give a text")
    before, found, _ = open_text(tokenizer, user("x", manual)).rpartition(manual)
    if not found:
        raise UsageError(
            "the chat template does not show the text of a system prompt as it is, so nothing can be put in its "
            "place: use placement front"
        )
    ids = tuple(encode_text(tokenizer, before + manual))
    return _Opening(before + manual, ids, ids[: _common(ids, encode_text(tokenizer, before))])


def embeddings_of(model: Any) -> torch.nn.Embedding:
    """Return the model's input embeddings.

    Raises:
        UsageError: It gives no access to them, or its forward pass takes no vectors in place of token ids.
    """
    try:
        found = model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        found = None
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    takes = "inputs_embeds" in inspect.signature(base.forward).parameters
    text = model.config.get_text_config()
    if getattr(text, "hidden_size_per_layer_input", None):
        takes = False  # gemma3n and its like look token ids up again in every layer
    if not isinstance(found, torch.nn.Embedding) or not takes:
        raise UsageError(
            f"{type(base).__name__} does not take vectors in place of tokens (input embeddings), which soft prompts "
            "need: use manual prompts for this model (positive: safe, negative: opposite)"
        )
    return found


def vectors_of(model: Any, tokens: Sequence[int]) -> torch.Tensor:
    """Return what the model reads for tokens, (tokens, size) float32: z = tau(p) (equation 1)."""
    layer = embeddings_of(model)
    with torch.no_grad():
        vectors: torch.Tensor = layer(torch.tensor(tokens, dtype=torch.long, device=layer.weight.device))
    return vectors.float()


def embed(model: Any, ids: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Return the vectors of ``ids``, of which those beyond the model's vocabulary are rows of ``table``.

    Args:
        model: The model.
        ids: (rows, columns) int64.
        table: (virtual tokens, size of an embedding); id ``v + i`` is its row ``i`` where the model embeds ``v``
            tokens.

    Returns:
        (rows, columns, size), in the model's type; gradients flow into ``table``.
    """
    layer = embeddings_of(model)
    own = layer.num_embeddings
    soft = ids >= own
    vectors = layer(ids.masked_fill(soft, 0))
    return torch.where(soft[..., None], table.to(vectors.dtype)[(ids - own).clamp(min=0)], vectors)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
