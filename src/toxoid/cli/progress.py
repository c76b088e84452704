"""Shows progress: bars on a terminal, a plain line now and then anywhere else."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TaskID,
    TextColumn,
)
from rich.progress import Progress as Bars
from rich.progress import Task as BarTask
from rich.text import Text

from toxoid.progress import Task

PLAIN_SECONDS = 5.0
"""At most one plain line per task in this time."""


class RichProgress:
    """Bars with stage, count, rate and remaining time; plain lines where there is no terminal.

    Everything goes to stderr: stdout belongs to results. Tasks may run side by side and from threads.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        """Show on ``stream``, by default stderr."""
        console = Console(file=stream or sys.stderr, highlight=False)
        self._view: _Bars | PlainProgress = (
            _Bars(console) if console.is_terminal else PlainProgress(stream or sys.stderr)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._view.close()

    def task(self, name: str, total: int, unit: str = "items") -> AbstractContextManager[Task]:
        """Open a task of ``total`` units; it closes with the ``with`` block."""
        return self._view.task(name, total, unit)

    def note(self, text: str) -> None:
        """Say one line above the bars."""
        self._view.note(text)


class _Bars:
    """Live bars; the display runs while a task is open, so that other output stays whole."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._open: list[TaskID] = []
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}", markup=False),
            _Rate(),
            _Remaining(),
            console=console,
        )

    @contextmanager
    def task(self, name: str, total: int, unit: str) -> Iterator[Task]:
        with self._lock:
            if not self._open:
                self._bars.start()
            opened = self._bars.add_task(name, total=total, unit=unit)
            self._open.append(opened)
        try:
            yield _Bar(self._bars, opened)
        finally:
            with self._lock:
                self._bars.stop_task(opened)
                self._open.remove(opened)
                if not self._open:
                    self.close()

    def note(self, text: str) -> None:
        self._console.print(text, markup=False)

    def close(self) -> None:
        self._bars.stop()
        for shown in self._bars.task_ids:  # they stand on the screen now; a new start must not repeat them
            self._bars.remove_task(shown)


class _Bar:
    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars = bars
        self._task = task

    def advance(self, count: int = 1) -> None:
        """Report ``count`` more units as done."""
        self._bars.advance(self._task, count)


class _Rate(ProgressColumn):
    def render(self, task: BarTask) -> Text:
        """Show units per second, of the whole task once it is finished."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{_rate(speed)}/s")


class _Remaining(ProgressColumn):
    def render(self, task: BarTask) -> Text:
        """Show the time left, or, at the end, the time taken."""
        if task.finished or task.stop_time is not None:
            return Text(f"in {clock(task.elapsed or 0)}")
        left = task.time_remaining
        return Text("" if left is None else f"{clock(left)} left")


class PlainProgress:
    """Progress as plain lines: for logs, pipes and CI."""

    def __init__(self, stream: TextIO, *, now: Callable[[], float] = time.monotonic) -> None:
        """Write to ``stream``; ``now`` gives the time in seconds."""
        self._stream = stream
        self._now = now
        self._lock = threading.Lock()

    @contextmanager
    def task(self, name: str, total: int, unit: str = "items") -> Iterator[Task]:
        """Open a task; it says a line now and then, and one at its end."""
        opened = _PlainTask(self, name, total, unit, self._now)
        try:
            yield opened
        finally:
            opened.end()

    def note(self, text: str) -> None:
        """Write one line."""
        with self._lock:
            self._stream.write(f"{text}\n")
            self._stream.flush()

    def close(self) -> None:
        """Do nothing: each line is written whole."""


class _PlainTask:
    def __init__(
        self, view: PlainProgress, name: str, total: int, unit: str, now: Callable[[], float]
    ) -> None:
        self._view, self._name, self._total, self._unit, self._now = view, name, total, unit, now
        self._done = 0
        self._start = self._told = now()
        self._lock = threading.Lock()

    def advance(self, count: int = 1) -> None:
        """Report ``count`` more units as done."""
        with self._lock:
            self._done += count
            due = self._now() - self._told >= PLAIN_SECONDS and self._done < self._total
            if due:
                self._told = self._now()
        if due:
            self._view.note(self._text(ended=False))

    def end(self) -> None:
        """Say the last line."""
        self._view.note(self._text(ended=True))

    def _text(self, *, ended: bool) -> str:
        seconds = self._now() - self._start
        counts = f"{self._name}: {self._done}/{self._total} {self._unit}"
        if ended:
            return f"{counts} in {clock(seconds)}"
        speed = self._done / max(seconds, 1e-9)
        left = (self._total - self._done) / speed if speed else 0.0
        return f"{counts}, {_rate(speed)}/s, {clock(left)} left"


def clock(seconds: float) -> str:
    """Return a duration as ``m:ss``, or ``h:mm:ss`` from an hour on."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _rate(speed: float) -> str:
    return f"{speed:.0f}" if speed >= 10 else f"{speed:.1f}" if speed >= 1 else f"{speed:.2f}"
