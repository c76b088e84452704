"""The fingerprint of a training: what its weights depend on; number of threads and machine apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from toxoid.training.processes import process_count
from toxoid.training.settings import TrainingConfig, steps_for

if TYPE_CHECKING:
    from toxoid.engines.loading import LoadedModel

_NOT_IN_IT = ("threads", "save_steps", "bf16", "epochs", "max_steps", "lora_rank", "lora_alpha")
"""Settings that do not change the weights, or enter in their resolved form."""


def training_fingerprint(
    trainer: str, loaded: LoadedModel, config: TrainingConfig, *, data: str, rows: int, bf16: bool
) -> dict[str, Any]:
    """Return the fingerprint, JSON values only.

    Args:
        trainer: Name of the kind of training.
        loaded: The model that it starts from.
        config: Its settings; a section within them is told as ``section.name``.
        data: Hash of what it learns.
        rows: How many examples that are.
        bf16: Whether it runs under bfloat16 autocast.
    """
    settings = _flat({key: value for key, value in asdict(config).items() if key not in _NOT_IN_IT})
    if config.trains_adapter:
        settings |= {"lora_rank": config.lora_rank, "lora_alpha": config.alpha}
    if process_count() > 1:
        settings["processes"] = process_count()
    return {
        "trainer": trainer,
        "settings": settings | {"bf16": bf16, "steps": steps_for(config, rows, process_count())},
        "data": data,
        "model": loaded.identity,
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
    }


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{name}": item for name, item in value.items()}
        else:
            flat[key] = value
    return flat
