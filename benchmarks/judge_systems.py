"""What :mod:`benchmarks.judge` compares, and how it learns: keywords, logistic regressions, a trained encoder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any, TypeAlias

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import expit
from torch import Tensor
from torch.nn import functional

from benchmarks.judge_data import baseline_texts, judge_texts
from toxoid.cli.progress import RichProgress
from toxoid.data.request_set import normalised
from toxoid.engines.classifiers.base import PROMPTS, positive
from toxoid.engines.classifiers.encoders import MINILM, pretrained
from toxoid.engines.classifiers.folders import FACTS, load_module
from toxoid.engines.classifiers.inference import ModuleClassifier, bf16_pays
from toxoid.engines.classifiers.loading import load_classifier
from toxoid.engines.classifiers.modules import EncoderModule
from toxoid.engines.classifiers.windows import Window
from toxoid.stats.resampling import Floats
from toxoid.store.keys import content_key
from toxoid.training.classifier import ClassifierConfig, train_classifier
from toxoid.training.determinism import seeded
from toxoid.training.labelled_texts import LabelledText

COMMAND = "python -m benchmarks.judge"
JUDGE, SHIPPED, AVERAGED = "judge", "shipped", "averaged"
"""The row that is reported, that of the judge in the package, and that of several trainings in one."""
MEMBERS = 3
CONFIG = ClassifierConfig(
    mode="full",
    learning_rate=1e-4,
    epochs=2,
    smoothing=0.1,
    batch_size=32,
    weight_decay=0.01,
    warmup_steps=30,
    max_length=128,
    save_steps=200,
    calibration=0.1,
    threshold="balanced",
)
ADAPTER = replace(CONFIG, mode="lora", lora_rank=8, learning_rate=2e-3)
"""An adapter of 1.3 MB, on texts that may ship."""
BATCH = 64

KEYWORDS = (
    "attack", "bomb", "bribe", "bully", "cheat", "counterfeit", "crime", "destroy", "drug", "exploit", "explosive",
    "fake", "forge", "fraud", "hack", "harass", "harm", "hate", "hurt", "illegal", "kidnap", "kill", "launder",
    "malware", "murder", "phishing", "poison", "racist", "rape", "rob", "scam", "self harm", "sexist", "shoot",
    "smuggle", "stab", "stalk", "steal", "suicide", "terrorist", "threat", "torture", "virus", "weapon",
)  # fmt: skip

Scorer: TypeAlias = Callable[[Sequence[str]], Floats]
"""Prompts to probabilities of being problematic."""


@dataclass(frozen=True)
class System:
    """What is compared.

    Args:
        key: Of its files.
        title: Of its row.
        make: Training texts, seed and folder to a scorer and its threshold.
        texts: What it learns from, leaks included; an argument limits each set.
        seeded: Whether it depends on the seed.
    """

    key: str
    title: str
    make: Callable[[Sequence[LabelledText], int, Path], tuple[Scorer, float]]
    texts: Callable[[int | None], list[LabelledText]]
    seeded: bool = False


# ---- baselines ----


def keywords(texts: Sequence[LabelledText], seed: int, out: Path) -> tuple[Scorer, float]:
    """Return the share of six keywords that a prompt has; one is enough."""

    def score(prompts: Sequence[str]) -> Floats:
        found = [sum(f" {word}" in f" {normalised(prompt)}" for word in KEYWORDS) for prompt in prompts]
        return np.minimum(np.array(found) / 6, 1.0)

    return score, 1 / 6


def tfidf(texts: Sequence[LabelledText], seed: int, out: Path) -> tuple[Scorer, float]:
    """Return logistic regression over TF-IDF of words and pairs of words that occur in two texts or more."""
    terms = [_terms(str(text.text)) for text in texts]
    documents = Counter(term for found in terms for term in set(found))
    places = {term: i for i, term in enumerate(sorted(t for t, n in documents.items() if n > 1))}
    inverse = np.array([np.log((1 + len(texts)) / (1 + documents[term])) + 1 for term in places])

    def vectors(found: Sequence[Sequence[str]]) -> Any:
        counts = [Counter(places[term] for term in one if term in places) for one in found]
        values = [np.array([n * inverse[i] for i, n in count.items()]) for count in counts]
        scaled = [value / max(np.linalg.norm(value), 1e-12) for value in values]
        ends = np.cumsum([0, *map(len, counts)])
        columns = np.array([i for count in counts for i in count], dtype=np.int64)
        return csr_array((np.concatenate([*scaled, np.empty(0)]), columns, ends), (len(found), len(places)))

    fitted = logistic_regression(vectors(terms), np.array([text.label for text in texts]))
    return lambda prompts: fitted(vectors([_terms(prompt) for prompt in prompts])), 0.5


def _terms(text: str) -> list[str]:
    words = normalised(text).split()
    return [*words, *map(" ".join, pairwise(words))]


def frozen(texts: Sequence[LabelledText], seed: int, out: Path) -> tuple[Scorer, float]:
    """Return logistic regression over the frozen encoder's sentence vectors."""
    fitted = logistic_regression(
        vectors_of([str(text.text) for text in texts], out), np.array([text.label for text in texts])
    )
    return lambda prompts: fitted(vectors_of(prompts, out)), 0.5


