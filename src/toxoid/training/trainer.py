"""The trainer under all trainers: ``transformers.Trainer`` that resumes exactly and stops at NaN.

Checkpoints hold the trainable weights in safetensors. The state of optimiser, scheduler and random generators
is written by ``transformers.Trainer`` with ``torch.save`` and read back with ``weights_only=True``, which
refuses anything but plain data; it never leaves the checkpoint folder, which is removed after success.
"""

from __future__ import annotations

import gc
import math
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean as mean
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from safetensors.torch import load_file, save_file
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from toxoid.errors import ToxoidError
from toxoid.training import checkpoints
from toxoid.training.artifacts import Card, TrainingResult, save_output
from toxoid.training.batches import NOTHING, EpochSampler, epoch_order, shared_out
from toxoid.training.processes import is_main, process_count, wait_for_all
from toxoid.training.saving import writing
from toxoid.training.settings import TrainingConfig, steps_for, steps_per_epoch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from toxoid.engines.loading import LoadedModel
    from toxoid.progress import Progress, Task

Row = TypeVar("Row")
Row_co = TypeVar("Row_co", covariant=True)

WEIGHTS = "trainable.safetensors"

MAX_GRADIENT_NORM = 1.0

_NOTES = 10
"""How many lines with the loss a training says."""

_SCHEDULERS = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


class Diverged(ToxoidError):
    """The loss or the gradient is no longer a number."""


@dataclass
class History:
    """What a training has seen, over all its resumptions.

    Args:
        losses: One per optimiser step.
        tokens: That went through the model, padding not counted.
        seconds: Of training; what was lost by a kill is not counted.
        parts: What a loss is made of, where it has parts: by name, one value per optimiser step.
    """

    losses: list[float] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0
    parts: dict[str, list[float]] = field(default_factory=dict)


def training_arguments(
    kind: Any, config: TrainingConfig, *, steps: int, cpu: bool, bf16: bool, **own: Any
) -> Any:
    """Return the arguments of one of the trainers of ``transformers`` or TRL, everything that talks switched off.

    Args:
        kind: Their class.
        config: The settings.
        steps: Optimiser steps.
        cpu: Whether to stay on the CPU.
        bf16: Whether to run under bfloat16 autocast.
        own: Arguments of this trainer.
    """
    made = kind(
        max_steps=steps,
        learning_rate=config.learning_rate,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation,
        weight_decay=config.weight_decay,
        warmup_steps=config.warmup_steps,
        lr_scheduler_type=_SCHEDULERS[config.schedule],
        max_grad_norm=MAX_GRADIENT_NORM,
        optim="adamw_torch_fused",  # one kernel for all weights; torch has it for CPU and CUDA
        seed=config.seed,
        bf16=bf16,
        use_cpu=cpu,
        logging_nan_inf_filter=False,  # it would hide a NaN behind the mean of earlier losses
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=not cpu,
        push_to_hub=False,
        **own,
    )
    _ = made.device  # sets the number of GPUs, which is then corrected: no DataParallel in one process
    made._n_gpu = min(made.n_gpu, 1)
    return made


def _step_arguments(config: TrainingConfig, *, steps: int, folder: Path, cpu: bool, bf16: bool) -> Any:
    return training_arguments(
        TrainingArguments,
        config,
        steps=steps,
        cpu=cpu,
        bf16=bf16,
        output_dir=str(folder),
        save_strategy="steps" if config.save_steps else "no",
        save_steps=config.save_steps or 1,
        logging_strategy="no",  # the losses are collected step by step, see History
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,  # all that is trainable is used; looking for more costs every step
        ddp_broadcast_buffers=False,  # they never change, and processes may go forward unlike often in a step
    )


class Rows(Protocol[Row_co]):
    """Rows by number, such as a list of them."""

    def __getitem__(self, index: int, /) -> Row_co:
        """Return a row."""


