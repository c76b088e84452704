"""Adversary against judge in the lab, beside as many labels on random data, over seeds.

    python -m benchmarks.adversary_versus_judge [--quick] [--seeds 0 1 2] [--judges bag-of-words ...] [--json]

Judges that know nothing of the lab learn from 48 requests about 4 of 12 categories, and then for some rounds from what
an adversary writes. Arms: the adversary as it is, the adversary fine-tuned on its successes, and no adversary but
requests drawn at random from what users of the lab ask for, with as many labels. Runs live in ``--out`` and are
continued where they stand. Settings are chosen with ``--development``, which measures on other goals and wordings.
With ``--json`` the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import torch

from benchmarks import judge_lab
from toxoid.config.recipe import ModelSection
from toxoid.engines.classifiers.base import PROMPTS
from toxoid.engines.classifiers.encoders import MINILM, pretrained, small_encoder
from toxoid.engines.classifiers.folders import load_module
from toxoid.engines.classifiers.inference import ModuleClassifier
from toxoid.engines.classifiers.modules import BagOfWordsModule, ClassifierModule
from toxoid.engines.classifiers.windows import Window
from toxoid.engines.loading import LoadedModel
from toxoid.loop import models
from toxoid.methods.adversarial_tuning.adversary import (
    Adversary,
    RandomData,
    local_adversary,
    tune_adversary,
    with_adapters,
)
from toxoid.methods.adversarial_tuning.holdouts import (
    CONTENTIOUS,
    MISSED,
    UNCONDITIONED,
    UNSEEN_ADVERSARY,
    Holdouts,
)
from toxoid.methods.adversarial_tuning.measures import by_group, hits_of, right_of, scores_of
from toxoid.methods.adversarial_tuning.options import AdversaryOptions, RoundOptions
from toxoid.methods.adversarial_tuning.prompts import LabelledPrompt
from toxoid.methods.adversarial_tuning.rounds import Game, play
from toxoid.methods.adversarial_tuning.truth import LabTruth
from toxoid.progress import SILENT
from toxoid.stats.paired import PairedResult, paired_difference
from toxoid.store.files import write_json_atomic, write_text_atomic
from toxoid.training.classifier import ClassifierConfig, train_classifier
from toxoid.training.examples import Example
from toxoid.training.labelled_texts import LabelledText
from toxoid.training.sft import SFTConfig

JudgeKind: TypeAlias = Literal["bag-of-words", "small-encoder", "minilm"]
Arm: TypeAlias = Literal["untuned", "tuned", "random-data"]

ARMS: tuple[Arm, ...] = get_args(Arm)
ROUNDS, CANDIDATES = 5, 60
SLICES = (MISSED, CONTENTIOUS, UNCONDITIONED, UNSEEN_ADVERSARY)
NEW_WORDING = "contentious, new wording"
COLUMNS = (*SLICES, NEW_WORDING)

_COMMON: dict[str, Any] = {
    "mode": "full",
    "calibration": 0.0,
    "balance": False,
    "smoothing": 0.1,  # without it weights grow from round to round, and what is new counts little
    "max_length": 48,
    "threads": 1,
}
JUDGES: dict[JudgeKind, dict[str, Any]] = {
    "bag-of-words": {"learning_rate": 0.1, "epochs": 10, "batch_size": 64, "schedule": "constant"},
    "small-encoder": {"learning_rate": 1e-3, "epochs": 20, "batch_size": 32, "warmup_steps": 10},
    "minilm": {"learning_rate": 1e-4, "epochs": 3, "batch_size": 32, "warmup_steps": 10},
}
TUNING = SFTConfig(learning_rate=2e-3, epochs=12, batch_size=8, lora_rank=8, threads=1)


@dataclass(frozen=True)
class Run:
    """One judge against one arm with one seed."""

    judge: JudgeKind
    arm: Arm
    seed: int
    measured: judge_lab.Measured
    rounds: int
    candidates: int

    def folder(self, out: Path) -> Path:
        """Return where it lives."""
        return out / f"{self.measured}-{self.candidates}" / self.judge / self.arm / str(self.seed)


# ---- the players ----


def fresh(kind: JudgeKind, texts: Sequence[str], seed: int) -> ClassifierModule:
    """Return an untrained judge; its word pieces, if it has none of its own, are those of unlabelled ``texts``."""
    torch.manual_seed(seed)
    window = Window(_COMMON["max_length"], 8)
    if kind == "bag-of-words":
        return BagOfWordsModule(PROMPTS, window)
    if kind == "small-encoder":
        return small_encoder(texts, PROMPTS, window=window)
    return pretrained(MINILM, PROMPTS, window=window)


def train_judge(
    kind: JudgeKind, seed: int, start: Path | None, rows: Sequence[LabelledPrompt], output: Path
) -> None:
    """Train a judge, from the last one's folder if there is one."""
    texts = judge_lab.ordinary_pool(judge_lab.Wordings("test"), seed)
    module = load_module(start) if start else fresh(kind, texts, seed)
    examples = [LabelledText(row.text, int(row.problematic), row.group) for row in rows]
    config = ClassifierConfig(**_COMMON, **JUDGES[kind], seed=seed)
    checkpoints = output.with_name("judge.checkpoints")
    train_classifier(module, examples, config, output=output, checkpoints=checkpoints, progress=SILENT)


