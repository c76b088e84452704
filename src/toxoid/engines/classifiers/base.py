"""The contract of text classifiers, and what their folders say of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Text: TypeAlias = str | tuple[str, str]
"""What is classified: a request alone, or a request and the reply to it."""
Reads: TypeAlias = Literal["request", "exchange"]
Probabilities: TypeAlias = NDArray[np.float64]

_OF_THE_WHOLE = frozenset({"refusal", "helpful", "valid"})


@dataclass(frozen=True, slots=True)
class Labels:
    """What a classifier tells apart, and from where on it says so.

    Args:
        names: By index, e.g. ``("harmless", "problematic")`` or ``("compliance", "partial refusal", "refusal")``.
        positive: The names that together make a hit.
        aspect: What a hit means, an aspect of :mod:`toxoid.judges.base`.
        reads: Whether it is shown the request alone or the reply with it.
        threshold: The summed probability of the positive names from which on it is a hit.

    Raises:
        ValueError: The names do not differ, or the positive ones are none, all, or not among them; or the threshold
            is not in (0, 1].
    """

    names: tuple[str, ...]
    positive: frozenset[str]
    aspect: str
    reads: Reads = "request"
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if (
            len(set(self.names)) != len(self.names)
            or not self.positive < set(self.names)
            or not self.positive
        ):
            raise ValueError(
                f"labels {list(self.names)}, positive {sorted(self.positive)}: expected different names, and "
                "some but not all of them positive"
            )
        if not 0 < self.threshold <= 1:
            raise ValueError(f"the threshold is {self.threshold}: expected a probability above 0, at most 1")

    @property
    def columns(self) -> list[int]:
        """Return the indices of the positive names."""
        return [index for index, name in enumerate(self.names) if name in self.positive]

    @property
    def anywhere(self) -> bool:
        """Return whether a part of a text that shows the aspect is enough: so for harm, but not for a refusal."""
        return self.aspect not in _OF_THE_WHOLE


PROMPTS = Labels(("harmless", "problematic"), frozenset({"problematic"}), "problematic")
"""Of a judge of prompts."""
REPLIES = Labels(
    ("compliance", "partial refusal", "refusal"),
    frozenset({"partial refusal", "refusal"}),
    "refusal",
    reads="exchange",
)
"""Of a judge of replies."""


class TextClassifier(Protocol):
    """Something that gives the probability of each label."""

    name: str
    labels: Labels

    def identity(self) -> dict[str, Any]:
        """Return what the probabilities depend on (JSON values): weights, tokenizer, windows, temperature."""

    def probabilities(self, texts: Sequence[Text]) -> Probabilities:
        """Return a row per text and a column per label; a row of NaN for a text without a single token to read.

        Texts of any length are read whole, in windows.
        """


def positive(labels: Labels, probabilities: Probabilities) -> NDArray[np.float64]:
    """Return the summed probability of the positive labels, one per row; NaN where there is none."""
    summed: NDArray[np.float64] = np.minimum(probabilities[:, labels.columns].sum(axis=1), 1.0)
    return summed
