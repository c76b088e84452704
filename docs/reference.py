"""Builds the reference of all modules into build/reference: ``make reference`` (needs the extra ``docs``)."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import pdoc

import toxoid

TARGET = Path("build/reference")


def main() -> int:
    """Write a page for every module, name those that need extras which are not here, and return the exit code."""
    names = ["toxoid", *(found.name for found in pkgutil.walk_packages(toxoid.__path__, "toxoid."))]
    missing = {name: lacks for name in names if (lacks := _missing(name))}
    for name, lacks in missing.items():
        print(f"left out: {name} (needs {lacks})", file=sys.stderr)
    found = [name for name in names if name not in missing]
    for name in found:
        _open(name, found)
    pdoc.render.configure(docformat="google", footer_text=f"toxoid {toxoid.__version__}")
    warnings.filterwarnings("ignore", message="Couldn't import|Cannot determine where|Error parsing type")
    pdoc.pdoc("toxoid", *(f"!{name}" for name in missing), output_directory=TARGET)
    print(f"reference: {TARGET / 'index.html'}")
    return 0


def _missing(name: str) -> str:
    """Return the package without which a module cannot be imported; nothing if there is none."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if str(error.name).startswith("toxoid"):
            raise
        return str(error.name)
    return ""


def _open(name: str, found: Sequence[str]) -> None:
    """Show pdoc what it does not ask for where there is an __all__: names loaded on first use, and inner modules."""
    module = sys.modules[name]
    exports: list[str] | None = getattr(module, "__all__", None)
    if exports is not None:
        vars(module).update({export: getattr(module, export) for export in exports})
        exports += [inner.rpartition(".")[2] for inner in found if inner.rpartition(".")[0] == name]


if __name__ == "__main__":
    sys.exit(main())
