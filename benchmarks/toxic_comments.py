"""Does training a judge of prompts help to tell toxic comments: before, during and after, on public comment sets.

    python -m benchmarks.toxic_comments RUN [--limit 1000] [--json] [--out DIR]

RUN is a run of `toxoid judge train judge-text` (or any judge that reads requests with an encoder). For each of its
rounds, and for the encoder before any of them, two numbers per set: the AUROC of the judge's own score, which was never
told of comments, and that of a logistic regression on the encoder's vectors which learnt from a fifth of the comments.
Intervals are bootstraps over comments, differences to the untrained encoder paired; HateCheck by functionality.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.command_line import run
from benchmarks.judge_systems import logistic_regression
from toxoid.data.loading import data_folders
from toxoid.data.request_set import hash_fraction
from toxoid.engines.classifiers.base import PROMPTS, positive
from toxoid.engines.classifiers.encoders import MINILM, pretrained
from toxoid.engines.classifiers.folders import load_module
from toxoid.engines.classifiers.inference import ModuleClassifier
from toxoid.engines.classifiers.modules import ClassifierModule, EncoderModule
from toxoid.engines.classifiers.windows import Window
from toxoid.errors import UsageError
from toxoid.methods.adversarial_tuning.rounds import JUDGE
from toxoid.stats.agreement import area_under_roc
from toxoid.stats.resampling import Floats, percentiles
from toxoid.store.files import write_json_atomic, write_text_atomic

PROBE_SHARE, RESAMPLES, LEVEL = 0.2, 1000, 0.95
BEFORE = "before"


@dataclass(frozen=True)
class Comments:
    """Comments with labels; ``kinds`` names the functionality of each, or nothing."""

    name: str
    texts: list[str]
    toxic: Floats
    kinds: list[str]


def comment_sets(limit: int | None) -> list[Comments]:
    """Return the four sets, of each at most ``limit`` comments chosen by hash.

    Raises:
        UsageError: A file is missing.
    """
    readers = {"surge": _surge, "davidson": _davidson, "civil comments": _civil, "hatecheck": _hatecheck}
    found = []
    for name, read in readers.items():
        rows = sorted(set(read()), key=lambda row: hash_fraction("comments", row[0]))[:limit]
        found.append(
            Comments(
                name,
                [text for text, _, _ in rows],
                np.array([float(toxic) for _, toxic, _ in rows]),
                [kind for _, _, kind in rows],
            )
        )
    return found


Row = tuple[str, bool, str]


def _table(path: str) -> Iterator[dict[str, str]]:
    file = next((folder / path for folder in data_folders() if (folder / path).is_file()), None)
    if file is None:
        raise UsageError(
            f"there is no {path} in the data folders: set TOXOID_DATA to the folder of the data sets"
        )
    yield from csv.DictReader(io.StringIO(file.read_text("utf-8", errors="replace")))


def _surge() -> Iterator[Row]:
    for row in _table("surge_toxicity/toxicity_en.csv"):
        yield row["text"], row["is_toxic"] == "Toxic", ""


def _davidson() -> Iterator[Row]:
    for row in _table("davidson_hate_offensive/labeled_data.csv"):
        yield row["tweet"], row["class"] != "2", ""


def _civil() -> Iterator[Row]:
    """Yield comments by the majority of their annotators; ties are left out."""
    votes: dict[str, list[bool]] = defaultdict(list)
    for row in _table("toxic_spans_civil/annotations.csv"):
        votes[row["comment_id"]].append(row["not toxic"] != "True")
    for row in _table("toxic_spans_civil/comments.csv"):
        given = votes.get(row["comment_id"], [])
        if given and 2 * sum(given) != len(given):
            yield row["comment_text"], 2 * sum(given) > len(given), ""


def _hatecheck() -> Iterator[Row]:
    for row in _table("hatecheck/test_suite_cases.csv"):
        yield row["test_case"], row["label_gold"] == "hateful", row["functionality"]


# ---- judges ----


def judges_of(run: Path) -> dict[str, ClassifierModule]:
    """Return the untrained encoder and the judges of a run's rounds, in order.

    Raises:
        UsageError: There are none.
    """
    rounds = sorted(
        run.glob(f"artifacts/adversary/round-*/{JUDGE}"), key=lambda path: int(path.parent.name[6:])
    )
    if not rounds:
        raise UsageError(f"{run} has no rounds: give a run of `toxoid judge train judge-text`")
    torch.manual_seed(0)
    found: dict[str, ClassifierModule] = {BEFORE: pretrained(MINILM, PROMPTS, window=Window(128, 16)).eval()}
    found |= {f"round {path.parent.name[6:]}": load_module(path).eval() for path in rounds}
    return found


def scores_of(judge: ClassifierModule, texts: Sequence[str]) -> Floats:
    """Return the judge's probability for each text; a half for one that it cannot read."""
    scores = positive(judge.labels, ModuleClassifier(judge).probabilities(list(texts)))
    return np.where(np.isnan(scores), 0.5, scores)


def vectors_of(judge: EncoderModule, texts: Sequence[str]) -> Floats:
    """Return the unit vectors of the texts' first windows, (texts, width); zeros for one that cannot be read."""
    width = judge.encoder.config.hidden_size
    found = np.zeros((len(texts), width))
    first = {row.text: row for row in reversed(judge.rows(list(texts)))}
    rows = sorted(first.values(), key=len)
    for start in range(0, len(rows), 64):
        part = rows[start : start + 64]
        with torch.inference_mode():
            vectors = torch.nn.functional.normalize(judge.pooled(**judge.collate(part)), dim=-1)
        for row, vector in zip(part, vectors, strict=True):
            found[row.text] = vector.numpy()
    return found


