"""Other people's classifiers: any ``AutoModelForSequenceClassification``, with the meaning of its labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toxoid.engines.classifiers.base import Labels
from toxoid.engines.classifiers.encoders import fitting, load_tokenizer
from toxoid.engines.classifiers.modules import TransformerModule
from toxoid.engines.classifiers.pieces import Pieces
from toxoid.engines.classifiers.windows import WINDOW, Window
from toxoid.engines.loading import read_weights
from toxoid.errors import UsageError, did_you_mean

_HARM = re.compile(
    r"\b(unsafe|toxic|toxicity|harmful|malicious|problematic|injection|jailbreak|abusive|hate)\b"
)
_DENIAL = re.compile(r"\b(no|non|not)\b")
_UNNAMED = ["label_0", "label_1"]


class SequenceModule(TransformerModule):
    """A classifier of ``transformers``, as it was trained.

    Args:
        model: Gives ``logits``.
        tokenizer: A fast one.
        labels: What it tells apart.
        window: What it reads at once.
        picked: Of a model whose labels do not exclude each other, the indices of those that are hits: the highest of
            their logits is then the log-odds of a hit. ``None`` of a model with one label per text.
    """

    kind = "sequence"

    def __init__(
        self, model: Any, tokenizer: Any, labels: Labels, window: Window, *, picked: Sequence[int] | None
    ) -> None:
        super().__init__(labels, window, Pieces(tokenizer, model))
        self.model = model
        self.picked = picked

    def forward(self, **batch: Tensor) -> Tensor:
        """Return the logits: tensors of (rows, longest) as the model takes them."""
        logits: Tensor = self.model(**batch).logits
        if self.picked is None:
            return logits
        odds = logits[:, list(self.picked)].amax(1)
        return torch.stack([torch.zeros_like(odds), odds], dim=1)


def load_sequence(folder: Path, *, name: str, positive: Sequence[str] = ()) -> SequenceModule:
    """Load a classifier of ``transformers`` as one of requests.

    Args:
        folder: With config, weights and tokenizer, that were checked.
        name: What the user called it.
        positive: The labels that are hits; by default those that speak of harm.

    Raises:
        UsageError: It cannot be loaded, or it is not known which of its labels are hits.
    """
    model, tokenizer = _load(folder), load_tokenizer(folder)
    names = tuple(str(model.config.id2label[index]) for index in range(model.config.num_labels))
    exclusive = len(names) > 1 and model.config.problem_type != "multi_label_classification"
    hits = hits_among(names, positive, name=name, exclusive=exclusive)
    picked = None if exclusive else [names.index(hit) for hit in hits]
    known = names if exclusive else ("none of them", ", ".join(hits))
    labels = Labels(known, frozenset(hits if exclusive else known[1:]), "problematic")
    if model.config.pad_token_id is None:  # models that read their last token need to know which that is
        model.config.pad_token_id = tokenizer.pad_token_id or 0
    return SequenceModule(model, tokenizer, labels, fitting(WINDOW, model, tokenizer), picked=picked)


def hits_among(
    names: Sequence[str], positive: Sequence[str], *, name: str, exclusive: bool = True
) -> list[str]:
    """Return which labels are hits: those that were named, or those that speak of harm.

    Args:
        names: All labels.
        positive: Those that were named; may be none.
        name: Of the classifier.
        exclusive: Whether a text has one label, so that one of them must be no hit.

    Raises:
        UsageError: One that was named does not exist, none speaks of harm, or all are hits.
    """
    told = ", ".join(names)
    for label in positive:
        if label not in names:
            raise UsageError(f'{name} has no label "{label}".{did_you_mean(label, names)} It has: {told}.')
    hits = list(positive) or [label for label in names if _speaks_of_harm(label)]
    if not hits and [label.lower() for label in names] == _UNNAMED:
        hits = [names[1]]
    if exclusive and len(set(hits)) == len(names):
        raise UsageError(f"all labels of {name} would be hits ({told}): name fewer")
    if not hits:
        raise UsageError(
            f"{name} has the labels {told}, and does not say which of them means a problematic request: "
            f"name it, {name}:LABEL"
        )
    return hits


def _speaks_of_harm(label: str) -> bool:
    words = re.sub(r"[\W_]+", " ", label.lower())
    return bool(_HARM.search(words)) and not _DENIAL.search(words)


def _load(folder: Path) -> Any:
    from transformers import AutoModelForSequenceClassification

    model, missing = read_weights(
        AutoModelForSequenceClassification, folder, torch.float32, what="classifier"
    )
    if missing:
        raise UsageError(
            f"the weights in {folder} are no classifier's: {len(missing)} tensors are missing, first {missing[0]}; "
            "to train one on this encoder, use `toxoid judge train --start`"
        )
    return model
