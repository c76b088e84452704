"""The queue of prompts that wait for a person's label, as one append-only file.

``labels.jsonl`` holds two kinds of line: ``{"asked": text, "at": time}`` puts a prompt into the queue, and
``{"text": text, "label": ..., "by": who, "at": time}`` answers it. Nothing is ever changed or removed: a second label
replaces the first when the file is read. A line that is no JSON was cut off by a crash, and is skipped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from toxoid.data.request_set import normalised
from toxoid.errors import UsageError
from toxoid.store.files import disk_errors
from toxoid.training.settings import one_of

Label: TypeAlias = Literal["problematic", "harmless", "unclear"]
FILE = "labels.jsonl"


@dataclass(frozen=True, slots=True)
class Answer:
    """A person's label. ``at`` is an ISO 8601 time in UTC."""

    label: Label
    by: str
    at: str


class LabelQueue:
    """Prompts to be labelled by people; texts that differ in case and punctuation only are one.

    Args:
        folder: Holds :data:`FILE`; made when the first prompt is put in.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def ask(self, texts: Iterable[str]) -> None:
        """Put prompts into the queue that are neither in it nor answered.

        Raises:
            UsageError: The disk refuses, or the file is no queue.
        """
        known = {normalised(text) for text, _ in self._entries()}
        new = {normalised(text): text for text in reversed(list(texts))}  # the first of two that are one
        rows = [{"asked": text, "at": _now()} for key, text in reversed(new.items()) if key not in known]
        self._append(rows)

    def record(self, text: str, label: Label, *, by: str) -> None:
        """Keep a label.

        Raises:
            UsageError: There is no such label, or the disk refuses.
        """
        one_of("label", label, get_args(Label))
        self._append([{"text": text, "label": label, "by": by, "at": _now()}])

    def open(self) -> list[str]:
        """Return the prompts without a label, in the order in which they were asked."""
        waiting: dict[str, str] = {}
        answered = self.answers()
        for text, answer in self._entries():
            if answer is None and normalised(text) not in answered:
                waiting.setdefault(normalised(text), text)
        return list(waiting.values())

    def answers(self) -> dict[str, Answer]:
        """Return the labels by normalised text; of several, the last."""
        return {normalised(text): answer for text, answer in self._entries() if answer is not None}

    def _entries(self) -> Iterator[tuple[str, Answer | None]]:
        path = self.folder / FILE
        with disk_errors(path):
            lines = path.read_text("utf-8").split("\n") if path.exists() else [""]
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
            except ValueError:
                continue
            yield _entry(row, path, number)

    def _append(self, rows: list[dict[str, str]]) -> None:
        """Add lines in one write; a line that a crash cut off is closed first, so that it spoils no other."""
        if not rows:
            return
        path = self.folder / FILE
        with disk_errors(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            with path.open("a+b") as stream:
                text = "".join(json.dumps(row) + "\n" for row in rows)
                stream.write(("" if _ends_whole(stream) else "\n").encode() + text.encode())
                stream.flush()
                os.fsync(stream.fileno())


def _ends_whole(stream: Any) -> bool:
    if stream.seek(0, os.SEEK_END) == 0:
        return True
    stream.seek(-1, os.SEEK_END)
    return bool(stream.read(1) == b"\n")


def _entry(row: Any, path: Path, number: int) -> tuple[str, Answer | None]:
    try:
        if "asked" in row:
            return str(row["asked"]), None
        one_of("label", row["label"], get_args(Label))
        return str(row["text"]), Answer(row["label"], str(row["by"]), str(row["at"]))
    except (UsageError, TypeError, KeyError) as error:
        raise UsageError(f"{path}:{number}: not a line of a label queue; repair or remove it") from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
