"""The command line: one module per verb, loaded when it is called."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``toxoid`` with ``arguments`` (by default the process's) and return its exit code."""
    from toxoid.cli.app import run_app

    return run_app(arguments)
