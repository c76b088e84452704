"""Labelled texts to train a classifier on: what they are, and which are kept to calibrate it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from toxoid.data.request_set import hash_fraction, normalised
from toxoid.engines.classifiers.base import Labels, Text
from toxoid.errors import UsageError


@dataclass(frozen=True, slots=True)
class LabelledText:
    """A text and what it is.

    Args:
        text: A request, or a request and the reply to it.
        label: The index of its label.
        group: Texts of one group (a pair, a prompt with its replies) fall on the same side of every split; empty for
            a text that stands alone.
        weight: How much it counts, above 0.
    """

    text: Text
    label: int
    group: str = ""
    weight: float = 1.0


def consistent(examples: Sequence[LabelledText], labels: Labels) -> tuple[list[LabelledText], int]:
    """Return the examples whose text has one label throughout, and how many were left out.

    Texts are compared as data sets are, :func:`toxoid.data.request_set.normalised`.

    Raises:
        UsageError: There is no example, or a label or weight is out of range.
    """
    for example in examples:
        if not 0 <= example.label < len(labels.names):
            raise UsageError(
                f"a text has the label {example.label}: give the index of one of {', '.join(labels.names)} "
                f"(0 to {len(labels.names) - 1})"
            )
        if not (math.isfinite(example.weight) and example.weight > 0):
            raise UsageError(
                f"a text has the weight {example.weight}: give a number above 0, or leave it out"
            )
    given = defaultdict(set)
    for example in examples:
        given[_key(example.text)].add(example.label)
    known = [example for example in examples if len(given[_key(example.text)]) == 1]
    return known, len(examples) - len(known)


def split(
    examples: Sequence[LabelledText], share: float, *, seed: int
) -> tuple[list[LabelledText], list[LabelledText]]:
    """Return the examples to train on, and those kept for calibration: at least one group of every kind, if any.

    A group goes to one side whole. Groups of one kind have the same labels; of each kind ``share`` is kept, chosen by
    hashing (seed, group).
    """
    groups: dict[str, set[int]] = defaultdict(set)
    for example in examples:
        groups[_group(example)].add(example.label)
    kinds: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for group in sorted(groups, key=lambda name: (hash_fraction("calibration", seed, name), name)):
        kinds[tuple(sorted(groups[group]))].append(group)
    counts = {kind: max(1, round(share * len(names))) if share else 0 for kind, names in kinds.items()}
    kept = {name for kind, names in kinds.items() for name in names[: counts[kind]]}
    sides = [[e for e in examples if (_group(e) in kept) is side] for side in (False, True)]
    return sides[0], sides[1]


def demand_both_sides(examples: Sequence[LabelledText], labels: Labels, *, purpose: str = "train") -> None:
    """Refuse examples among which there are no hits or no misses.

    Args:
        examples: What there is.
        labels: Of the classifier.
        purpose: What they are for, a verb.

    Raises:
        UsageError: It is so; the text has the counts.
    """
    counts = label_counts(examples, labels)
    hits = sum(counts[name] for name in labels.positive)
    if not 0 < hits < len(examples):
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise UsageError(
            f"the texts to {purpose} on are {told}: give some that are "
            f"{' or '.join(sorted(labels.positive))} and some that are not, in at least two groups each"
        )


def label_counts(examples: Sequence[LabelledText], labels: Labels) -> dict[str, int]:
    """Return how many examples have each label."""
    counts = Counter(example.label for example in examples)
    return {name: counts[index] for index, name in enumerate(labels.names)}


def _key(text: Text) -> str:
    return normalised(text) if isinstance(text, str) else "\n".join(map(normalised, text))


def _group(example: LabelledText) -> str:
    return example.group or _key(example.text)
