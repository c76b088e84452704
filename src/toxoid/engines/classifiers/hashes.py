"""Hashes of tensors: what a classifier's weights are known by."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import torch
from torch import Tensor


def tensors_hash(module: Any, *, adapter: bool = False) -> str:
    """Return one sha256 over names, shapes and values of a module's tensors.

    Args:
        module: An encoder, or a classifier around one.
        adapter: Count a LoRA adapter in, too. Without it an encoder has one hash with an adapter or none, from
            whichever file it was loaded.
    """
    digest = sha256()
    for name, tensor in sorted(_tensors(module).items()):
        if adapter or ".lora_" not in name:
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\0".encode())
            values: Any = tensor.contiguous().flatten().view(torch.uint8).numpy()
            digest.update(values)
    return digest.hexdigest()


def _tensors(module: Any) -> dict[str, Tensor]:
    """Return a module's tensors on the CPU, those of an adapted encoder by the names that they have without."""
    return {
        name.replace("base_model.model.", "").replace(".base_layer.", "."): tensor.detach().cpu()
        for name, tensor in module.state_dict().items()
    }
