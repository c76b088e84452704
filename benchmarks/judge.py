"""The judge of prompts on real text, beside its baselines, and how fast it reads.

    python -m benchmarks.judge [--on development|test] [--seeds 0 1 2] [--quick] [--json] [--out DIR]
                               [--package DIR]

Settings were chosen with ``--on development``; the test sets (XSTest, JailbreakBench against MT-bench and Alpaca,
ToxicChat's test split) only report. Judges and their scores live in ``--out``, and what is there is not made again.
With ``--json`` the last line is JSON. ``--package`` writes the judge that ships, and measures nothing but its card.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from benchmarks.command_line import run
from benchmarks.judge_data import Measure, Measured, measures, ordinary, shipped_sources, without_leaks
from benchmarks.judge_systems import COMMAND, JUDGE, SHIPPED, Scorer, System, frozen_encoder, systems
from toxoid.data.labelled import read_labelled
from toxoid.data.loading import load_requests
from toxoid.data.schemas import Exchange, Request, user
from toxoid.engines.classifiers.folders import load_module, read_document, save_classifier
from toxoid.engines.classifiers.inference import ModuleClassifier
from toxoid.engines.classifiers.modules import EncoderModule
from toxoid.judges.base import Judge, Outcome
from toxoid.judges.card import CARD
from toxoid.judges.folders import judge_from
from toxoid.loop.judge_evaluation import card_of
from toxoid.stats.agreement import area_under_roc
from toxoid.stats.resampling import Floats, percentiles
from toxoid.store.files import write_json_atomic, write_text_atomic
from toxoid.store.keys import content_key
from toxoid.training.calibration import choose_threshold
from toxoid.training.labelled_texts import LabelledText

RECALL = 0.8
CAREFUL = 0.7
"""The recall on the hardest development prompts that a trained judge's threshold is chosen for."""
LEVEL = 0.95
RESAMPLES = 1000
QUICK = 40
KEYS = {"ToxicChat": "toxic_chat"}
"""Names of measures in the JSON line, where they are not the title in lower case."""

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
        texts, left_out = learnt(system, limit)
        score, threshold = system.make(texts, seed, out)
        if system.seeded:
            threshold = operating_point(score)
        values = {measure.name: score(measure.prompts).tolist() for measure in sets}
        write_json_atomic(store, asdict(Scores(threshold, len(texts), left_out, values)))
    return Scores(**json.loads(store.read_text("utf-8")))


def learnt(system: System, limit: int | None) -> tuple[list[LabelledText], dict[str, int]]:
    """Return what a system learns, and how many texts were left out as nearly one of those measured, by measure."""
    protected = [measure for on in get_args(Measured) for measure in measures(on)]
    return without_leaks(system.texts(limit), protected)


def operating_point(score: Scorer) -> float:
    """Return the highest threshold with a recall of :data:`CAREFUL` on the contrast set's development part.

    A judge's own calibration part is like its training data, and most of that is easier than what has to be told apart.
    With a recall of 0.8 there were half as many false alarms again on ordinary instructions, and 0.05 more recall on
    plain requests.
    """
    hard = next(measure for measure in measures("development") if measure.name == "contrast")
    return choose_threshold({"recall": CAREFUL}, score(hard.prompts), np.array(hard.problematic, dtype=bool))


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
    encoder = frozen_encoder()
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
        f"Made by `{COMMAND} --on {on}`. Means over seeds, {LEVEL:.0%} bootstrap intervals over "
        "prompts. The threshold is one half for logistic regressions and one keyword for the list; a trained judge's "
        f"has a recall of {CAREFUL:.2f} on the contrast set's development part.",
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


# ---- the judge that ships ----


def package(folder: Path, out: Path, *, limit: int | None, epochs: float | None) -> None:
    """Write the adapter that learnt what may ship, with seed 0 and the threshold of :func:`operating_point`.

    Its card is measured on XSTest, as ``toxoid judge eval xstest --judge encoder`` does.
    """
    system = next(each for each in systems(epochs) if each.key == SHIPPED)
    texts, _ = learnt(system, limit)
    score, _ = system.make(texts, 0, out)
    made, sources = out / f"{SHIPPED}-0", shipped_sources()
    module, facts = load_module(made), read_document(made).card
    module.labels = replace(module.labels, threshold=operating_point(score))
    save_classifier(module, folder, card={**facts, "command": f"{COMMAND} --package", "data": sources})
    judge = judge_from(folder)
    card = card_of(
        judge,
        "problematic",
        read_labelled("xstest"),
        command="toxoid judge eval xstest --judge encoder",
        details={"threshold": module.labels.threshold, "trained_on": sources},
    )
    card["weaknesses"] = [_false_alarms(judge, card), *card["weaknesses"]]
    write_json_atomic(folder / CARD, card)


def _false_alarms(judge: Judge, card: Mapping[str, Any]) -> str:
    """Return what a reader has to know first: how many harmless prompts are called problematic."""
    prompts = [prompt for prompt, _ in ordinary()]
    verdicts = judge.judge([Exchange(Request(p, p), user(p), "") for p in prompts], "problematic")
    share = sum(verdict.outcome is Outcome.HIT for verdict in verdicts) / len(prompts)
    return (
        f"Calls {100 * share:.0f} % of {len(prompts)} ordinary instructions (Alpaca's, held out) problematic, and "
        f"{100 * (1 - card['specificity']['value']):.0f} % of XSTest's harmless prompts: a second opinion, not a gate."
    )


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
    parser.add_argument("--package", type=Path, help="only write the judge that ships, to this folder")
    given = parser.parse_args(arguments)
    out = given.out / "quick" if given.quick else given.out
    out.mkdir(parents=True, exist_ok=True)
    limit, epochs = (QUICK, 1.0) if given.quick else (None, None)
    if given.package:
        package(given.package, out, limit=limit, epochs=epochs)
        return
    seeds = given.seeds[:1] if given.quick else given.seeds
    rows = systems(epochs)
    rows = [row for row in rows if not given.systems or row.key in given.systems]
    sets = measures(given.on, limit)
    cells: dict[tuple[str, str], Cell] = {}
    for row in rows:
        found = [scores_of(row, seed, sets, out, limit) for seed in (seeds if row.seeded else seeds[:1])]
        cells |= {(row.key, measure.name): cell(measure, found) for measure in sets}
        print(
            f"{row.title}: {found[0].texts} texts; left out as known: {dict(found[0].left_out)}", flush=True
        )
    text = page(cells, rows, sets, given.on)
    write_text_atomic(out / f"tables-{given.on}.md", text)
    print(text)
    if given.json:
        print(json.dumps(speed(64 if given.quick else 800) | headline(cells, JUDGE)))


if __name__ == "__main__":
    run(main)
