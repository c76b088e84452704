"""Where bfloat16 pays: on which machine, and for how large a model."""

from __future__ import annotations

import torch

_FROM = 1_000_000
"""Parameters below which casting costs more than the shorter products save on a CPU."""


def bf16_pays(device: str, parameters: int) -> bool:
    """Return whether a forward pass under bfloat16 autocast is faster than one in float32.

    On a CPU only with bfloat16 instructions and from about a million parameters on; on a GPU if it supports bfloat16;
    elsewhere not.

    Args:
        device: The device's type, e.g. ``"cpu"``.
        parameters: Of the model, adapter or not.
    """
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return device == "cpu" and parameters >= _FROM and cpu_has_bf16()


def cpu_has_bf16() -> bool:
    """Return whether this CPU multiplies bfloat16 matrices natively (AVX512_BF16, AMX or SVE)."""
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16") or found.get("sve_bf16"))
