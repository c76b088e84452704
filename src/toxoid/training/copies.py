"""Copies of a model to train on, so that the caller's stays as it is."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Literal

import torch
from torch import nn

from toxoid.engines.soft_prompt import embeddings_of
from toxoid.errors import UsageError, did_you_mean
from toxoid.training.settings import TrainingConfig, demand_package


def trainable_copy(model: Any, config: TrainingConfig, *, modules: Sequence[str] | None = None) -> Any:
    """Return what is trained: a full copy, or a frozen one with a fresh adapter, as ``config.mode`` says.

    Raises:
        UsageError: See :func:`four_bit_copy` and :func:`with_lora`.
    """
    if config.mode == "full":
        return full_copy(model)
    base = four_bit_copy(model) if config.mode == "qlora" else frozen_copy(model)
    return with_lora(base, rank=config.lora_rank, alpha=config.alpha, modules=modules)


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


def with_lora(model: Any, *, rank: int, alpha: float, modules: Sequence[str] | None = None) -> Any:
    """Return ``model`` with a fresh LoRA adapter on its linear layers.

    The adapter starts as the identity (B = 0); A is drawn from torch's global random state.

    Args:
        model: A causal language model; it is changed.
        rank: Of the adapter.
        alpha: Its scale, times the rank.
        modules: The layers, by the end of their names (``q_proj``); ``None`` for every one except the output head.

    Raises:
        UsageError: The model has no linear layer of such a name.
    """
    from peft import get_peft_model

    if modules is not None:
        _demand_modules(model, modules)
    with quiet_peft():
        return get_peft_model(model, lora_config(rank=rank, alpha=alpha, modules=modules))


def lora_config(
    *,
    rank: int,
    alpha: float,
    task: Literal["CAUSAL_LM", "SEQ_CLS"] = "CAUSAL_LM",
    modules: Sequence[str] | None = None,
) -> Any:
    """Return PEFT's description of a LoRA adapter on every linear layer except the output head, or on some.

    With ``SEQ_CLS`` the head, a classifier's, is trained beside the adapter.
    """
    from peft import LoraConfig

    target = "all-linear" if modules is None else list(modules)
    return LoraConfig(task_type=task, r=rank, lora_alpha=alpha, target_modules=target)


def _demand_modules(model: Any, modules: Sequence[str]) -> None:
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    layers = ((name, part) for name, part in model.named_modules() if isinstance(part, nn.Linear | Conv1D))
    found = {name.rpartition(".")[2] for name, part in layers if part is not head}
    for name in modules or [""]:
        if name not in found:
            raise UsageError(
                f'modules names "{name}", and {type(model).__name__} has no linear layer of that name.'
                f"{did_you_mean(name, found)} There are {', '.join(sorted(found))}"
            )


def with_soft_prompt(model: Any, prompt: torch.Tensor) -> Any:
    """Return ``model`` with a soft prompt before everything, as PEFT's prompt tuning has it: all that is trainable.

    Args:
        model: A causal language model with frozen weights; it is changed.
        prompt: What the soft prompt begins from, (tokens, size of an embedding).

    Raises:
        UsageError: The model takes no vectors in place of tokens.
    """
    from peft import PromptTuningConfig, get_peft_model

    embeddings_of(model)
    with quiet_peft():
        made = get_peft_model(
            model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=len(prompt))
        )
    with torch.no_grad():
        made.prompt_encoder["default"].embedding.weight.copy_(prompt)
    return made


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Silence what peft says of adapters that are put in within the block and are as they should be."""
    with warnings.catch_warnings():
        # peft asks transformers by a name that transformers is about to drop
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*is_gradient_checkpointing.*")
        # peft finds out by itself that a layer (GPT-2's) stores its weight transposed, and says so
        warnings.filterwarnings("ignore", category=UserWarning, message="fan_in_fan_out is set to False")
        yield
