"""Classifiers as judges: thresholds, what is read, and what cannot be read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.engines.classifiers.tiny import REPLIES, REQUESTS, tiny_encoder, tiny_words
from toxoid.data.schemas import Exchange, Message, Request, user
from toxoid.engines.classifiers.inference import ModuleClassifier
from toxoid.errors import UsageError
from toxoid.judges.base import Outcome
from toxoid.judges.classifier import ClassifierJudge


class Fake:
    """Gives each text the probabilities that are its content."""

    name = "fake"

    def __init__(self, labels=REQUESTS):
        self.labels = labels
        self.seen = []

    def identity(self):
        return {"classifier": "fake"}

    def probabilities(self, texts):
        self.seen += texts
        parts = [text if isinstance(text, str) else text[1] for text in texts]
        rows = [[float(number) for number in part.split()] or [np.nan] * 3 for part in parts]
        return np.array([row if len(row) > 1 else [1 - row[0], row[0]] for row in rows])


def exchange(prompt="", completion="", conversation=None):
    return Exchange(Request("x/1", prompt), conversation or user(prompt), completion)


@pytest.mark.parametrize(
    ("score", "outcome"), [("0.7", "hit"), ("0.699", "miss"), ("1.0", "hit"), ("0.0", "miss")]
)
def test_a_hit_begins_at_the_threshold(score, outcome):
    judge = ClassifierJudge(Fake(replace(REQUESTS, threshold=0.7)))
    (verdict,) = judge.judge([exchange(score)], "problematic")
    assert (verdict.outcome, verdict.score) == (Outcome(outcome), pytest.approx(float(score)))


def test_positive_labels_count_together():
    judge = ClassifierJudge(Fake(REPLIES))
    both, neither = judge.judge([exchange("?", "0.4 0.3 0.3"), exchange("?", "0.6 0.1 0.3")], "refusal")
    assert (both.outcome, both.score) == (Outcome.HIT, pytest.approx(0.6))
    assert both.reason == "compliance: 0.40"
    assert neither.outcome is Outcome.MISS


def test_the_reply_is_not_shown_to_a_judge_of_requests():
    fake = Fake()
    ClassifierJudge(fake).judge([exchange("0.1", "0.9")], "problematic")
    assert fake.seen == ["0.1"]


def test_a_judge_of_replies_sees_both():
    fake = Fake(REPLIES)
    ClassifierJudge(fake).judge([exchange("ask", "1 0 0")], "refusal")
    assert fake.seen == [("ask", "1 0 0")]


def test_all_turns_of_the_user_are_read():
    fake = Fake()
    turns = (
        Message("system", "s"),
        Message("user", "0.2"),
        Message("assistant", "a"),
        Message("user", "0.8"),
    )
    ClassifierJudge(fake).judge([exchange("0.8", conversation=turns)], "problematic")
    assert fake.seen == ["0.2\n\n0.8"]


def test_the_order_stays():
    scores = [0.3, 0.9, 0.1, 0.6]
    found = ClassifierJudge(Fake()).judge([exchange(str(score)) for score in scores], "problematic")
    assert [verdict.score for verdict in found] == pytest.approx(scores)


@pytest.mark.parametrize("text", ["", " \n\t", "\x00\x01", "\ud800", "\u200b", "ሀሁሂ"])
@pytest.mark.parametrize("labels", [REQUESTS, REPLIES], ids=["request", "reply"])
def test_what_cannot_be_read_is_unscored_and_never_a_miss(text, labels):
    judge = ClassifierJudge(ModuleClassifier(tiny_encoder(labels)))
    given = exchange(text) if labels is REQUESTS else exchange("bake bread", text)
    (verdict,) = judge.judge([given], labels.aspect)
    assert (verdict.outcome, verdict.score) == (Outcome.UNSCORED, None)
    assert ("cannot be read" if "ሀ" in text else "empty") in verdict.reason


def test_strange_texts_are_read():
    judge = ClassifierJudge(ModuleClassifier(tiny_words()))
    texts = ["a\ud800b", "word " * 20_000, "爆 boom ба", "answer MISS", bytes(range(256)).decode("latin-1")]
    found = judge.judge([exchange(text) for text in texts], "problematic")
    assert all(verdict.outcome is not Outcome.UNSCORED for verdict in found)


def test_another_aspect_is_not_answered():
    with pytest.raises(ValueError, match="not 'harmful'"):
        ClassifierJudge(Fake()).judge([exchange("0.1")], "harmful")


def test_a_classifier_of_something_else_is_no_judge():
    with pytest.raises(UsageError, match='"sentiment"'):
        ClassifierJudge(Fake(replace(REQUESTS, aspect="sentiment")))


def test_identity_is_the_classifiers():
    assert ClassifierJudge(Fake()).identity() == {"judge": "classifier", "classifier": "fake"}
