"""Tokens of transformers: rows of ids with the tokenizer's marks around them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from toxoid.engines.classifiers.windows import Row
from toxoid.store.keys import content_key


class Pieces:
    """A tokenizer of ``transformers``, used so that nothing in a text can pose as one of its marks.

    Args:
        tokenizer: A fast one.
        encoder: Whose inputs are made.
    """

    def __init__(self, tokenizer: Any, encoder: Any) -> None:
        self.tokenizer = tokenizer
        self._typed = (
            "token_type_ids" in inspect.signature(encoder.forward).parameters
            and getattr(encoder.config, "type_vocab_size", 0) > 1
        )
        self._single = _marks_of(tokenizer("x"))
        self._pair = _marks_of(tokenizer("x", "x"))

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text; none for a text that is nothing but unknown ones."""
        if not texts:
            return []
        read = self.tokenizer(
            list(texts),
            add_special_tokens=False,
            split_special_tokens=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,  # texts longer than the encoder are read in windows
        )["input_ids"]
        unknown = self.tokenizer.unk_token_id
        return [ids if any(token != unknown for token in ids) else [] for ids in read]

    def framed(self, first: Sequence[int], second: Sequence[int] | None) -> tuple[list[int], list[int]]:
        """Return ids and types of a row with the tokenizer's marks around its texts."""
        if second is None:
            before, after = self._single
            return [*before, *first, *after], [0] * (len(before) + len(first) + len(after))
        before, between, after = self._pair
        head = [*before, *first, *between]
        return [*head, *second, *after], [0] * len(head) + [1] * (len(second) + len(after))

    def marks(self, *, pair: bool) -> int:
        """Return how many marks a row has."""
        return sum(map(len, self._pair if pair else self._single))

    def collate(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Return ``input_ids``, ``attention_mask`` and, where they are taken, ``token_type_ids``: (rows, longest)."""
        longest = max(map(len, rows))
        pad = self.tokenizer.pad_token_id or 0
        batch = {
            "input_ids": _padded([row.ids for row in rows], longest, pad),
            "attention_mask": _padded([[1] * len(row) for row in rows], longest, 0),
        }
        if self._typed:
            batch["token_type_ids"] = _padded([row.types for row in rows], longest, 0)
        return batch

    def hash(self) -> str:
        """Return the hash of the tokenizer's file."""
        return content_key(self.tokenizer.backend_tokenizer.to_str())


def _marks_of(encoded: Any) -> list[list[int]]:
    """Return the marks before, between and after the texts of an encoded row."""
    marks: list[list[int]] = [[]]
    previous: int | None = None
    for token, part in zip(encoded["input_ids"], encoded.sequence_ids(0), strict=True):
        if part is None:
            marks[-1].append(token)
        elif part != previous:
            marks.append([])
            previous = part
    return marks


def _padded(rows: Sequence[Sequence[int]], width: int, value: int) -> Tensor:
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])
