"""What both of TRL's trainers need here: exact resumption, progress, silence."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from safetensors.torch import save_file
from transformers import PrinterCallback, TrainerCallback

from toxoid.training import checkpoints
from toxoid.training.copies import lora_config, quiet_peft
from toxoid.training.saving import writing
from toxoid.training.settings import TrainingConfig
from toxoid.training.trainer import WEIGHTS, Diverged, restore, trainable, training_arguments

if TYPE_CHECKING:
    from toxoid.progress import Progress

_NOTES = 5


def arguments(kind: Any, config: TrainingConfig, *, steps: int, cpu: bool, bf16: bool, **own: Any) -> Any:
    """Return the arguments of one of TRL's trainers; see :func:`toxoid.training.trainer.training_arguments`."""
    with warnings.catch_warnings():
        # by its old name: the new one came with transformers 5.23
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*gradient_checkpointing.*")
        return training_arguments(
            kind,
            config,
            steps=steps,
            cpu=cpu,
            bf16=bf16,
            gradient_checkpointing=False,
            save_strategy="steps",
            save_steps=config.save_steps or steps,
            logging_strategy="steps",
            logging_steps=1,
            **own,
        )


def adapter_config(config: TrainingConfig, task: Literal["CAUSAL_LM", "SEQ_CLS"]) -> Any:
    """Return the adapter that TRL shall train, or ``None`` for all weights."""
    if not config.trains_adapter:
        return None
    return lora_config(rank=config.lora_rank, alpha=config.alpha, task=task)


@contextmanager
def quietly() -> Iterator[None]:
    """Silence the bars and remarks of TRL's trainers and of what they call."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with quiet_peft():
            yield
    finally:
        if shown:
            logging.enable_progress_bar()


class Resumable:
    """Mixed into one of TRL's trainers: continues exactly after a kill, and reports.

    A checkpoint holds the trainable weights in safetensors; see :mod:`toxoid.training.checkpoints` for when it
    counts. The last one stays until the whole of RLHF is done, so that a finished model is not trained again.
    """

    def run(
        self,
        folder: Path,
        fingerprint: Mapping[str, Any],
        progress: Progress,
        *,
        name: str,
        told: Mapping[str, str],
    ) -> float:
        """Train to the end, from the last whole checkpoint if there is one.

        Args:
            folder: For the checkpoints.
            fingerprint: What the training depends on.
            progress: Where to report.
            name: Of the task.
            told: What is said of the steps: names, by the names that TRL has for them.

        Returns:
            Seconds of training, those before a resumption included.

        Raises:
            UsageError: The checkpoint belongs to another training, or the disk refuses.
            Diverged: The loss or the gradient became infinite or NaN.
        """
        trainer: Any = self
        trainer.args.output_dir = str(folder)
        start = checkpoints.last_whole(folder)
        earlier = 0.0 if start is None else checkpoints.read_history(start, fingerprint)["seconds"]
        checkpoints.keep_only(folder, start)
        self._fingerprint, self._started = fingerprint, time.monotonic() - earlier
        with progress.task(name, trainer.args.max_steps, "steps") as task:
            if start is not None:
                task.advance(int(start.name.rpartition("-")[2]))
            trainer.remove_callback(PrinterCallback)
            trainer.add_callback(_Reporter(task.advance, progress, name, told))
            with quietly():
                trainer.train(resume_from_checkpoint=None if start is None else str(start))
        return time.monotonic() - self._started

    def series(self, name: str) -> list[float]:
        """Return what was logged under a name, one value per optimiser step."""
        return [entry[name] for entry in self.state.log_history if name in entry]  # type: ignore[attr-defined]

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write none: the result has its own."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        trainer: Any = self
        written = Path(trainer.args.output_dir) / f"checkpoint-{trainer.state.global_step}"
        with writing(written):
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
            history = {"seconds": time.monotonic() - self._started}
            checkpoints.seal(written, self._fingerprint, history)
        checkpoints.keep_only(written.parent, written)

    def _save(self, output_dir: str, state_dict: Any = None) -> None:
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        save_file(trainable(self.model), Path(output_dir) / WEIGHTS)  # type: ignore[attr-defined]

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        restore(self.model, resume_from_checkpoint)  # type: ignore[attr-defined]


class _Reporter(TrainerCallback):  # type: ignore[misc]
    """Says how far a training is, and stops it where a number is none."""

    def __init__(
        self, advance: Callable[[], None], progress: Progress, name: str, told: Mapping[str, str]
    ) -> None:
        self._advance = advance
        self._progress = progress
        self._name = name
        self._told = told

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count the step."""
        self._advance()

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Check the numbers of the step, and tell the means of some steps."""
        latest = state.log_history[-1]
        for what in ("loss", "grad_norm"):
            if not math.isfinite(latest.get(what, 0.0)):
                raise Diverged(
                    f"{self._name} diverged at step {state.global_step} of {state.max_steps}: {what} is "
                    f"{latest[what]}. Lower learning_rate (now {args.learning_rate:g})"
                )
        every = max(1, state.max_steps // _NOTES)
        if "loss" in latest and state.global_step % every == 0:
            self._progress.note(
                f"{self._name}: step {state.global_step} of {state.max_steps}: "
                + self._means(state.log_history[-every:])
            )

    def _means(self, entries: Sequence[Mapping[str, float]]) -> str:
        means = {
            name: fmean(entry[key] for entry in entries if key in entry)
            for key, name in self._told.items()
            if any(key in entry for entry in entries)
        }
        return ", ".join(f"{name} {value:.3f}" for name, value in means.items())
