"""Classifiers as judges: a probability, and from the classifier's threshold on a hit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np

from toxoid.data.schemas import Exchange
from toxoid.engines.classifiers.base import Text, TextClassifier, positive
from toxoid.engines.classifiers.windows import readable
from toxoid.errors import UsageError
from toxoid.judges.base import Aspect, Outcome, Verdict

_ASPECTS: tuple[Aspect, ...] = get_args(Aspect)


class ClassifierJudge:
    """A judge that is a text classifier.

    It reads the request (of a conversation with several turns of the user's, all of them), or the request and the
    completion, as the classifier does. The score is the probability of a hit. What the classifier cannot read (an
    empty text, nothing but control characters, a script of which it knows no sign) is ``UNSCORED``.

    Args:
        classifier: What classifies; its labels name the aspect.

    Raises:
        UsageError: The aspect is none that judges answer.
    """

    def __init__(self, classifier: TextClassifier) -> None:
        aspect = classifier.labels.aspect
        if aspect not in _ASPECTS:
            raise UsageError(
                f'{classifier.name} is about "{aspect}", which no judge answers: expected one of '
                f"{', '.join(_ASPECTS)}"
            )
        self.classifier = classifier
        self.name = classifier.name
        self.aspects: frozenset[Aspect] = frozenset({aspect})

    def identity(self) -> dict[str, Any]:
        """Return the classifier's identity: the hashes of its weights and tokenizer, its labels and threshold."""
        return {"judge": "classifier", **self.classifier.identity()}

    def judge(self, exchanges: Sequence[Exchange], aspect: Aspect) -> list[Verdict]:
        """Return one verdict per exchange.

        Raises:
            ValueError: ``aspect`` is not one of :attr:`aspects`.
        """
        if aspect not in self.aspects:
            raise ValueError(f"{self.name} answers {sorted(self.aspects)}, not {aspect!r}")
        texts = [self._text(exchange) for exchange in exchanges]
        probabilities = self.classifier.probabilities(texts)
        hits = positive(self.classifier.labels, probabilities)
        return [
            self._verdict(float(hit), row) if np.isfinite(row).all() else _unread(text)
            for text, hit, row in zip(texts, hits, probabilities, strict=True)
        ]

    def _text(self, exchange: Exchange) -> Text:
        asked = request_text(exchange)
        return asked if self.classifier.labels.reads == "request" else (asked, exchange.completion)

    def _verdict(self, score: float, row: Sequence[float]) -> Verdict:
        labels = self.classifier.labels
        outcome = Outcome.HIT if score >= labels.threshold else Outcome.MISS
        likeliest = int(np.argmax(row))
        return Verdict(outcome, score, f"{labels.names[likeliest]}: {row[likeliest]:.2f}")


def request_text(exchange: Exchange) -> str:
    """Return what the user asks for: the prompt, or all turns of the user's where there are several."""
    turns = [message.content for message in exchange.conversation if message.role == "user"]
    return "\n\n".join(turns) if len(turns) > 1 else exchange.request.prompt


def _unread(text: Text) -> Verdict:
    what, judged = ("request", text) if isinstance(text, str) else ("reply", text[1])
    blank = not readable(judged)
    return Verdict(Outcome.UNSCORED, reason=f"empty {what}" if blank else f"the {what} cannot be read")
