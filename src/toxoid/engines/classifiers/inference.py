"""Fast inference: windows of about one length together, in bfloat16 where the processor multiplies in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from toxoid.engines import precision
from toxoid.engines.classifiers.base import Labels, Probabilities, Text
from toxoid.engines.classifiers.hashes import tensors_hash
from toxoid.engines.classifiers.modules import BagOfWordsModule, ClassifierModule, batch_to
from toxoid.engines.classifiers.windows import Row

_CPU_TOKENS = 1024
_GPU_TOKENS = 16384
"""Of one forward pass, padding included: on a CPU not more than its caches hold the states of."""

_TOGETHER = 1_000_000
"""Characters tokenised at once: a million make about 250000 tokens, some 20 MB of Python numbers."""


class ModuleClassifier:
    """A :class:`~toxoid.engines.classifiers.base.TextClassifier` over a module, which is not to be changed meanwhile.

    Args:
        module: What classifies; put into eval mode.
        name: For people.
        bf16: Whether to multiply in bfloat16; ``None`` is where that is faster.
        identity: In place of :func:`identity_of` the module: what it was before its adapter was merged.
    """

    def __init__(
        self,
        module: ClassifierModule,
        *,
        name: str = "",
        bf16: bool | None = None,
        identity: dict[str, Any] | None = None,
    ) -> None:
        self.module = module.eval()
        self.name = name or module.kind
        self.labels: Labels = module.labels
        self._device = next(module.parameters()).device
        self._most = _CPU_TOKENS if self._device.type == "cpu" else _GPU_TOKENS
        self._bf16 = bf16_pays(module) if bf16 is None else bf16
        self._identity = identity or identity_of(module)

    def identity(self) -> dict[str, Any]:
        """Return the hashes of weights and tokenizer, and the settings; the precision is none of it."""
        return self._identity

    def probabilities(self, texts: Sequence[Text]) -> Probabilities:
        """Return a row per text and a column per label; a row of NaN for a text without a readable token.

        A text's windows are joined as :func:`joined` says, then the temperature T is applied: p ~ exp(log p / T)
        (Guo et al. 2017, section 4.2).
        """
        return softmax(self.log_probabilities(texts) / self.module.temperature)

    def log_probabilities(self, texts: Sequence[Text]) -> NDArray[np.float64]:
        """Return the same at temperature 1, as logarithms: what a calibration reads."""
        parts = [self._read(texts[part]) for part in _portions(texts)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.labels.names)))

    def _read(self, texts: Sequence[Text]) -> NDArray[np.float64]:
        rows = self.module.rows(texts)
        logits = np.empty((len(rows), len(self.labels.names)))
        order = sorted(
            range(len(rows)), key=lambda index: -len(rows[index])
        )  # the largest batch is the first
        with torch.inference_mode(), self._precision():
            for batch in _batches(rows, order, tokens=self._most):
                tensors = batch_to(self.module.collate([rows[index] for index in batch]), self._device)
                logits[batch] = self.module(**tensors).double().cpu().numpy()
        return joined(logits, [row.text for row in rows], len(texts), self.labels)

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast(self._device.type, torch.bfloat16) if self._bf16 else nullcontext()


def joined(
    logits: NDArray[np.float64], owners: Sequence[int], count: int, labels: Labels
) -> NDArray[np.float64]:
    """Return the log-probabilities of texts, (count, labels), from the logits of their windows, (rows, labels).

    Of a text with several windows: where a part is enough for a hit (:attr:`Labels.anywhere`), those of the window
    with the highest log-odds of a hit; otherwise the mean over the windows, normalised again. A text without a
    window is a row of NaN.

    Args:
        logits: Of the windows, in the order of their texts.
        owners: The number of each window's text, ascending.
        count: Of the texts.
        labels: What they are about.
    """
    found = np.full((count, logits.shape[1]), np.nan)
    if not len(owners):
        return found
    single = log_softmax(logits)
    first = np.flatnonzero(np.diff(owners, prepend=-1))
    if labels.anywhere:
        odds = _log_odds(single, labels)
        ends = [*first[1:], len(owners)]
        kept = [start + int(odds[start:end].argmax()) for start, end in zip(first, ends, strict=True)]
        found[np.asarray(owners)[first]] = single[kept]
    else:
        sizes = np.diff([*first, len(owners)])
        means = np.add.reduceat(single, first) / sizes[:, None]
        found[np.asarray(owners)[first]] = log_softmax(means)
    return found


def _log_odds(log_probabilities: NDArray[np.float64], labels: Labels) -> NDArray[np.float64]:
    """Return the log-odds of a hit, one per row."""
    others = [index for index in range(len(labels.names)) if index not in labels.columns]
    hit, miss = (np.logaddexp.reduce(log_probabilities[:, part], axis=1) for part in (labels.columns, others))
    odds: NDArray[np.float64] = hit - miss
    return odds


def _portions(texts: Sequence[Text]) -> Iterator[slice]:
    """Yield parts of the texts of about a million characters each."""
    start = characters = 0
    for index, text in enumerate(texts):
        characters += len(text) if isinstance(text, str) else len(text[0]) + len(text[1])
        if characters >= _TOGETHER:
            yield slice(start, index + 1)
            start, characters = index + 1, 0
    if start < len(texts):
        yield slice(start, len(texts))


def _batches(rows: Sequence[Row], order: Sequence[int], *, tokens: int) -> Iterator[list[int]]:
    """Yield the numbers of the rows of each pass, of so many tokens at most; ``order`` begins with the longest."""
    start = 0
    while start < len(order):
        size = max(1, tokens // len(rows[order[start]]))
        yield list(order[start : start + size])
        start += size


def bf16_pays(module: ClassifierModule) -> bool:
    """Return whether a module is faster in bfloat16; a bag of words multiplies no matrices."""
    weights = list(module.parameters())
    size = sum(weight.numel() for weight in weights)
    return module.kind != BagOfWordsModule.kind and precision.bf16_pays(weights[0].device.type, size)


def identity_of(module: ClassifierModule) -> dict[str, Any]:
    """Return what a module's probabilities depend on, JSON values only."""
    labels = asdict(module.labels) | {
        "names": list(module.labels.names),
        "positive": sorted(module.labels.positive),
    }
    return {
        "classifier": module.kind,
        "weights": tensors_hash(module, adapter=True),
        "tokenizer": module.tokenizer_hash(),
        "window": asdict(module.window),
        "labels": labels,
        "temperature": module.temperature,
    }


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithms of the normalised rows."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    normalised: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalised


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the normalised exponentials of the rows; a row with NaN is one of NaN."""
    return np.exp(log_softmax(logits))
