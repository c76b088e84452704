"""toxoid: audit how a chat model fails, treat it, audit it again, and prove the difference.

The public names are loaded on first use, so that ``import toxoid`` costs nothing.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

for _switch in ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
    os.environ.setdefault(_switch, "1")  # here, because the libraries read it once, when they are imported

_EXPORTS: dict[str, str] = {}
"""Public name -> module that defines it; add a line to export one."""

__all__ = ["__version__", *sorted(_EXPORTS)]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
