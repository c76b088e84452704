"""Classifiers as torch modules: texts to rows, rows to tensors, tensors to logits."""

from __future__ import annotations

import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from toxoid.engines.classifiers.base import Labels, Text
from toxoid.engines.classifiers.pieces import Pieces
from toxoid.engines.classifiers.windows import WINDOW, Row, Window, cuts, readable, shortened
from toxoid.engines.loading import quietly

_WORD = re.compile(r"\w+|[^\w\s]")


class ClassifierModule(nn.Module, ABC):
    """A text classifier that can be trained and saved.

    Args:
        labels: What it tells apart.
        window: How long texts are cut.

    Attributes:
        labels: As given; a training may replace them by others that differ in the threshold only.
        temperature: What log-probabilities of a text are divided by, 1 until it is calibrated. :meth:`forward` does
            not apply it.
    """

    kind: ClassVar[str]

    def __init__(self, labels: Labels, window: Window) -> None:
        super().__init__()
        self.labels = labels
        self.window = window
        self.temperature = 1.0

    @abstractmethod
    def forward(self, **batch: Tensor) -> Tensor:
        """Return the logits of a collated batch, (rows, labels)."""

    @abstractmethod
    def collate(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Return the tensors that :meth:`forward` takes, on the CPU."""

    @abstractmethod
    def tokenizer_hash(self) -> str:
        """Return the hash of what makes tokens of texts."""

    @abstractmethod
    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each text, without marks; none for a text of which none is known."""

    @abstractmethod
    def _framed(self, first: Sequence[int], second: Sequence[int] | None) -> tuple[list[int], list[int]]:
        """Return ids and types of a row."""

    @abstractmethod
    def _marks(self, *, pair: bool) -> int:
        """Return how many tokens a row has besides those of its texts."""

    def rows(self, texts: Sequence[Text]) -> list[Row]:
        """Return the windows of the texts, in order; a text without a readable token has none.

        Of an exchange the whole request stands in every window or, where that does not leave two thirds of the
        window to the reply and the reply needs them, its beginning and end. An exchange without a reply has no row.

        Raises:
            ValueError: A request where an exchange is read, or the other way round.
        """
        if any(isinstance(text, str) != (self.labels.reads == "request") for text in texts):
            raise ValueError(f"this classifier reads {self.labels.reads}s: give them as toxoid's Text says")
        if self.labels.reads == "request":
            read = self._tokens([readable(str(text)) for text in texts])
            return [row for index, ids in enumerate(read) for row in self._request_rows(index, ids)]
        requests = self._tokens([readable(text[0]) for text in texts])
        replies = self._tokens([readable(text[1]) for text in texts])
        pairs = enumerate(zip(requests, replies, strict=True))
        return [row for index, pair in pairs for row in self._exchange_rows(index, *pair)]

    def _request_rows(self, index: int, ids: list[int]) -> list[Row]:
        if not ids:
            return []
        room = self.window.tokens - self._marks(pair=False)
        parts = cuts(len(ids), room, self.window.overlap)
        return [Row(index, *self._framed(ids[part], None)) for part in parts]

    def _exchange_rows(self, index: int, request: list[int], reply: list[int]) -> list[Row]:
        if not reply:
            return []
        room = self.window.tokens - self._marks(pair=True)
        asked = shortened(request, max(room // 3, room - len(reply)))
        parts = cuts(len(reply), room - len(asked), self.window.overlap)
        return [Row(index, *self._framed(asked, reply[part])) for part in parts]


class BagOfWordsModule(ClassifierModule):
    """A linear classifier of hashed words and word pairs; a row has the length 1 however many there are.

    It starts at zero: every label is as probable as the others.

    Args:
        labels: What it tells apart.
        window: In words.
        buckets: Of the hash.
    """

    kind = "bag-of-words"

    def __init__(self, labels: Labels, window: Window = WINDOW, *, buckets: int = 1 << 16) -> None:
        super().__init__(labels, window)
        self.buckets = buckets
        self.embedding = nn.EmbeddingBag(buckets, len(labels.names), mode="sum")
        self.bias = nn.Parameter(torch.zeros(len(labels.names)))
        nn.init.zeros_(self.embedding.weight)

    def forward(self, **batch: Tensor) -> Tensor:
        """Return the logits: ``ids`` and ``scale`` (features of all rows,), ``offsets`` (rows,)."""
        summed = self.embedding(batch["ids"], batch["offsets"], per_sample_weights=batch["scale"])
        logits: Tensor = summed + self.bias
        return logits

    def collate(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Return the rows' features one after the other, each with 1 / sqrt(features of its row)."""
        counts = torch.tensor([len(row) for row in rows])
        return {
            "ids": torch.tensor([feature for row in rows for feature in row.ids]),
            "offsets": counts.cumsum(0) - counts,
            "scale": counts.rsqrt().repeat_interleave(counts),
        }

    def tokenizer_hash(self) -> str:
        """Return the rule and its size."""
        return f"words and pairs of words, crc32, {self.buckets}"

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        return [[zlib.crc32(word.encode()) for word in _WORD.findall(text.lower())] for text in texts]

    def _framed(self, first: Sequence[int], second: Sequence[int] | None) -> tuple[list[int], list[int]]:
        asked, said = self._features(first, salt=0), self._features(second or (), salt=1)
        return sorted(asked | said), []

    def _features(self, words: Sequence[int], salt: int) -> set[int]:
        single = {zlib.crc32(b"%d %d" % (salt, word)) for word in words}
        pairs = {zlib.crc32(b"%d %d %d" % (salt, *pair)) for pair in pairwise(words)}
        return {code % self.buckets for code in single | pairs}

    def _marks(self, *, pair: bool) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class Base:
    """The published encoder that an :class:`EncoderModule` began from.

    Args:
        source: ``minilm``, or a name on the Hub.
        revision: The commit on the Hub.
        weights: The hash of its tensors, :func:`toxoid.engines.classifiers.folders.tensors_hash`.
    """

    source: str
    revision: str | None
    weights: str


class TransformerModule(ClassifierModule):
    """A classifier that reads the tokens of a transformer.

    Args:
        labels: What it tells apart.
        window: At most as long as the transformer reads.
        tokenizer: Of the transformer.
    """

    def __init__(self, labels: Labels, window: Window, tokenizer: Pieces) -> None:
        super().__init__(labels, window)
        self.tokenizer = tokenizer

    def collate(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Return ``input_ids``, ``attention_mask`` and, where they are taken, ``token_type_ids``: (rows, longest)."""
        return self.tokenizer.collate(rows)

    def tokenizer_hash(self) -> str:
        """Return the hash of the tokenizer's file."""
        return self.tokenizer.hash()

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        return self.tokenizer.tokens(texts)

    def _framed(self, first: Sequence[int], second: Sequence[int] | None) -> tuple[list[int], list[int]]:
        return self.tokenizer.framed(first, second)

    def _marks(self, *, pair: bool) -> int:
        return self.tokenizer.marks(pair=pair)


class EncoderModule(TransformerModule):
    """A transformer encoder, the mean over its tokens, and a linear head.

    Args:
        encoder: Of ``transformers``, in float32; gives ``last_hidden_state``.
        tokenizer: A fast one.
        labels: What it tells apart.
        window: At most as long as the encoder reads.
        base: Where the encoder can be had again; ``None`` for one of the user's own.
        dropout: Before the head, in training.
    """

    kind = "encoder"

    def __init__(
        self,
        encoder: Any,
        tokenizer: Any,
        labels: Labels,
        window: Window = WINDOW,
        *,
        base: Base | None = None,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(labels, window, Pieces(tokenizer, encoder))
        self.encoder = encoder
        self.base = base
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(encoder.config.hidden_size, len(labels.names))

    def forward(self, **batch: Tensor) -> Tensor:
        """Return the logits: tensors of (rows, longest) as the encoder takes them."""
        mean = self.pooled(**batch)
        with torch.autocast(mean.device.type, enabled=False):  # what is small in the mean may decide
            logits: Tensor = self.head(self.dropout(mean))
        return logits

    def pooled(self, **batch: Tensor) -> Tensor:
        """Return the mean of each row's last hidden states in float32, (rows, width)."""
        states = self.encoder(**batch).last_hidden_state.float()
        mask = batch["attention_mask"][..., None]
        mean: Tensor = (states * mask).sum(1) / mask.sum(1)
        return mean

    @property
    def adapter(self) -> dict[str, float] | None:
        """Return rank and alpha of the LoRA adapter that the encoder has, if it has one."""
        configs = getattr(self.encoder, "peft_config", None)
        if not configs:
            return None
        config = configs["default"]
        return {"rank": config.r, "alpha": config.lora_alpha}

    def add_adapter(self, *, rank: int, alpha: float) -> None:
        """Freeze the encoder and put a fresh LoRA adapter on all its linear layers; the head stays trainable."""
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            task_type="FEATURE_EXTRACTION", r=rank, lora_alpha=alpha, target_modules="all-linear"
        )
        with quietly():
            self.encoder = get_peft_model(self.encoder, config)

    def merge_adapter(self) -> None:
        """Merge the adapter into the weights, if there is one."""
        if self.adapter is not None:
            self.encoder = self.encoder.merge_and_unload(safe_merge=True)


def batch_to(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Return the batch on ``device``."""
    return {name: tensor.to(device) for name, tensor in batch.items()}
