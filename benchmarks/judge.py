"""The judge of prompts on real text, beside its baselines, and how fast it reads.

    python -m benchmarks.judge [--on development|test] [--seeds 0 1 2] [--quick] [--json] [--out DIR]

Settings were chosen with ``--on development``; the test sets (XSTest, JailbreakBench against MT-bench and Alpaca,
ToxicChat's test split) only report. Judges and their scores live in ``--out``, and what is there is not made again.
With ``--json`` the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias, get_args

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.special import expit
from torch import Tensor
from torch.nn import functional

from benchmarks.judge_data import (
    Measure,
    Measured,
    baseline_texts,
    judge_texts,
    measures,
    without_leaks,
)
from toxoid.cli.progress import RichProgress
from toxoid.data.loading import load_requests
from toxoid.data.request_set import normalised
from toxoid.engines.classifiers.base import Labels, positive
from toxoid.engines.classifiers.encoders import MINILM, pretrained
from toxoid.engines.classifiers.folders import FACTS
from toxoid.engines.classifiers.inference import ModuleClassifier, bf16_pays
from toxoid.engines.classifiers.loading import load_classifier
from toxoid.engines.classifiers.modules import EncoderModule
from toxoid.engines.classifiers.windows import Window
from toxoid.stats.agreement import area_under_roc
from toxoid.stats.resampling import Floats, percentiles
from toxoid.store.files import write_json_atomic, write_text_atomic
from toxoid.store.keys import content_key
from toxoid.training.calibration import choose_threshold
from toxoid.training.classifier import ClassifierConfig, LabelledText, train_classifier
from toxoid.training.determinism import seeded

JUDGE = "judge"
"""The row that is reported."""
LABELS = Labels(("harmless", "problematic"), frozenset({"problematic"}), "problematic")
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
SHIPPED = replace(CONFIG, mode="lora", lora_rank=8, learning_rate=2e-3, epochs=3.0)
"""An adapter of 1.3 MB, on texts that may ship."""
RECALL = 0.8
LEVEL = 0.95
RESAMPLES = 1000
BATCH = 64
QUICK = 40
KEYS = {"ToxicChat": "toxic_chat"}
"""Names of measures in the JSON line, where they are not the title in lower case."""

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
def _encoder() -> EncoderModule:
    return pretrained(MINILM, LABELS, window=Window(CONFIG.max_length, 16)).eval()


def vectors_of(prompts: Sequence[str], out: Path) -> Floats:
    """Return the encoder's unit vectors of the prompts' first windows, (prompts, width); kept in ``out``."""
    store = out / f"vectors-{content_key(list(prompts))[:16]}.npy"
    if not store.is_file():
        found = functional.normalize(_encoded(prompts), dim=1).numpy()
        np.save(store, found)
    return np.asarray(np.load(store), dtype=np.float64)


@torch.inference_mode()
def _encoded(prompts: Sequence[str]) -> Tensor:
    encoder = _encoder()
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
            start = pretrained(MINILM, LABELS, window=Window(config.max_length, 16))
        with RichProgress() as progress:
            train_classifier(
                start,
                texts,
                replace(config, seed=seed),
                output=folder,
                checkpoints=out / f"{name}-{seed}-checkpoints",
                progress=progress,
                card={"command": "python -m benchmarks.judge"},
            )
    classifier = load_classifier(folder)
    return lambda prompts: positive(
        classifier.labels, classifier.probabilities(prompts)
    ), classifier.labels.threshold


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
            "shipped",
            "MiniLM + LoRA, what may ship",
            judge("shipped", SHIPPED),
            learnt(permissive=True),
            True,
        ),
        System(JUDGE, "MiniLM, all sets", judge(JUDGE), learnt(), True),
    ]


# ---- measuring ----


@dataclass(frozen=True)
class Scores:
    """What one system with one seed said.

    Args:
        threshold: From which score on it says problematic.
        texts: How many it learnt from.
        left_out: How many were left out as nearly equal to a measured prompt, by measure.
        values: By measure, a score per prompt.
    """

    threshold: float
    texts: int
    left_out: Mapping[str, int]
    values: Mapping[str, Sequence[float]]


def scores_of(system: System, seed: int, sets: Sequence[Measure], out: Path, limit: int | None) -> Scores:
    """Return a system's scores, from ``out`` if they are there."""
    store = out / f"scores-{system.key}-{seed}-{content_key([list(m.prompts) for m in sets])[:8]}.json"
    if not store.is_file():
        protected = [measure for on in get_args(Measured) for measure in measures(on)]
        texts, left_out = without_leaks(system.texts(limit), protected)
        score, threshold = system.make(texts, seed, out)
        if system.seeded:
            threshold = operating_point(score)
        values = {measure.name: score(measure.prompts).tolist() for measure in sets}
        write_json_atomic(store, asdict(Scores(threshold, len(texts), left_out, values)))
    return Scores(**json.loads(store.read_text("utf-8")))


