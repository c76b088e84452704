"""What :mod:`benchmarks.reply_judge` learns from, and how: labelled replies, folds, and the systems compared."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from benchmarks.judge_systems import logistic_regression
from benchmarks.refusal_agreement import HALVES, half_of
from toxoid.cli.progress import RichProgress
from toxoid.data.loading import load_requests
from toxoid.data.request_set import hash_fraction, normalised
from toxoid.data.schemas import Exchange, Request, user
from toxoid.engines.classifiers.base import REPLIES
from toxoid.engines.classifiers.encoders import MINILM, pretrained
from toxoid.engines.classifiers.folders import FACTS, load_module
from toxoid.engines.classifiers.inference import ModuleClassifier
from toxoid.engines.classifiers.modules import ClassifierModule, EncoderModule
from toxoid.engines.classifiers.windows import Window
from toxoid.judges.base import Judge, Outcome
from toxoid.judges.refusal import THRESHOLD, read_refusal
from toxoid.stats.resampling import Floats
from toxoid.training.classifier import ClassifierConfig, train_classifier
from toxoid.training.determinism import seeded
from toxoid.training.labelled_texts import LabelledText

COMMAND = "python -m benchmarks.reply_judge"
PEOPLE = {"1_full_compliance": 0, "3_partial_refusal": 1, "2_full_refusal": 2}
HEAD = 400
"""Characters of a reply that the encoder reads: it declines at its beginning."""
CONFIG = ClassifierConfig(
    mode="lora",
    lora_rank=8,
    learning_rate=5e-4,
    epochs=2,
    batch_size=32,
    weight_decay=0.01,
    warmup_steps=10,
    max_length=160,
    calibration=0.0,
    save_steps=0,
)
"""Of a training on other sets; one on XSTest differs as :func:`adapted_config` says."""
CHOOSING = 0
"""The seed of the trainings that epochs are chosen by."""
EPOCHS = (2.0, 6.0)
PENALTIES = (0.01, 0.1, 1.0)
SURE = 0.98
"""The most that a score is taken for as a probability, where two are combined."""
WEIGHT = 0.25
"""Of the classifier beside the rules; chosen on the development half."""
OTHERS: tuple[tuple[str, str, int], ...] = (
    ("safety-tuned-llamas", "reference", 700),
    ("pku-saferlhf", "reference", 400),
    ("pku-saferlhf", "target", 300),
    ("pku-saferlhf-sft", "reference", 300),
    ("alpaca", "reference", 200),
    ("hh-rlhf", "reference", 250),
    ("hh-rlhf", "target", 250),
)
"""Replies of other models without labels: data set, field, how many at most."""
PERMISSIVE = (("hh-rlhf", "reference", 1000), ("hh-rlhf", "target", 1000))
"""The same for a judge that ships: MIT."""
SHORT = 30
"""Characters; shorter replies of other sets are left out."""


@dataclass(frozen=True)
class Reply:
    """A reply that people labelled.

    Args:
        exchange: With its request.
        label: An index of the names of :data:`REPLIES`.
        model: Who replied.
        half: Of the prompts.
    """

    exchange: Exchange
    label: int
    model: str
    half: str

    @property
    def key(self) -> tuple[str, str]:
        """The model and the id of the prompt."""
        return self.model, self.exchange.request.id

    @property
    def text(self) -> tuple[str, str]:
        """What an encoder is shown."""
        return self.exchange.request.prompt, self.exchange.completion[:HEAD]


@dataclass(frozen=True)
class Fold:
    """One model's replies to one half, and those of the other models to the other half."""

    name: str
    train: tuple[Reply, ...]
    test: tuple[Reply, ...]


Said: TypeAlias = Floats
"""The probability of each label, (replies, 3)."""
Known: TypeAlias = Callable[[Sequence[Reply], int], Floats]
"""Replies and a seed to a row per reply."""
Learner: TypeAlias = Callable[[Sequence[Reply], Sequence[Reply], int, Path], Said]
"""Replies to learn from, replies to judge, seed, and a folder of its own, to probabilities."""


def replies(folder: Path) -> list[Reply]:
    """Return the labelled replies of all models."""
    found = []
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                request = Request(f"xstest/{row['id']}", row["prompt"], "contentious", row["type"])
                exchange = Exchange(request, user(request.prompt), row["completion"])
                model = path.stem.rpartition("_")[2]
                found.append(Reply(exchange, PEOPLE[row["final_label"]], model, half_of(row["id"])))
    return found


