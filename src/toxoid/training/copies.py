"""Copies of a model to train on, so that the caller's stays as it is."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Literal

import torch
from torch import nn

from toxoid.errors import UsageError
from toxoid.training.settings import TrainingConfig, demand_package


def trainable_copy(model: Any, config: TrainingConfig) -> Any:
    """Return what is trained: a full copy, or a frozen one with a fresh adapter, as ``config.mode`` says."""
    if config.mode == "full":
        return full_copy(model)
    base = four_bit_copy(model) if config.mode == "qlora" else frozen_copy(model)
    return with_lora(base, rank=config.lora_rank, alpha=config.alpha)


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


def four_bit_copy(model: Any) -> Any:
    """Return a frozen copy with its linear layers in 4 bits: NF4, its constants quantised too, computing in bfloat16.

    Output head, embeddings and norms stay as exact as they are, or become float32 where they were shorter. The
    original is not changed and keeps its memory; what an adapter learns above the copy fits it as well.

    Source: Dettmers et al. 2023 (arXiv 2305.14314), sections 3 and 4.

    Raises:
        UsageError: ``bitsandbytes`` is not installed, or the model has no linear layer beside its head.
    """
    demand_package("bitsandbytes", extra="qlora", what="mode qlora")
    from peft import prepare_model_for_kbit_training

    copied = frozen_copy(model)
    head = copied.get_output_embeddings()
    linear = [name for name, part in copied.named_modules() if type(part) is nn.Linear and part is not head]
    if not linear:
        raise UsageError(
            f"{type(model).__name__} has no linear layers that could be held in 4 bits: set mode to lora"
        )
    for name in linear:
        copied.set_submodule(name, _four_bit(copied.get_submodule(name)))
    copied.is_loaded_in_4bit = True  # what peft and trl ask
    return prepare_model_for_kbit_training(copied, use_gradient_checkpointing=False)


def _four_bit(layer: Any) -> Any:
    bitsandbytes: Any = import_module("bitsandbytes")  # whose types do not fit torch's
    made = bitsandbytes.nn.Linear4bit(
        layer.in_features, layer.out_features, device="meta", compute_dtype=torch.bfloat16, quant_type="nf4"
    )
    weight = bitsandbytes.nn.Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4", module=made)
    made.weight = weight.to(layer.weight.device)  # which quantises
    made.bias = layer.bias
    # On a CPU with AVX512-BF16, bitsandbytes would repack the weights for inference, and fail at some widths.
    made.support_avx512bf16_for_cpu = False
    return made


def with_lora(model: Any, *, rank: int, alpha: float) -> Any:
    """Return ``model`` with a fresh LoRA adapter on every linear layer except the output head.

    The adapter starts as the identity (B = 0); A is drawn from torch's global random state.
    """
    from peft import get_peft_model

    with quiet_peft():
        return get_peft_model(model, lora_config(rank=rank, alpha=alpha))


def lora_config(*, rank: int, alpha: float, task: Literal["CAUSAL_LM", "SEQ_CLS"] = "CAUSAL_LM") -> Any:
    """Return PEFT's description of a LoRA adapter on every linear layer except the output head.

    With ``SEQ_CLS`` the head, a classifier's, is trained beside the adapter.
    """
    from peft import LoraConfig

    return LoraConfig(task_type=task, r=rank, lora_alpha=alpha, target_modules="all-linear")


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Silence what peft says of adapters that are put in within the block and are as they should be."""
    with warnings.catch_warnings():
        # peft asks transformers by a name that transformers is about to drop
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*is_gradient_checkpointing.*")
        # peft finds out by itself that a layer (GPT-2's) stores its weight transposed, and says so
        warnings.filterwarnings("ignore", category=UserWarning, message="fan_in_fan_out is set to False")
        yield