def operating_point(score: Scorer) -> float:
    """Return the highest threshold with a recall of :data:`RECALL` on the contrast set's development part.

    A judge's own calibration part is like its training data, and most of that is easier than what has to be told apart.
    """
    hard = next(measure for measure in measures("development") if measure.name == "contrast")
    return choose_threshold({"recall": RECALL}, score(hard.prompts), np.array(hard.problematic, dtype=bool))


Statistics: TypeAlias = dict[str, float]


def statistics_of(scores: Floats, labels: Floats, threshold: float) -> Statistics:
    """Return AUROC, the rates at the threshold, and the false positives where the recall is :data:`RECALL`."""
    hits, misses = scores[labels == 1], scores[labels == 0]
    recall, false = float((hits >= threshold).mean()), float((misses >= threshold).mean())
    share = len(hits) / len(scores)
    return {
        "auroc": area_under_roc(scores, labels) or 0.0,
        "accuracy": share * recall + (1 - share) * (1 - false),
        "recall": recall,
        "false_positives": false,
        "false_positives_at_recall": float((misses >= np.quantile(hits, 1 - RECALL, method="lower")).mean()),
    }


@dataclass(frozen=True)
class Cell:
    """Statistics of a system on a measure: means over seeds, and bootstrap intervals over prompts."""

    means: Statistics
    intervals: Mapping[str, tuple[float, float]]


def cell(measure: Measure, found: Sequence[Scores]) -> Cell:
    """Return the statistics over all seeds; hits and misses are resampled each by themselves, for all seeds alike."""
    labels = np.array(measure.problematic, dtype=np.float64)
    values = [np.array(scores.values[measure.name]) for scores in found]
    sides = [np.flatnonzero(labels == side) for side in (0, 1)]
    random = np.random.default_rng(0)

    def over_seeds(places: Any) -> Statistics:
        each = [
            statistics_of(v[places], labels[places], s.threshold) for v, s in zip(values, found, strict=True)
        ]
        return {name: statistics.fmean(one[name] for one in each) for name in each[0]}

    drawn = [
        over_seeds(np.concatenate([random.choice(side, len(side)) for side in sides]))
        for _ in range(RESAMPLES)
    ]
    means = over_seeds(np.arange(len(labels)))
    return Cell(means, {name: percentiles(np.array([d[name] for d in drawn]), LEVEL) for name in means})


# ---- speed ----


