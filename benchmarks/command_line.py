"""What benchmarks end with when something is missing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from toxoid.errors import ToxoidError


def run(main: Callable[[], None]) -> None:
    """Run a benchmark; a set that is not there, or another mistake, is one line on stderr and its exit code."""
    try:
        main()
    except ToxoidError as error:
        print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
