"""Frozen slices: made before the first round, hashed, measured in every round, trained on in none.

Half of a test set chosen because one judge fails on it says little about another judge: so the slices of problematic
prompts that a reference judge misses stands beside one that is not conditioned on any judge.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from toxoid.data.request_set import hash_fraction
from toxoid.engines.classifiers.base import TextClassifier
from toxoid.errors import UsageError
from toxoid.methods.adversarial_tuning.measures import hits_of, scores_of
from toxoid.methods.adversarial_tuning.prompts import LabelledPrompt, keys_of, read_prompts, write_prompts
from toxoid.store.files import write_json_atomic
from toxoid.store.keys import file_sha256

MISSED = "missed"
"""Problematic prompts that a reference judge misses."""
CONTENTIOUS = "contentious"
"""Contentious but harmless."""
UNCONDITIONED = "unconditioned"
"""A mix that depends on no judge."""
UNSEEN_ADVERSARY = "unseen-adversary"
"""Prompts of an adversary that is never trained against."""
SLICES = (MISSED, CONTENTIOUS, UNCONDITIONED, UNSEEN_ADVERSARY)

_FACTS = "holdouts.json"
_PEOPLE = "people"


@dataclass(frozen=True)
class Holdouts:
    """Prompts that are measured on and never learnt from.

    Args:
        slices: By name, one of :data:`SLICES`; a slice without prompts is left out of all tables.
        people: Prompts labelled by people, to adopt a round by; apart from the slices, so that these choose nothing.

    Raises:
        UsageError: An unknown slice, or none with prompts.
    """

    slices: Mapping[str, Sequence[LabelledPrompt]]
    people: Sequence[LabelledPrompt] = field(default=())

    def __post_init__(self) -> None:
        if unknown := sorted(self.slices.keys() - {*SLICES}):
            raise UsageError(f'there is no slice "{unknown[0]}": known are {", ".join(SLICES)}')
        if not any(self.slices.values()):
            raise UsageError("all hold-out slices are empty: give prompts to measure the rounds on")

    @cached_property
    def keys(self) -> frozenset[str]:
        """The normalised texts of all slices."""
        return frozenset().union(keys_of(self.people), *map(keys_of, self.slices.values()))

    def refuse(self, rows: Iterable[LabelledPrompt], what: str) -> None:
        """Refuse training rows that stand in a slice.

        Args:
            rows: To be trained on.
            what: Names them in the error.

        Raises:
            UsageError: How many do, and the first.
        """
        held = [row.text for row in rows if row.key in self.keys]
        if held:
            raise UsageError(
                f"{len(held)} of {what} stand in a hold-out slice (first: {held[0][:80]!r}), and a measurement on them "
                "would prove nothing: leave them out"
            )

    def save(self, folder: Path) -> None:
        """Write a file per slice, and their hashes.

        Raises:
            UsageError: The disk refuses.
        """
        folder.mkdir(parents=True, exist_ok=True)
        files = {**self.slices, _PEOPLE: self.people}
        for name, prompts in files.items():
            write_prompts(folder / f"{name}.jsonl", prompts)
        write_json_atomic(
            folder / _FACTS, {name: file_sha256(folder / f"{name}.jsonl") for name in sorted(files)}
        )


def load_holdouts(folder: Path) -> Holdouts:
    """Read what :meth:`Holdouts.save` wrote.

    Raises:
        UsageError: There is nothing, or a slice was changed since it was frozen.
    """
    path = folder / _FACTS
    if not path.is_file():
        raise UsageError(f"{folder} holds no hold-out slices (no {_FACTS}): give the folder of some")
    hashes: dict[str, str] = json.loads(path.read_text("utf-8"))
    rows = {}
    for name, digest in hashes.items():
        file = folder / f"{name}.jsonl"
        rows[name] = read_prompts(file)
        if file_sha256(file) != digest:
            raise UsageError(f"{file} was changed after it was frozen: put the old file back, or begin anew")
    people = rows.pop(_PEOPLE, [])
    return Holdouts(rows, people)


def missed_by(judge: TextClassifier, prompts: Sequence[LabelledPrompt]) -> list[LabelledPrompt]:
    """Return the problematic prompts that ``judge`` calls harmless."""
    harmful = [prompt for prompt in prompts if prompt.problematic]
    hits = hits_of(judge, scores_of(judge, harmful))
    return [prompt for prompt, hit in zip(harmful, hits, strict=True) if hit is False]


def chosen(prompts: Sequence[LabelledPrompt], limit: int, *, seed: int) -> list[LabelledPrompt]:
    """Return at most ``limit`` prompts, by hash: the choice does not depend on their order."""
    return sorted(prompts, key=lambda prompt: hash_fraction("slice", seed, prompt.key))[:limit]