def load_judge(folder: Path) -> ModuleClassifier:
    """Read a trained judge."""
    return ModuleClassifier(load_module(folder))


def load_base() -> LoadedModel:
    """Load the adversary's base."""
    return models.load(ModelSection(source="lab-base"))


def adversary_after(adapters: Sequence[Path]) -> Adversary:
    """Return the lab model as the adversary it is after the adapters."""
    options = AdversaryOptions(mode="user-turn", max_tokens=64)
    return local_adversary(with_adapters(load_base, adapters), options)


def tune(seed: int, adapters: Sequence[Path], examples: Sequence[Example], output: Path) -> None:
    """Train the adversary's next adapter."""
    config = SFTConfig(**{**TUNING.__dict__, "seed": seed})
    tune_adversary(with_adapters(load_base, adapters), examples, config, output, progress=SILENT)


@cache
def holdouts(measured: judge_lab.Measured, seed: int, out: Path) -> Holdouts:
    """Return the frozen slices of a seed; the reference judge is a bag of words that learnt from other seeds."""
    folder = out / "reference" / str(seed)
    if not folder.exists():
        train_judge("bag-of-words", seed, None, judge_lab.seed_set(seed + 1000), folder)
    return judge_lab.frozen_slices(measured, load_judge(folder), seed)


def play_run(run: Run, out: Path) -> dict[str, Any]:
    """Play a run and return its records, each with the right and wrong answers by slice."""
    folder = run.folder(out)
    path = folder / "answers.json"
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return found
    wordings, truth = judge_lab.Wordings(run.measured), LabTruth()
    slices = holdouts(run.measured, run.seed, out)
    game = Game(
        seeds=judge_lab.seed_set(run.seed),
        negatives=judge_lab.negatives(wordings, run.seed),
        holdouts=slices,
        truth=truth,
        train_judge=partial(train_judge, run.judge, run.seed),
        load_judge=load_judge,
        adversary=adversary_after
        if run.arm != "random-data"
        else lambda adapters: RandomData(judge_lab.ordinary_pool(wordings, run.seed)),
        tune=partial(tune, run.seed) if run.arm == "tuned" else None,
        valid=judge_lab.valid_candidate(wordings, truth),
    )
    options = RoundOptions(rounds=run.rounds, candidates=run.candidates, seed=run.seed, tries=8)
    played = play(game, options, folder)
    shown = {**slices.slices, NEW_WORDING: judge_lab.new_wording(run.measured, run.seed)}
    right = [answers(load_judge(each.judge), shown) for each in played]
    found = {"rounds": [dict(each.record) for each in played], "right": right}
    write_json_atomic(path, found)
    return found


def answers(
    judge: ModuleClassifier, slices: Mapping[str, Sequence[LabelledPrompt]]
) -> dict[str, list[list[float | None]]]:
    """Return, by slice, 1 for a right answer and 0 for a wrong one; the prompts of a goal together."""
    return {
        name: by_group(right_of(hits_of(judge, scores_of(judge, prompts)), prompts), prompts)
        for name, prompts in slices.items()
    }


# ---- numbers ----


@dataclass(frozen=True)
class Study:
    """The runs of one judge and arm, a seed each."""

    judge: JudgeKind
    arm: Arm
    runs: Sequence[dict[str, Any]]

    @property
    def last(self) -> int:
        """The last round that every seed has."""
        return min(len(run["rounds"]) for run in self.runs) - 1

    def outcomes(self, name: str, number: int) -> list[list[float | None]]:
        """Return the answers of all seeds after a round; a round that was not adopted leaves those before it.

        Goals of different seeds stay apart: their judges have learnt from other seeds.
        """
        return [values for run in self.runs for values in run["right"][adopted(run, number)][name]]

    def accuracy(self, name: str, number: int) -> list[float]:
        """Return the accuracy of each seed."""
        return [
            statistics.fmean(
                v for values in run["right"][adopted(run, number)][name] for v in values if v is not None
            )
            for run in self.runs
        ]

    def gain(self, name: str) -> PairedResult:
        """Return what the last round changed, over goals."""
        return paired_difference(self.outcomes(name, 0), self.outcomes(name, self.last))


def adopted(run: Mapping[str, Any], number: int) -> int:
    """Return the last round up to ``number`` whose judge was adopted."""
    return max(i for i in range(number + 1) if run["rounds"][i]["adopted"])


def control_difference(study: Study, control: Study, name: str) -> PairedResult:
    """Return how much better the arm's last judge is than the control's, on the same prompts."""
    return paired_difference(control.outcomes(name, control.last), study.outcomes(name, study.last))


# ---- pages ----


