"""Copies of a model to train on, so that the caller's stays as it is."""

from __future__ import annotations

import copy
import warnings
from typing import Any

from torch import nn

from toxoid.training.settings import TrainingConfig


def trainable_copy(model: Any, config: TrainingConfig) -> Any:
    """Return what is trained: a full copy, or a frozen one with a fresh adapter, as ``config.mode`` says."""
    if config.mode == "full":
        return full_copy(model)
    return with_lora(frozen_copy(model), rank=config.lora_rank, alpha=config.alpha)


def full_copy(model: Any) -> Any:
    """Return an independent copy in float32, all weights trainable.

    Float32 whatever the original: an update of a thousandth of a weight is lost in bfloat16.
    """
    copied = copy.deepcopy(model).float()
    return copied.requires_grad_(True)


def frozen_copy(model: Any) -> Any:
    """Return a copy whose modules are its own and whose weights lie in the original's memory, frozen.

    Adapters can be put into it, and it costs no second set of weights. It must not be trained itself.
    """
    shared = {id(weight): nn.Parameter(weight.data, requires_grad=False) for weight in model.parameters()}
    return copy.deepcopy(model, dict(shared))


def with_lora(model: Any, *, rank: int, alpha: float) -> Any:
    """Return ``model`` with a fresh LoRA adapter on every linear layer except the output head.

    The adapter starts as the identity (B = 0); A is drawn from torch's global random state.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    config = LoraConfig(task_type=TaskType.CAUSAL_LM, r=rank, lora_alpha=alpha, target_modules="all-linear")
    with warnings.catch_warnings():
        # peft asks transformers by a name that transformers is about to drop
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*is_gradient_checkpointing.*")
        # peft finds out by itself that a layer (GPT-2's) stores its weight transposed, and says so
        warnings.filterwarnings("ignore", category=UserWarning, message="fan_in_fan_out is set to False")
        return get_peft_model(model, config)
