"""Errors that reach a user as one clear line and an exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_OK = 0
EXIT_INTERNAL = 1
EXIT_USAGE = 2
EXIT_THRESHOLD = 100


class ToxoidError(Exception):
    """Base of all errors toxoid raises on purpose; the command line prints its text and no traceback."""

    exit_code = EXIT_INTERNAL


class UsageError(ToxoidError):
    """The user's input cannot work. The text says what was given, what was expected and what to do."""

    exit_code = EXIT_USAGE


class ThresholdBreached(ToxoidError):
    """A measured value crossed a limit that the caller set."""

    exit_code = EXIT_THRESHOLD


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return ``' Did you mean "x"?'`` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(given, list(known), n=1, cutoff=0.5)
    return f' Did you mean "{close[0]}"?' if close else ""