def page(studies: Sequence[Study], seeds: Sequence[int], candidates: int) -> str:
    """Return all tables as Markdown."""
    head = (
        "# Adversary against judge in the lab\n\nMade by `python -m benchmarks.adversary_versus_judge`, seeds "
        f"{', '.join(map(str, seeds))}, {candidates} new candidates and as many negatives a round. Per cent; in "
        "brackets 95 % intervals by paired bootstrap over goals, seeds pooled. Accuracy on the slice `contentious` is "
        "100 less the false-positive rate; the last column has one contentious wording that no model has read."
    )
    return (
        f"{head}\n\n## What the rounds change\n\n{gains(studies)}\n\n## Round by round\n\n{curves(studies)}\n"
    )


def gains(studies: Sequence[Study]) -> str:
    """Return a row per judge and arm: the last round against round 0, and against the control."""
    controls = {study.judge: study for study in studies if study.arm == "random-data"}
    heads = [
        "judge",
        "arm",
        *(f"{name}: gain" for name in COLUMNS),
        *(f"{name}: over control" for name in COLUMNS),
    ]
    rows = []
    for study in studies:
        cells = [_change(study.gain(name)) for name in COLUMNS]
        control = controls.get(study.judge)
        against = [
            "–" if control is None or control is study else _change(control_difference(study, control, name))
            for name in COLUMNS
        ]
        rows.append([study.judge, study.arm, *cells, *against])
    return _markdown(heads, rows)


def curves(studies: Sequence[Study]) -> str:
    """Return a row per judge, arm and round: accuracies, the adversary's success and variety, labels."""
    heads = [
        "judge",
        "arm",
        "round",
        *COLUMNS,
        "success",
        "problematic",
        "distinct-2",
        "spread",
        "not adopted",
        "labels",
    ]
    rows = []
    for study in studies:
        for number in range(study.last + 1):
            records = [run["rounds"][number] for run in study.runs]
            accuracy = [f"{100 * statistics.fmean(study.accuracy(name, number)):.1f}" for name in COLUMNS]
            rows.append([study.judge, study.arm, str(number), *accuracy, *_told(records)])
    return _markdown(heads, rows)


def _told(records: Sequence[Mapping[str, Any]]) -> list[str]:
    labels = f"{statistics.fmean(record['counts']['rows'] for record in records):.0f}"
    rejected = str(sum(not record["adopted"] for record in records))
    if records[0]["adversary"] is None:
        return ["–", "–", "–", "–", rejected, labels]
    shares = [
        statistics.fmean(record["success_rate"]["value"] or 0.0 for record in records),
        statistics.fmean(r["counts"]["problematic"] / max(1, r["counts"]["labelled"]) for r in records),
    ]
    variety = [
        statistics.fmean(record["diversity"]["distinct"][1] for record in records),
        statistics.fmean(record["diversity"]["spread"] or 0.0 for record in records),
    ]
    return [*(f"{100 * share:.0f}" for share in shares), *(f"{x:.2f}" for x in variety), rejected, labels]


def _change(found: PairedResult) -> str:
    if found.difference is None or found.ci_low is None or found.ci_high is None:
        return "–"
    return f"{100 * found.difference:+.1f} [{100 * found.ci_low:+.1f}, {100 * found.ci_high:+.1f}]"


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def headline(studies: Sequence[Study]) -> dict[str, float]:
    """Return the main numbers by flat names, such as ``minilm.tuned.missed_gain``."""
    found: dict[str, float] = {}
    for study in studies:
        for name in COLUMNS:
            key = f"{study.judge}.{study.arm}.{name}".replace("-", "_").replace(", ", "_").replace(" ", "_")
            found[f"{key}_start"] = round(statistics.fmean(study.accuracy(name, 0)), 4)
            found[f"{key}_end"] = round(statistics.fmean(study.accuracy(name, study.last)), 4)
            found[f"{key}_gain"] = round(study.gain(name).difference or 0.0, 4)
    return found


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--judges", nargs="+", choices=get_args(JudgeKind), default=list(get_args(JudgeKind)))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--candidates", type=int, default=CANDIDATES, help="new candidates per round")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--development", action="store_true", help="measure on development goals")
    parser.add_argument("--quick", action="store_true", help="one seed, a bag of words, two rounds")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/adversary-versus-judge"))
    given = parser.parse_args()
    if given.quick:
        given.seeds, given.judges, given.rounds = given.seeds[:1], ["bag-of-words"], 2
    measured: judge_lab.Measured = "development" if given.development else "test"
    runs: dict[tuple[JudgeKind, Arm], list[dict[str, Any]]] = defaultdict(list)
    for judge in given.judges:
        for arm in given.arms:
            for seed in given.seeds:
                run = Run(judge, arm, seed, measured, given.rounds, given.candidates)
                runs[judge, arm].append(play_run(run, given.out))
                print(f"{judge}, {arm}, seed {seed}: done", file=sys.stderr, flush=True)
    studies = [Study(judge, arm, found) for (judge, arm), found in runs.items()]
    text = page(studies, given.seeds, given.candidates)
    write_text_atomic(given.out / f"{measured}-{given.candidates}.md", text)
    print(text)
    if given.json:
        print(json.dumps(headline(studies)))


if __name__ == "__main__":
    main()
