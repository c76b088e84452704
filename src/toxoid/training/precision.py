"""Whether bfloat16 autocast pays on this machine."""

from __future__ import annotations

import torch

from toxoid.training.settings import Bf16

_PAYS_FROM = 1_000_000
"""Parameters below which casting costs more than the shorter products save on a CPU."""


def use_bf16(setting: Bf16, *, device: str, parameters: int) -> bool:
    """Return whether to run the forward pass under bfloat16 autocast.

    ``"auto"`` means: on a CPU only with bfloat16 instructions (AVX512_BF16 or AMX) and from about a million
    parameters on; on a GPU if it supports bfloat16; elsewhere not.

    Args:
        setting: What was asked for.
        device: The device's type, e.g. ``"cpu"``.
        parameters: Of the model, adapter or not.
    """
    if setting != "auto":
        return setting
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device == "cpu":
        return parameters >= _PAYS_FROM and cpu_has_bf16()
    return False


def cpu_has_bf16() -> bool:
    """Return whether this CPU multiplies bfloat16 matrices natively."""
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16") or found.get("sve_bf16"))