def speed(count: int) -> dict[str, float]:
    """Return texts per second of XSTest's and Alpaca's prompts: as judges read, one by one, and in plain batches.

    Medians of three rounds in turn, so that a load on the machine meets all alike.
    """
    prompts = [r.prompt for name in ("xstest", "alpaca") for r in load_requests(name, limit=count // 2)]
    encoder = _encoder()
    classifier = ModuleClassifier(encoder)
    few = prompts[:: max(1, len(prompts) // 64)]
    ways: dict[str, tuple[Sequence[str], Callable[[Sequence[str]], Any]]] = {
        "texts_per_second": (prompts, classifier.probabilities),
        "texts_per_second_unbatched": (few, lambda texts: [_plain(encoder, [text]) for text in texts]),
        "texts_per_second_plain_batches": (
            prompts,
            lambda texts: [_plain(encoder, texts[i : i + 32]) for i in range(0, len(texts), 32)],
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(4):
        for name, (texts, way) in ways.items():
            start = time.perf_counter()
            way(texts)
            seconds[name].append((time.perf_counter() - start) / len(texts))
    return {name: round(1 / statistics.median(found[1:]), 1) for name, found in seconds.items()}


@torch.inference_mode()
def _plain(encoder: EncoderModule, texts: Sequence[str]) -> Tensor:
    logits: Tensor = encoder(**encoder.collate(encoder.rows(texts)))
    return logits


# ---- pages ----

COLUMNS = {
    "auroc": "AUROC",
    "accuracy": "accuracy",
    "false_positives": "false positives",
    "recall": "recall",
    "false_positives_at_recall": f"false positives at recall {RECALL:.2f}",
}


def page(
    cells: Mapping[tuple[str, str], Cell], rows: Sequence[System], sets: Sequence[Measure], on: str
) -> str:
    """Return the tables as Markdown."""
    parts = [
        f"# The judge of prompts: {on} sets",
        f"Made by `python -m benchmarks.judge --on {on}`. Means over seeds, {LEVEL:.0%} bootstrap intervals over "
        "prompts. The threshold is one half for logistic regressions and one keyword for the list; a trained judge's "
        "has a recall of 0.80 on the contrast set's development part.",
    ]
    for measure in sets:
        counts = Counter(measure.problematic)
        parts += [
            f"## {measure.name}: {counts[1]} problematic, {counts[0]} harmless",
            _markdown(
                ["system", *COLUMNS.values()],
                [[s.title, *_cells(cells[s.key, measure.name])] for s in rows],
            ),
        ]
    return "\n\n".join(parts) + "\n"


def _cells(found: Cell) -> list[str]:
    return [
        f"{found.means[name]:.3f} [{found.intervals[name][0]:.3f}, {found.intervals[name][1]:.3f}]"
        for name in COLUMNS
    ]


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in [heads, ["---"] * len(heads), *rows])


def headline(cells: Mapping[tuple[str, str], Cell], key: str) -> dict[str, float]:
    """Return a system's numbers by flat names, such as ``xstest_auroc``."""
    names = {
        "auroc": "auroc",
        "accuracy": "agreement",
        "false_positives": "false_positives",
        "recall": "recall",
    }
    return {
        f"{KEYS.get(measure, measure.lower())}_{name}".replace(" ", "_"): round(found.means[statistic], 4)
        for (system, measure), found in cells.items()
        for statistic, name in names.items()
        if system == key
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, measure, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--on", choices=get_args(Measured), default="test")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--systems", nargs="+", help="keys of the rows, all by default")
    parser.add_argument(
        "--quick", action="store_true", help="40 prompts of each set and label, one epoch, one seed"
    )
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--out", type=Path, default=Path("runs/judge-benchmark"))
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    limit = QUICK if given.quick else None
    seeds = given.seeds[:1] if given.quick else given.seeds
    rows = systems(1.0 if given.quick else None)
    rows = [row for row in rows if not given.systems or row.key in given.systems]
    sets = measures(given.on, limit)
    cells: dict[tuple[str, str], Cell] = {}
    for row in rows:
        found = [
            scores_of(row, seed, sets, given.out, limit) for seed in (seeds if row.seeded else seeds[:1])
        ]
        cells |= {(row.key, measure.name): cell(measure, found) for measure in sets}
        print(
            f"{row.title}: {found[0].texts} texts; left out as known: {dict(found[0].left_out)}", flush=True
        )
    text = page(cells, rows, sets, given.on)
    write_text_atomic(given.out / f"tables-{given.on}.md", text)
    print(text)
    if given.json:
        print(json.dumps(speed(64 if given.quick else 800) | headline(cells, JUDGE)))


if __name__ == "__main__":
    main()
