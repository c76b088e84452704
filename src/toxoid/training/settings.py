"""What every trainer can be told: how long, how fast, which weights, how exact."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from importlib.util import find_spec
from typing import Any, Literal, get_args

from toxoid.errors import UsageError, did_you_mean

Mode = Literal["lora", "qlora", "full"]
Schedule = Literal["cosine", "linear", "constant"]
Bf16 = bool | Literal["auto"]

_POSITIVE = ("learning_rate", "epochs", "batch_size", "gradient_accumulation", "lora_rank", "max_length")
_OPTIONAL_POSITIVE = ("max_steps", "lora_alpha", "threads")
_NOT_NEGATIVE = ("weight_decay", "warmup_steps", "save_steps", "seed")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Settings of one training; the recipe's ``training`` section has the same names.

    Args:
        mode: ``lora`` trains an adapter on all linear layers, ``qlora`` one above weights in 4 bits (Dettmers et al.
            2023, arXiv 2305.14314), ``full`` every weight.
        learning_rate: The highest, of AdamW.
        epochs: Passes over the examples; may be a fraction.
        max_steps: Optimiser steps, in place of ``epochs``.
        batch_size: Rows per forward pass; under a distributed launcher, of each process.
        gradient_accumulation: Forward passes per optimiser step.
        lora_rank: Rank of the adapter.
        lora_alpha: Scale of the adapter, ``alpha / rank``; ``None`` is twice the rank.
        weight_decay: Of AdamW; norms and biases are exempt.
        warmup_steps: Optimiser steps of linear warm-up.
        schedule: What the learning rate does after it; ``cosine`` and ``linear`` end at 0.
        max_length: Tokens per row.
        save_steps: Optimiser steps between checkpoints; 0 for none.
        bf16: bfloat16 autocast; ``auto`` where it pays (:func:`toxoid.training.precision.use_bf16`).
        seed: Of the order of examples, of the adapter's start and of dropout.
        threads: Torch threads during the training; ``None`` leaves them as they are. Another number adds up
            in another order, so exact repetition needs the same one.

    Raises:
        UsageError: A value is out of range.
    """

    mode: Mode = "lora"
    learning_rate: float = 2e-4
    epochs: float = 3.0
    max_steps: int | None = None
    batch_size: int = 16
    gradient_accumulation: int = 1
    lora_rank: int = 16
    lora_alpha: float | None = None
    weight_decay: float = 0.0
    warmup_steps: int = 0
    schedule: Schedule = "cosine"
    max_length: int = 1024
    save_steps: int = 100
    bf16: Bf16 = "auto"
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        one_of("mode", self.mode, get_args(Mode))
        one_of("schedule", self.schedule, get_args(Schedule))
        if self.bf16 not in (True, False, "auto"):
            raise UsageError(f"bf16 is {self.bf16!r}: give true, false or auto")
        for field in fields(self):
            _in_range(field.name, getattr(self, field.name))

    @property
    def trains_adapter(self) -> bool:
        """Return whether an adapter is trained, and not the model's own weights."""
        return self.mode != "full"

    @property
    def alpha(self) -> float:
        """Return the adapter's alpha, twice the rank unless it is given."""
        return 2 * self.lora_rank if self.lora_alpha is None else self.lora_alpha


def steps_per_epoch(config: TrainingConfig, n_examples: int, processes: int = 1) -> int:
    """Return the optimiser steps of one pass over ``n_examples``, of so many processes together."""
    batches = math.ceil(n_examples / (config.batch_size * processes))
    return math.ceil(batches / config.gradient_accumulation)


def steps_for(config: TrainingConfig, n_examples: int, processes: int = 1) -> int:
    """Return how many optimiser steps ``config`` means for ``n_examples``: ``max_steps``, or its epochs.

    Count the examples that are trained on: those too long to fit are not among them.

    Raises:
        UsageError: There are no examples.
    """
    if n_examples < 1:
        raise UsageError("there are 0 examples to train on: give at least one")
    return config.max_steps or math.ceil(config.epochs * steps_per_epoch(config, n_examples, processes))


def demand_package(name: str, *, extra: str, what: str) -> None:
    """Refuse ``what`` without an optional package.

    Args:
        name: Of the package, as it is imported.
        extra: Of toxoid, which installs it.
        what: What needs it.

    Raises:
        UsageError: It is not installed.
    """
    if find_spec(name) is None:
        raise UsageError(
            f'{what} needs the package {name}, which is not installed: pip install "toxoid[{extra}]"'
        )


def one_of(name: str, given: str, known: tuple[str, ...]) -> None:
    """Refuse a word that is not ``known``.

    Raises:
        UsageError: It is another one; the text names what is near.
    """
    if given not in known:
        raise UsageError(f'{name} is "{given}": give one of {", ".join(known)}.{did_you_mean(given, known)}')


def _in_range(name: str, value: Any) -> None:
    if name in _OPTIONAL_POSITIVE and value is None:
        return
    if name in _POSITIVE + _OPTIONAL_POSITIVE and not (math.isfinite(value) and value > 0):
        raise UsageError(f"{name} is {value}: give a number above 0")
    if name in _NOT_NEGATIVE and not (math.isfinite(value) and value >= 0):
        raise UsageError(f"{name} is {value}: give 0 or more")
