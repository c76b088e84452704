"""Whether a training runs under bfloat16 autocast."""

from __future__ import annotations

from toxoid.engines.precision import bf16_pays
from toxoid.training.settings import Bf16


def use_bf16(setting: Bf16, *, device: str, parameters: int) -> bool:
    """Return whether to run the forward pass under bfloat16 autocast.

    Args:
        setting: What was asked for; ``"auto"`` is where it pays (:func:`toxoid.engines.precision.bf16_pays`).
        device: The device's type, e.g. ``"cpu"``.
        parameters: Of the model, adapter or not.
    """
    return bf16_pays(device, parameters) if setting == "auto" else setting
