"""How well a model predicts texts: the sums of which perplexity and bits per byte are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from toxoid.data.texts import HeldOutText
from toxoid.engines.loading import LoadedModel
from toxoid.engines.templates import encode, encode_target, encode_text

_BATCH_TOKENS = 4096
"""Positions in one forward pass: their logits over a large vocabulary are what takes memory."""


@dataclass(frozen=True, slots=True)
class Predicted:
    """What a text costs a model: nats of all its scored tokens together, their number, and the text's bytes (UTF-8)."""

    nats: float
    tokens: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Window:
    """Token ids that the model sees at once; from ``scored`` on they count. ``text`` is the place of their text."""

    text: int
    ids: list[int]
    scored: int


def predict(
    loaded: LoadedModel,
    texts: Sequence[HeldOutText],
    *,
    window: int,
    on_done: Callable[[int], None] = lambda count: None,
) -> list[Predicted]:
    """Return what each text costs the model's weights, in the order of ``texts``.

    A reply is predicted after its conversation in the model's template, with the end of its turn; a text by itself
    after the token that begins texts, if the model has one (else its first token is not scored). Each token is scored
    once, where at least half a window stands before it or the text begins.

    Args:
        loaded: The model.
        texts: What to predict.
        window: Tokens that the model sees at once, at most; its own limit holds too.
        on_done: Told how many windows have been read since it was last told.
    """
    config = loaded.model.config.get_text_config()
    size = min(window, int(getattr(config, "max_position_embeddings", None) or window))
    windows = sorted(
        (
            piece
            for place, text in enumerate(texts)
            for piece in _windows(place, *_tokens(loaded.tokenizer, text), size)
        ),
        key=lambda piece: len(piece.ids),
    )
    nats, tokens = [0.0] * len(texts), [0] * len(texts)
    for batch in _batches(windows):
        for piece, cost in zip(batch, _costs(loaded.model, batch), strict=True):
            nats[piece.text] += cost
            tokens[piece.text] += len(piece.ids) - piece.scored
        on_done(len(batch))
    sizes = [len(text.text.encode("utf-8", "replace")) for text in texts]
    return [Predicted(*each) for each in zip(nats, tokens, sizes, strict=True)]


def _tokens(tokenizer: Any, text: HeldOutText) -> tuple[list[int], list[int]]:
    """Return the token ids that are given, and those that are to be predicted after them."""
    if text.conversation:
        return encode(tokenizer, text.conversation), encode_target(tokenizer, text.text)
    ids = encode_text(tokenizer, text.text)
    begin = tokenizer.bos_token_id
    return ([begin], ids) if begin is not None else (ids[:1], ids[1:])


def _windows(place: int, head: list[int], target: list[int], size: int) -> Iterator[_Window]:
    ids, done = head + target, len(head)
    while done < len(ids):
        start = 0 if done < size else done - size // 2
        end = min(start + size, len(ids))
        yield _Window(place, ids[start:end], done - start)
        done = end


def _batches(windows: Sequence[_Window]) -> Iterator[list[_Window]]:
    """Yield windows of like lengths; they come sorted by length."""
    batch: list[_Window] = []
    for piece in windows:
        if batch and (len(batch) + 1) * len(piece.ids) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(piece)
    if batch:
        yield batch


@torch.inference_mode()
def _costs(model: Any, batch: Sequence[_Window]) -> list[float]:
    """Return the nats of the scored tokens of each window."""
    longest = max(len(piece.ids) for piece in batch)
    rows = torch.zeros((len(batch), longest), dtype=torch.long)
    mask = torch.zeros_like(rows)
    for row, piece in enumerate(batch):
        rows[row, : len(piece.ids)] = torch.tensor(piece.ids)
        mask[row, : len(piece.ids)] = 1
    logits = model(
        input_ids=rows.to(model.device), attention_mask=mask.to(model.device), use_cache=False
    ).logits
    costs = []
    for row, piece in enumerate(batch):
        wanted = torch.tensor(piece.ids[piece.scored :], device=logits.device)
        said = logits[row, piece.scored - 1 : len(piece.ids) - 1].float().log_softmax(-1)
        costs.append(-float(said.gather(-1, wanted[:, None]).double().sum()))
    return costs
