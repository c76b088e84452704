"""Labelled prompts: what the judge learns from and is measured on, and their files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from toxoid.data.request_set import normalised
from toxoid.errors import UsageError
from toxoid.store.files import write_text_atomic

Source: TypeAlias = Literal["seed", "candidate", "harmless", "contentious", "held-out"]


@dataclass(frozen=True, slots=True)
class LabelledPrompt:
    """A prompt and the truth about it.

    Args:
        text: What the user says.
        problematic: Whether it tries to obtain harm.
        source: What it is to the loop: ``candidate`` prompts come from an adversary, ``harmless`` and
            ``contentious`` ones from the pool of negatives.
        group: Prompts of one group hang together, e.g. the wordings of one goal; intervals are taken over groups.
            Empty for a prompt of its own.
    """

    text: str
    problematic: bool
    source: Source = "seed"
    group: str = ""

    @property
    def key(self) -> str:
        """The text as compared between sets."""
        return normalised(self.text)


def keys_of(prompts: Iterable[LabelledPrompt]) -> set[str]:
    """Return the normalised texts."""
    return {prompt.key for prompt in prompts}


def write_prompts(path: Path, prompts: Sequence[LabelledPrompt]) -> None:
    """Write a JSON Lines file, whole or not at all.

    Raises:
        UsageError: The disk refuses.
    """
    write_text_atomic(path, "".join(json.dumps(asdict(prompt)) + "\n" for prompt in prompts))


def read_prompts(path: Path) -> list[LabelledPrompt]:
    """Read what :func:`write_prompts` wrote.

    Raises:
        UsageError: There is no such file, or it is another kind of file.
    """
    if not path.is_file():
        raise UsageError(f"{path} does not exist: give a file of labelled prompts")
    rows = []
    # Not splitlines(): a prompt may hold other line separators, which JSON does not escape.
    for number, line in enumerate(path.read_text("utf-8").split("\n"), 1):
        if line:
            try:
                rows.append(_prompt(json.loads(line)))
            except (ValueError, TypeError, KeyError) as error:
                raise UsageError(
                    f"{path}:{number}: not a labelled prompt (keys text, problematic)"
                ) from error
    return rows


def _prompt(given: dict[str, Any]) -> LabelledPrompt:
    if not isinstance(given["text"], str) or not isinstance(given["problematic"], bool):
        raise TypeError(given)
    return LabelledPrompt(**given)
