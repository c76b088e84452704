"""Preference training over groups of ranked replies, one pass over their distinct tokens.

The public names are loaded on first use: settings and examples are needed where torch is not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toxoid.training.preference.examples import PreferenceExample
    from toxoid.training.preference.settings import Objective, PreferenceConfig
    from toxoid.training.preference.train import train_preferences

_EXPORTS = {
    "Objective": "settings",
    "PreferenceConfig": "settings",
    "PreferenceExample": "examples",
    "train_preferences": "train",
}

__all__ = ["Objective", "PreferenceConfig", "PreferenceExample", "train_preferences"]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