# ---- numbers ----


@dataclass(frozen=True)
class Number:
    """An AUROC with its interval, and its difference to the one before any training."""

    value: float
    low: float
    high: float
    change: tuple[float, float, float] | None = None

    def __str__(self) -> str:
        shown = f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"
        if self.change is None:
            return shown
        middle, low, high = self.change
        return f"{shown}, {middle:+.3f} ({low:+.3f} to {high:+.3f})"


def compare(scores: Mapping[str, Floats], toxic: Floats) -> dict[str, Number]:
    """Return the AUROC of each judge's scores; comments are resampled for all judges together."""
    rng = np.random.default_rng(0)
    draws: dict[str, list[float]] = defaultdict(list)
    for _ in range(RESAMPLES):
        rows = rng.integers(len(toxic), size=len(toxic))
        for name, given in scores.items():
            draws[name].append(area_under_roc(given[rows], toxic[rows]) or 0.5)
    found = {}
    for name, given in scores.items():
        value = area_under_roc(given, toxic) or 0.5
        change = None
        if name != BEFORE:
            start = area_under_roc(scores[BEFORE], toxic) or 0.5
            ends = percentiles(np.array(draws[name]) - np.array(draws[BEFORE]), LEVEL)
            change = (value - start, *ends)
        found[name] = Number(value, *percentiles(np.array(draws[name]), LEVEL), change)
    return found


def measured(judges: Mapping[str, ClassifierModule], comments: Comments) -> dict[str, dict[str, Number]]:
    """Return by kind of reading (``own score``, ``probe``) and judge the AUROC on the comments no probe learnt."""
    probe = np.array([hash_fraction("probe", text) < PROBE_SHARE for text in comments.texts])
    tested = ~probe
    texts = [text for text, kept in zip(comments.texts, tested, strict=True) if kept]
    own = {name: scores_of(judge, texts) for name, judge in judges.items()}
    probed = {}
    for name, judge in judges.items():
        if isinstance(judge, EncoderModule):
            vectors = vectors_of(judge, comments.texts)
            probed[name] = logistic_regression(vectors[probe], comments.toxic[probe])(vectors[tested])
    return {
        "own score": compare(own, comments.toxic[tested]),
        "probe": compare(probed, comments.toxic[tested]),
    }


def by_functionality(judges: Mapping[str, ClassifierModule], comments: Comments) -> dict[str, list[float]]:
    """Return by functionality the mean score of each judge: high is right for hateful ones (``_h``), low for others."""
    scores = {name: scores_of(judge, comments.texts) for name, judge in judges.items()}
    kinds = sorted(set(comments.kinds))
    places = {kind: [i for i, each in enumerate(comments.kinds) if each == kind] for kind in kinds}
    return {kind: [float(given[where].mean()) for given in scores.values()] for kind, where in places.items()}


# ---- pages ----


def page(
    sets: Sequence[Comments],
    found: Mapping[str, Mapping[str, Mapping[str, Number]]],
    kinds: Mapping[str, Sequence[float]],
    names: Sequence[str],
) -> str:
    """Return all tables as Markdown."""
    parts = ["# Toxic comments before, during and after the training of a judge of prompts"]
    for reading, title in (("own score", "The judge's own score"), ("probe", "A probe on its vectors")):
        lines = [f"| set (comments) | {' | '.join(names)} |", f"|{'---|' * (len(names) + 1)}"]
        for comments in sets:
            cells = [str(found[comments.name][reading].get(name, "–")) for name in names]
            lines.append(f"| {comments.name} ({len(comments.texts)}) | {' | '.join(cells)} |")
        parts += [f"## {title}: AUROC, and the change to {BEFORE}", "\n".join(lines)]
    lines = [f"| functionality | {' | '.join(names)} |", f"|{'---|' * (len(names) + 1)}"]
    lines += [
        f"| {kind} | {' | '.join(f'{value:.2f}' for value in values)} |" for kind, values in kinds.items()
    ]
    parts += ["## HateCheck by functionality: mean score (`_h`: hateful, `_nh`: not)", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--limit", type=int, default=1000, help="comments of each set, chosen by hash")
    parser.add_argument("--out", type=Path, default=Path("runs/toxic-comments"))
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    given = parser.parse_args(arguments)
    sets, judges = comment_sets(given.limit), judges_of(given.run)
    found = {comments.name: measured(judges, comments) for comments in sets}
    hatecheck = next(comments for comments in sets if comments.name == "hatecheck")
    text = page(sets, found, by_functionality(judges, hatecheck), list(judges))
    given.out.mkdir(parents=True, exist_ok=True)
    write_text_atomic(given.out / "toxic-comments.md", text)
    flat = {
        f"{name}.{reading}.{judge}".replace(" ", "_"): round(number.value, 4)
        for name, readings in found.items()
        for reading, numbers in readings.items()
        for judge, number in numbers.items()
    }
    write_json_atomic(given.out / "toxic-comments.json", flat)
    print(text)
    if given.json:
        print(json.dumps(flat))


if __name__ == "__main__":
    run(main)
