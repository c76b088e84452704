"""How long work reports what it has done; the terminal view lives in :mod:`toxoid.cli`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One running piece of work with a known total."""

    def advance(self, count: int = 1) -> None:
        """Report ``count`` more units as done."""


class Progress(Protocol):
    """A place to which stages report their progress."""

    def task(self, name: str, total: int, unit: str = "items") -> AbstractContextManager[Task]:
        """Open a task of ``total`` units; it closes with the ``with`` block."""

    def note(self, text: str) -> None:
        """Say one line above the bars."""


class _SilentTask:
    def advance(self, count: int = 1) -> None:
        """Do nothing."""


class SilentProgress:
    """A progress sink that shows nothing: the default of library calls and tests."""

    @contextmanager
    def task(self, name: str, total: int, unit: str = "items") -> Iterator[Task]:
        """Open a task that reports to nobody."""
        yield _SilentTask()

    def note(self, text: str) -> None:
        """Drop the line."""


SILENT: Progress = SilentProgress()
"""The sink that shows nothing."""


class Prefixed:
    """A progress sink that says whose work it is: every task's name gets a prefix."""

    def __init__(self, progress: Progress, prefix: str) -> None:
        self._progress = progress
        self._prefix = prefix

    def task(self, name: str, total: int, unit: str = "items") -> AbstractContextManager[Task]:
        """Open a task named ``<prefix>: <name>``."""
        return self._progress.task(f"{self._prefix}: {name}", total, unit)

    def note(self, text: str) -> None:
        """Say ``<prefix>: <text>``."""
        self._progress.note(f"{self._prefix}: {text}")
