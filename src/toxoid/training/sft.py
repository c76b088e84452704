"""Supervised fine-tuning: learn target replies in their contexts, with LoRA or in full."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toxoid.errors import ToxoidError, UsageError
from toxoid.progress import SILENT
from toxoid.training.artifacts import Card, TrainingResult, check_output
from toxoid.training.batches import Collator
from toxoid.training.copies import trainable_copy
from toxoid.training.determinism import seeded
from toxoid.training.examples import (
    Example,
    TokenisedExample,
    TokenisedExamples,
    data_hash,
    token_limit,
    tokenise,
)
from toxoid.training.fingerprint import training_fingerprint
from toxoid.training.losses import weighted_cross_entropy
from toxoid.training.precision import use_bf16
from toxoid.training.processes import is_main
from toxoid.training.settings import TrainingConfig, steps_for
from toxoid.training.trainer import StepTrainer

if TYPE_CHECKING:
    from torch import Tensor, nn

    from toxoid.engines.loading import LoadedModel
    from toxoid.progress import Progress

__all__ = ["SFTConfig", "TrainingResult", "steps_for", "train_sft"]


@dataclass(frozen=True, kw_only=True)
class SFTConfig(TrainingConfig):
    """Settings of supervised fine-tuning."""


class SFTTrainer(StepTrainer):
    """Weighted token-mean cross-entropy over the targets of an optimiser step.

    Args:
        model: A causal language model, or a PEFT model around one.
        pad: The id to pad rows with.
        given: The arguments of :class:`toxoid.training.trainer.StepTrainer`, the collator apart.
    """

    def __init__(self, *, model: Any, pad: int, **given: Any) -> None:
        self._narrow = accepts_logits_to_keep(model)
        super().__init__(model=model, collator=Collator(pad=pad, narrow=self._narrow), **given)

    def loss_total(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the sum of the target tokens' weights."""
        return batch["weights"].sum()

    def batch_loss(self, model: nn.Module, batch: Mapping[str, Any], total: Tensor) -> Tensor:
        """Return the loss of one micro-batch as its share of the step's loss."""
        narrow = {"logits_to_keep": batch["positions"]} if self._narrow else {}
        outputs = model(input_ids=batch["input_ids"], use_cache=False, **narrow)
        if outputs.logits.shape[1] != len(batch["positions"]):
            raise ToxoidError(
                "the model did not return logits for the positions asked for: it cannot be trained"
            )
        logits = outputs.logits.flatten(0, 1)[batch["picked"]]
        return weighted_cross_entropy(logits, batch["targets"], batch["weights"], total)


def train_sft(
    loaded: LoadedModel,
    examples: Sequence[Example],
    config: SFTConfig,
    *,
    output: Path,
    checkpoints: Path,
    progress: Progress,
    card: Card | None = None,
) -> TrainingResult:
    """Fine-tune a copy of a model on examples and save the result.

    The caller's model is not changed: an adapter is trained over the same memory (its base is frozen), full
    training takes a copy in float32. Called again after a kill with the same arguments it continues from the
    last whole checkpoint, and ends with the same weights, bit for bit on one machine with as many threads.
    The training runs where the model lies, on CPU or GPU.

    Args:
        loaded: The model to start from.
        examples: What to learn.
        config: How.
        output: Folder of the result: a PEFT adapter, or a model with tokenizer and template; and a model
            card. It appears whole or not at all; an earlier result there is replaced.
        checkpoints: Folder for this training's checkpoints, removed after success.
        progress: Where to report.
        card: What the model card should say beyond what is known here.

    Raises:
        UsageError: No example fits, ``output`` holds something else, the checkpoints belong to another
            training, or the disk refuses.
        Diverged: The loss became infinite or NaN; the last checkpoint is kept.
    """
    check_output(output)
    progress = progress if is_main() else SILENT
    rows = _tokenised(examples, loaded, config, progress)
    parameters = sum(weight.numel() for weight in loaded.model.parameters())
    bf16 = use_bf16(config.bf16, device=loaded.model.device.type, parameters=parameters)
    fingerprint = training_fingerprint("sft", loaded, config, data=data_hash(rows), rows=len(rows), bf16=bf16)
    with seeded(config.seed, config.threads):
        trainer = SFTTrainer(
            model=trainable_copy(loaded.model, config),
            config=config,
            rows=rows,
            lengths=[len(row.input_ids) for row in rows],
            idle=TokenisedExample(rows[0].input_ids, rows[0].labels, weight=0.0),
            pad=loaded.tokenizer.pad_token_id or 0,
            folder=checkpoints,
            fingerprint=fingerprint,
            bf16=bf16,
            progress=progress,
        )
        trainer.run()
    return trainer.publish(loaded, output, cut=rows.cut, dropped=rows.dropped, card=card)


def accepts_logits_to_keep(model: Any) -> bool:
    """Return whether the model's forward pass can be asked for some positions' logits only."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(type(base).forward).parameters


def _tokenised(
    examples: Sequence[Example], loaded: LoadedModel, config: SFTConfig, progress: Progress
) -> TokenisedExamples:
    if not examples:
        raise UsageError("there are 0 examples to train on: give at least one")
    limit = token_limit(loaded.model, config.max_length)
    rows = tokenise(examples, loaded.tokenizer, limit)
    if not rows:
        raise UsageError(
            f"none of {len(examples)} examples fits into {limit} tokens with its whole target: raise "
            "max_length (up to the model's context window) or give shorter targets"
        )
    if rows.cut or rows.dropped:
        progress.note(
            f"of {len(examples)} examples, {rows.cut} lost the beginning of their context and {rows.dropped} "
            f"were left out: longer than {limit} tokens (max_length, or the model's context window)"
        )
    return rows