class StepTrainer(Trainer):  # type: ignore[misc]  # transformers is not typed
    """``transformers.Trainer`` over tokenised rows; a subclass gives :meth:`batch_loss` and :meth:`loss_total`.

    :meth:`batch_loss` has to return a loss already divided by ``total``, the total over all
    micro-batches of the optimiser step. So the loss of a step does not depend on how it is cut into
    micro-batches, nor on how many processes a launcher has started to share it: these go through the same order
    of rows together, sum their totals, and the main one alone writes.

    Args:
        model: To be trained in place.
        config: The settings.
        rows: The examples.
        lengths: Of the rows, in tokens: rows of about one length go together.
        idle: What a process gets that has no row in a pass; goes forward like a row and has no say.
        collator: Rows to tensors; the result has ``lengths``, the number of tokens of each row.
        folder: For the checkpoints; used by this training alone.
        fingerprint: What the training depends on (JSON values): a checkpoint of another one is refused.
        bf16: Whether to run under bfloat16 autocast.
        progress: Where to report.
    """

    loss_is_scaled_for_ga = True
    part_names: Sequence[str] = ()
    """What the loss is made of: at every step every process has the same, though it may have seen none of one."""

    def __init__(
        self,
        *,
        model: nn.Module,
        config: TrainingConfig,
        rows: Rows[Row],
        lengths: Sequence[int],
        idle: Row,
        collator: Callable[[Sequence[Row]], dict[str, Any]],
        folder: Path,
        fingerprint: Mapping[str, Any],
        bf16: bool,
        progress: Progress,
    ) -> None:
        self.config = config
        self.folder = folder
        self.history = History()
        self._fingerprint = fingerprint
        self._progress = progress
        self._task: Task | None = None
        self._lengths = lengths
        self._step_loss, self._step_tokens = 0.0, 0
        self._step_parts: Counter[str] = Counter()
        self._earlier_seconds = 0.0
        self._started = time.monotonic()
        self._last_saved: int | None = None
        cpu = next(model.parameters()).device.type == "cpu"
        steps = steps_for(config, len(lengths), process_count())
        super().__init__(
            model=model,
            args=_step_arguments(config, steps=steps, folder=folder, cpu=cpu, bf16=bf16),
            data_collator=partial(_of_those_there, collator, idle),
            train_dataset=_WithGaps(rows, len(lengths)),
            callbacks=[_StepEnd(self._step_done)],
        )
        self.remove_callback(PrinterCallback)

    def run(self) -> History:
        """Train to the end, from the last whole checkpoint in the folder if there is one.

        Raises:
            UsageError: The checkpoint belongs to another training, or the disk refuses.
            Diverged: The loss or the gradient became infinite or NaN.
        """
        start = checkpoints.last_whole(self.folder)
        if start is not None:
            self.history = History(**checkpoints.read_history(start, self._fingerprint))
            self._last_saved = len(self.history.losses)
            self._progress.note(f"continuing the training after step {self._last_saved}")
        wait_for_all()  # nobody removes what another still reads
        if is_main():
            checkpoints.keep_only(self.folder, start)
        self._earlier_seconds, self._started = self.history.seconds, time.monotonic()
        with self._progress.task("train", self.args.max_steps, "steps") as self._task:
            self._task.advance(len(self.history.losses))
            with _short_collections(), warnings.catch_warnings():
                # accelerate knows no other way yet to say that buffers need no sending
                warnings.filterwarnings("ignore", category=FutureWarning, message=".*broadcast_buffers.*")
                self.train(resume_from_checkpoint=None if start is None else str(start))
        self._clock()
        return self.history

    def publish(
        self, loaded: LoadedModel, output: Path, *, cut: int, dropped: int, card: Card | None
    ) -> TrainingResult:
        """Save what was trained and remove the checkpoints.

        Args:
            loaded: The model it started from.
            output: Folder of the result.
            cut: Rows that lost the beginning of their context.
            dropped: Rows left out as too long.
            card: What the model card says beyond what is known here.

        Raises:
            UsageError: The disk refuses.
        """
        result = TrainingResult(
            path=output,
            kind="adapter" if self.config.trains_adapter else "model",
            steps=len(self.history.losses),
            seconds=self.history.seconds,
            tokens=self.history.tokens,
            losses=tuple(self.history.losses),
            examples=len(self._lengths),
            cut=cut,
            dropped=dropped,
        )
        whole = self.accelerator.get_state_dict(self.model_wrapped) if self._is_sharded else None
        if is_main():
            save_output(
                self.model, loaded, result, fingerprint=self._fingerprint, card=card or Card(), weights=whole
            )
            checkpoints.remove_all(self.folder)
        wait_for_all()
        return result

    @property
    def _is_sharded(self) -> bool:
        """Whether a process may hold only a part of every weight; to gather them takes all processes."""
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def loss_total(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return what the losses of one micro-batch have to be divided by in sum: a scalar, or one for each part."""
        raise NotImplementedError

    def batch_loss(self, model: nn.Module, batch: Mapping[str, Any], total: Tensor) -> Tensor:
        """Return the loss of one micro-batch, divided by the ``total`` of its whole step."""
        raise NotImplementedError

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the loss of one micro-batch as ``transformers.Trainer`` wants it."""
        loss = self.batch_loss(model, inputs, num_items_in_batch)
        return (loss, {}) if return_outputs else loss

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Run forward and backward for one micro-batch; stop where the loss is not a number.

        Raises:
            Diverged: The loss is infinite or NaN. No weight has been changed by it.
        """
        self._step_tokens += int(inputs["lengths"].sum())
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)
        self._step_loss += loss.item()
        self._demand_finite("loss", self._step_loss)
        return loss

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Return 0: nobody reads the count, and making it visits every weight at every step."""
        return 0

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        norm = super()._clip_grad_norm(model)
        if norm is not None:  # DeepSpeed clips by itself, and has no norm to tell before the first step
            self._demand_finite("gradient norm", float(norm))
        return norm

    def _demand_finite(self, what: str, value: float) -> None:
        if math.isfinite(value):
            return
        kept = f"the checkpoint of step {self._last_saved} is kept in {self.folder}"
        raise Diverged(
            f"training diverged at step {self.state.global_step + 1} of {self.args.max_steps}: the {what} is "
            f"{value}. Lower learning_rate (now {self.config.learning_rate:g})"
            f"{' or set bf16 to false' if self.args.bf16 else ''}; "
            f"{'no checkpoint was written yet' if self._last_saved is None else kept}"
        )

    def record(self, parts: Mapping[str, Tensor]) -> None:
        """Add to what is told of the current step beside its loss; the micro-batches' shares add up."""
        values = torch.stack([part.detach().float() for part in parts.values()]).tolist()
        self._step_parts.update(dict(zip(parts, values, strict=True)))

    def order(self, epoch: int) -> Sequence[int]:
        """Return the row numbers of an epoch, in the order in which all processes together see them."""
        batch_size = self.config.batch_size * process_count()
        return epoch_order(self._lengths, batch_size=batch_size, seed=self.config.seed, epoch=epoch)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor:
        total = torch.stack([self.loss_total(batch) for batch in batch_samples]).sum(0).to(device)
        if process_count() > 1:  # gradients are averaged over the processes, not summed
            total = self.accelerator.reduce(total, "mean")
        return total

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:
        size, processes = self.config.batch_size, process_count()
        per_epoch = steps_per_epoch(self.config, len(self._lengths), processes)
        cut = partial(shared_out, batch_size=size, processes=processes)
        return EpochSampler(
            lambda epoch: cut(self.order(epoch)),
            epoch=lambda: self.state.global_step // per_epoch,
            size=len(cut(range(len(self._lengths)))),
        )

    def _step_done(self, step: int) -> None:
        names = self.part_names
        means = [self._step_loss, *(self._step_parts[name] for name in names)]
        tokens = self._step_tokens
        if process_count() > 1:
            found = torch.tensor([*means, tokens], dtype=torch.float64).float().to(self.args.device)
            *means, mean_tokens = self.accelerator.reduce(found, "mean").tolist()
            tokens = round(mean_tokens * process_count())
        self.history.losses.append(means[0])
        for name, value in zip(names, means[1:], strict=True):
            self.history.parts.setdefault(name, []).append(value)
        self.history.tokens += tokens
        self._step_loss, self._step_tokens = 0.0, 0
        self._step_parts.clear()
        if self._task is not None:
            self._task.advance()
        every = max(1, self.args.max_steps // _NOTES)
        if step % every == 0:
            self._progress.note(f"step {step} of {self.args.max_steps}: {self._told(every)}")

    def _told(self, steps: int) -> str:
        """Return the means of the last ``steps`` steps in words."""
        told = {"loss": self.history.losses, **self.history.parts}
        return ", ".join(f"{name} {mean(values[-steps:]):.4f}" for name, values in told.items())

    def _clock(self) -> None:
        self.history.seconds = self._earlier_seconds + time.monotonic() - self._started

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        written = self.folder / f"checkpoint-{self.state.global_step}"
        with writing(written):
            super()._save_checkpoint(model, trial)
        self._clock()
        wait_for_all()  # each process writes its own random state
        if is_main():
            with writing(written):
                checkpoints.seal(written, self._fingerprint, asdict(self.history))
            checkpoints.keep_only(self.folder, written)
        self._last_saved = self.state.global_step

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """Write the trainable weights under their own names; the rest is in the base model.

        All processes come here. ``state_dict`` is given where each of them holds only a part of every weight.
        """
        if not is_main():
            return
        folder = Path(output_dir or self.args.output_dir)
        os.makedirs(folder, exist_ok=True)
        weights = trainable(self.model)
        if state_dict is not None:
            weights = {name: state_dict[name].contiguous() for name in weights}
        save_file(weights, folder / WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self.is_fsdp_enabled:  # each process reads its part of the weights
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        restore(self.model if model is None else model, resume_from_checkpoint)


class _StepEnd(TrainerCallback):  # type: ignore[misc]
    """Calls back after each optimiser step; spares the checkpoint of the last one: the result follows it."""

    def __init__(self, done: Callable[[int], None]) -> None:
        self._done = done

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Report the step."""
        self._done(state.global_step)
        if state.global_step >= state.max_steps:
            control.should_save = False
        return control


@contextmanager
def _short_collections() -> Iterator[None]:
    """Spare the garbage collector what already exists.

    ``transformers.Trainer`` collects before its first step, which visits the hundred thousands of objects of
    the imported libraries: a quarter of a second, more than many a short training of a small model.
    """
    if gc.get_freeze_count():  # the caller has frozen objects, and thawing is all or nothing
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class _WithGaps:
    """Rows by number; :data:`toxoid.training.batches.NOTHING` is a row that is not there."""

    def __init__(self, rows: Rows[Any], size: int) -> None:
        self._rows = rows
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> Any:
        return None if index == NOTHING else self._rows[index]


def _of_those_there(
    collator: Callable[[Sequence[Any]], dict[str, Any]], idle: Any, rows: Sequence[Any]
) -> Any:
    return collator([row for row in rows if row is not None] or [idle])


def restore(model: Any, checkpoint: str) -> None:
    """Read the trainable weights of a checkpoint into ``model``.

    Raises:
        ToxoidError: They are those of another model.
    """
    saved = load_file(Path(checkpoint) / WEIGHTS)
    present = trainable(model)
    if saved.keys() != present.keys():
        raise ToxoidError(f"{checkpoint} does not hold the weights of this model: delete it to start afresh")
    for name, weight in present.items():
        weight.copy_(saved[name])


def trainable(model: Any) -> dict[str, Tensor]:
    """Return the weights that are trained, by name."""
    return {name: weight.data for name, weight in model.named_parameters() if weight.requires_grad}