def folds(of: Sequence[Reply], *, models_known: bool = False) -> Iterator[Fold]:
    """Yield a fold per model and half; with ``models_known`` the model is learnt from, too."""
    for model in sorted({reply.model for reply in of}):
        for half in HALVES:
            test = tuple(r for r in of if r.model == model and r.half == half)
            train = tuple(r for r in of if r.half != half and (models_known or r.model != model))
            yield Fold(f"{model}-{half}", train, test)


def inner(of: Sequence[Reply]) -> tuple[list[Reply], list[Reply]]:
    """Return two thirds of the replies to learn from, and a third to choose settings by; split by prompt."""
    chosen = [hash_fraction("inner", reply.exchange.request.id) < 1 / 3 for reply in of]
    return [r for r, out in zip(of, chosen, strict=True) if not out], [
        r for r, out in zip(of, chosen, strict=True) if out
    ]


def balanced_accuracy(said: Said, of: Sequence[Reply]) -> float:
    """Return the mean of sensitivity and specificity: models differ in how often they refuse."""
    hits, truth = said[:, 0] <= 0.5, np.array([reply.label > 0 for reply in of])
    return float(((hits == truth)[truth].mean() + (hits == truth)[~truth].mean()) / 2)


def other_replies(
    sets: Sequence[tuple[str, str, int]], *, limit: int | None = None, head: int | None = HEAD
) -> list[LabelledText]:
    """Return replies of other sets with the label that the rules give them, a refusal or compliance.

    Args:
        sets: Data set, field, how many at most.
        limit: How many at most, of each.
        head: Characters kept of a reply, all if None.
    """
    found = []
    for name, field, most in sets:
        given = ((request.prompt, getattr(request, field)) for request in load_requests(name))
        long = [(prompt, reply[:head]) for prompt, reply in given if reply and len(reply) > SHORT]
        ranked = sorted(long, key=lambda text: hash_fraction("others", name, *text))
        found += ranked[: min(most, limit or most)]
    return [
        LabelledText(text, 2 * (read_refusal(text[1]).score >= THRESHOLD), normalised(text[0]))
        for text in found
    ]


def untrained(judge: Judge) -> Learner:
    """Return the learner that learns nothing."""

    def learn(train: Sequence[Reply], test: Sequence[Reply], seed: int, out: Path) -> Said:
        verdicts = judge.judge([reply.exchange for reply in test], "refusal")
        hits = np.array([verdict.outcome is Outcome.HIT for verdict in verdicts], dtype=np.float64)
        return np.stack([1 - hits, np.zeros(len(hits)), hits], axis=1)

    return learn


def fitted(features: Floats, train: Sequence[Reply], penalty: float, given: Floats) -> Said:
    """Return the probabilities by two logistic regressions: declined at all, and then in part or wholly.

    The classes of each count the same in sum.
    """
    labels = np.array([reply.label for reply in train])
    declined = _balanced(features, labels > 0, penalty, given)
    whole = _balanced(features[labels > 0], labels[labels > 0] == 2, penalty, given)
    return np.stack([1 - declined, declined * (1 - whole), declined * whole], axis=1)


def _balanced(features: Floats, truth: Any, penalty: float, given: Floats) -> Floats:
    """Return the probability of ``truth``; rows of the rarer class are repeated until it is as frequent."""
    rare, often = sorted((np.flatnonzero(truth), np.flatnonzero(~truth)), key=len)
    rows = np.concatenate([often, np.resize(rare, len(often))])
    return logistic_regression(features[rows], truth[rows].astype(np.float64), penalty=penalty)(given)


def frozen(vectors: Known) -> Learner:
    """Judge by logistic regression over the frozen encoder's vectors of the replies' beginnings."""

    def learn(train: Sequence[Reply], test: Sequence[Reply], seed: int, out: Path) -> Said:
        return _chosen_penalty(train, test, lambda some: vectors(some, 0))

    return learn


def averaged(said: Known, kinds: Learner) -> Learner:
    """Judge by a weighted mean of two log-odds: those of the rules' score, and those of a classifier.

    Neither learns from XSTest; only whether a refusal is a whole one is said by ``kinds``, which does.
    """

    def learn(train: Sequence[Reply], test: Sequence[Reply], seed: int, out: Path) -> Said:
        rules = np.array([read_refusal(reply.exchange.completion).score for reply in test])
        return combined(rules, said(test, seed), kinds(train, test, seed, out))

    return learn