def logistic_regression(features: Any, labels: Floats, *, penalty: float = 1.0) -> Callable[[Any], Floats]:
    """Return the probability of label 1 as a function of features, (texts, width), dense or sparse.

    The weights, less the intercept, have the penalty ``penalty / 2 |w|^2`` beside the summed loss.
    """
    signs = 2.0 * labels - 1

    def loss(weights: Floats) -> tuple[float, Floats]:
        margins = signs * (features @ weights[:-1] + weights[-1])
        pull = -signs * expit(-margins)
        value = np.logaddexp(0, -margins).sum() + penalty / 2 * (weights[:-1] @ weights[:-1])
        return float(value), np.append(features.T @ pull + penalty * weights[:-1], pull.sum())

    found = minimize(loss, np.zeros(features.shape[1] + 1), jac=True, method="L-BFGS-B").x
    return lambda given: np.asarray(expit(given @ found[:-1] + found[-1]))


@cache
def frozen_encoder() -> EncoderModule:
    """Return MiniLM as it is published, under a head that nothing has taught."""
    return pretrained(MINILM, PROMPTS, window=Window(CONFIG.max_length, 16)).eval()


def vectors_of(prompts: Sequence[str], out: Path) -> Floats:
    """Return the encoder's unit vectors of the prompts' first windows, (prompts, width); kept in ``out``."""
    store = out / f"vectors-{content_key(list(prompts))[:16]}.npy"
    if not store.is_file():
        found = functional.normalize(_encoded(prompts), dim=1).numpy()
        np.save(store, found)
    return np.asarray(np.load(store), dtype=np.float64)


@torch.inference_mode()
def _encoded(prompts: Sequence[str]) -> Tensor:
    encoder = frozen_encoder()
    first = {row.text: row for row in reversed(encoder.rows(prompts))}
    order = sorted(first, key=lambda index: len(first[index]))
    found = torch.zeros(len(prompts), encoder.head.in_features)
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        tensors = encoder.collate([first[index] for index in batch])
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16_pays(encoder)):
            found[batch] = encoder.pooled(**tensors).float()
    return found


def trained(
    texts: Sequence[LabelledText], seed: int, out: Path, *, name: str, config: ClassifierConfig
) -> tuple[Scorer, float]:
    """Return a judge, trained unless it lies in ``out``, and the threshold that its own calibration found."""
    folder = out / f"{name}-{seed}"
    if not (folder / FACTS).is_file():
        with seeded(seed):
            start = pretrained(MINILM, PROMPTS, window=Window(config.max_length, 16))
        with RichProgress() as progress:
            train_classifier(
                start,
                texts,
                replace(config, seed=seed),
                output=folder,
                checkpoints=out / f"{name}-{seed}-checkpoints",
                progress=progress,
                card={"command": COMMAND},
            )
    classifier = load_classifier(folder)
    return lambda prompts: positive(
        classifier.labels, classifier.probabilities(prompts)
    ), classifier.labels.threshold


def averaged(
    texts: Sequence[LabelledText], seed: int, out: Path, *, config: ClassifierConfig
) -> tuple[Scorer, float]:
    """Return the judge whose weights are the mean of :data:`MEMBERS` judges' that differ in their seed.

    They start from one encoder, so that their mean is a judge too, as fast as each of them (Wortsman et al. 2022,
    Model soups, section 3). No two averages share a member.
    """
    seeds = range(seed * MEMBERS, (seed + 1) * MEMBERS)
    thresholds = [trained(texts, member, out, name=JUDGE, config=config)[1] for member in seeds]
    modules = [load_module(out / f"{JUDGE}-{member}") for member in seeds]
    states = [module.state_dict() for module in modules]
    modules[0].load_state_dict(
        {name: torch.stack([s[name].float() for s in states]).mean(0) for name in states[0]}
    )
    judge = ModuleClassifier(modules[0])
    return lambda prompts: positive(judge.labels, judge.probabilities(prompts)), fmean(thresholds)


def systems(epochs: float | None = None) -> list[System]:
    """Return what is compared; ``epochs`` in place of those of the settings."""

    def judge(
        name: str, config: ClassifierConfig = CONFIG
    ) -> Callable[[Sequence[LabelledText], int, Path], tuple[Scorer, float]]:
        return partial(trained, name=name, config=replace(config, epochs=epochs or config.epochs))

    def learnt(**given: bool) -> Callable[[int | None], list[LabelledText]]:
        return lambda limit: judge_texts(limit=limit, **given)

    return [
        System("keywords", "keyword list", keywords, lambda limit: []),
        System("tfidf", "TF-IDF + logistic regression", tfidf, baseline_texts),
        System("frozen", "frozen MiniLM + logistic regression", frozen, baseline_texts),
        System("frozen-own", "the same, on the judge's texts", frozen, learnt()),
        System("no-contrast", "MiniLM, no contrast set", judge("no-contrast"), learnt(contrast=False), True),
        System(
            SHIPPED,
            "MiniLM + LoRA, what may ship",
            judge(SHIPPED, ADAPTER),
            learnt(permissive=True),
            True,
        ),
        System(JUDGE, "MiniLM, all sets", judge(JUDGE), learnt(), True),
        System(
            AVERAGED,
            f"MiniLM, all sets, {MEMBERS} trainings averaged",
            partial(averaged, config=replace(CONFIG, epochs=epochs or CONFIG.epochs)),
            learnt(),
            True,
        ),
    ]