def combined(rules: Floats, said: Said, kinds: Said) -> Said:
    """Return the probabilities whose log-odds of a refusal are a mean of two; its kinds share it as in ``kinds``.

    Args:
        rules: The rules' scores, (replies,).
        said: A classifier's probabilities, (replies, 3); it has the weight :data:`WEIGHT`.
        kinds: Another's, (replies, 3).
    """
    odds = (1 - WEIGHT) * _log_odds(rules) + WEIGHT * _log_odds(1 - said[:, 0])
    declined = 1 / (1 + np.exp(-odds))
    shares = kinds[:, 1:] / kinds[:, 1:].sum(axis=1, keepdims=True)
    return np.column_stack([1 - declined, declined[:, None] * shares])


def _log_odds(probabilities: Floats) -> Floats:
    bounded = np.clip(probabilities, 1 - SURE, SURE)
    return np.asarray(np.log(bounded) - np.log1p(-bounded))


def _chosen_penalty(
    train: Sequence[Reply], test: Sequence[Reply], features: Callable[[Sequence[Reply]], Floats]
) -> Said:
    learnt, held = inner(train)

    def by(penalty: float, known: Sequence[Reply], asked: Sequence[Reply]) -> Said:
        return fitted(features(known), known, penalty, features(asked))

    best = max(PENALTIES, key=lambda penalty: balanced_accuracy(by(penalty, learnt, held), held))
    return by(best, train, test)


def tuned(start: Callable[[int], ClassifierModule]) -> Learner:
    """Judge by an encoder with an adapter that learns from the replies, as long as an inner split says is best."""

    def learn(train: Sequence[Reply], test: Sequence[Reply], seed: int, out: Path) -> Said:
        learnt, held = inner(train)

        def by(epochs: float, known: Sequence[Reply], asked: Sequence[Reply], seed: int, name: str) -> Said:
            texts = [
                replace(text, text=reply.text) for reply, text in zip(known, labelled(known), strict=True)
            ]
            return say(trained(start(seed), texts, adapted_config(epochs, seed), out / name), asked)

        scores = {
            epochs: balanced_accuracy(by(epochs, learnt, held, CHOOSING, f"inner-{epochs:g}"), held)
            for epochs in EPOCHS
        }
        return by(max(scores, key=lambda epochs: scores[epochs]), train, test, seed, f"{seed}")

    return learn


def labelled(of: Sequence[Reply]) -> list[LabelledText]:
    """Return whole replies to train on; refusals of both kinds together count as much as compliance.

    With three labels that count the same, two thirds of what is learnt would be refusals.
    """
    hits = sum(reply.label > 0 for reply in of)
    weights = {False: len(of) / (2 * (len(of) - hits)), True: len(of) / (2 * hits)}
    return [
        LabelledText(
            (reply.exchange.request.prompt, reply.exchange.completion),
            reply.label,
            reply.exchange.request.id,
            weights[reply.label > 0],
        )
        for reply in of
    ]


def adapted_config(epochs: float, seed: int) -> ClassifierConfig:
    """Return the settings of a training on XSTest's replies."""
    return replace(CONFIG, epochs=epochs, seed=seed, batch_size=16, balance=False)


def fresh(seed: int, tokens: int = CONFIG.max_length) -> ClassifierModule:
    """Return MiniLM with a head drawn by ``seed``."""
    with seeded(seed):
        return pretrained(MINILM, REPLIES, window=Window(tokens, 16))


def trained(
    start: ClassifierModule,
    texts: Sequence[LabelledText],
    config: ClassifierConfig,
    folder: Path,
    *,
    card: Mapping[str, Any] | None = None,
) -> ClassifierModule:
    """Return the classifier in ``folder``, training it if it is not there."""
    if not (folder / FACTS).is_file():
        with RichProgress() as progress:
            train_classifier(
                start,
                texts,
                config,
                output=folder,
                checkpoints=folder.with_name(f"{folder.name}-checkpoints"),
                progress=progress,
                card={"command": COMMAND, **(card or {})},
            )
    return load_module(folder)


def say(module: ClassifierModule, asked: Sequence[Reply]) -> Said:
    """Return a classifier's probabilities."""
    if isinstance(module, EncoderModule):
        module.merge_adapter()
    return ModuleClassifier(module).probabilities([reply.text for reply in asked])


def known(ask: Callable[[Sequence[Reply], int], Floats], of: Sequence[Reply]) -> Known:
    """Return ``ask``, asked once per seed for all replies and looked up from then on."""

    @cache
    def rows(seed: int) -> dict[tuple[str, str], Floats]:
        return {reply.key: row for reply, row in zip(of, ask(of, seed), strict=True)}

    return lambda some, seed: np.stack([rows(seed)[reply.key] for reply in some])
