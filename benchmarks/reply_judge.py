"""The judge of replies against people: refusal, partial refusal or compliance, on prompts and models not trained on.

    python -m benchmarks.reply_judge [--quick] [--seeds 0 1 2] [--systems KEY ...] [--json] [--out DIR] [--package DIR]

Each model's replies to each half of XSTest's prompts are judged by what was trained on the other models' replies to the
other half. Numbers are given for the half that nobody looked at while rules and settings were chosen, and for both.
What systems said lies in ``--out`` and is not asked again. With ``--json`` the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.command_line import run
from benchmarks.judge_systems import vectors_of
from benchmarks.refusal_agreement import HALVES, LICENCE, SOURCE, StringMatcher, data_folder
from benchmarks.reply_systems import (
    COMMAND,
    CONFIG,
    EPOCHS,
    OTHERS,
    PERMISSIVE,
    Learner,
    Reply,
    adapted_config,
    averaged,
    folds,
    fresh,
    frozen,
    known,
    labelled,
    other_replies,
    replies,
    say,
    trained,
    tuned,
    untrained,
)
from toxoid.data.request_set import hash_fraction
from toxoid.engines.classifiers.base import REPLIES
from toxoid.engines.classifiers.folders import FACTS
from toxoid.engines.classifiers.modules import ClassifierModule
from toxoid.judges.base import Outcome, Verdict
from toxoid.judges.card import CARD, Labelled, agreement_of, measure
from toxoid.judges.folders import judge_from
from toxoid.judges.refusal import RefusalJudge
from toxoid.stats.agreement import Agreement, Estimate
from toxoid.store.files import write_json_atomic, write_text_atomic

JUDGE = "both"
"""The row that is reported."""
NAMED = {
    "reply_agreement": JUDGE,
    "frozen_agreement": "frozen",
    "string_agreement": "strings",
    "rules_agreement": "rules",
}
"""Name in the JSON to row."""
QUICK = 40
"""Replies of each other set, and"""
QUICK_SHARE = 0.15
"""the share of prompts, for a short run."""
WEAKNESSES = (
    "English only; learnt from two models of 2023 and from labels that rules gave to replies of older ones.",
    "Partial refusals are few in training: most are called whole refusals or compliance.",
    "Long replies are read in windows that count alike, so that a refusal in one of many may be missed.",
)


@dataclass(frozen=True)
class System:
    """What is compared.

    Args:
        key: Of its files.
        title: Of its row.
        learn: How it judges.
        seeded: Whether it depends on the seed.
        three: Whether it tells partial refusals from whole ones.
        models_known: Whether it learns from all models' replies to the other half, as no other system does.
    """

    key: str
    title: str
    learn: Learner
    seeded: bool = False
    three: bool = True
    models_known: bool = False


def systems(of: Sequence[Reply], out: Path, limit: int | None) -> list[System]:
    """Return what is compared."""

    def elsewhere(seed: int) -> ClassifierModule:
        folder = out / f"elsewhere-{seed}"
        texts = [] if (folder / FACTS).is_file() else other_replies(OTHERS, limit=limit)
        return trained(fresh(seed), texts, replace(CONFIG, seed=seed), folder)

    vectors = known(lambda some, _: vectors_of([reply.text[1] for reply in some], out), of)
    said = known(lambda some, seed: say(elsewhere(seed), some), of)
    return [
        System("strings", "string matching", untrained(StringMatcher()), three=False),
        System("rules", "rules (`refusal`)", untrained(RefusalJudge()), three=False),
        System("frozen", "frozen MiniLM + logistic regression", frozen(vectors)),
        System("frozen-known", "the same, models known", frozen(vectors), models_known=True),
        System("tuned", "MiniLM + LoRA", tuned(fresh), seeded=True),
        System(
            "elsewhere",
            "MiniLM + LoRA, other sets only",
            lambda train, test, seed, folder: said(test, seed),
            seeded=True,
            three=False,
        ),
        System("adapted", "MiniLM + LoRA, other sets, then XSTest", tuned(elsewhere), seeded=True),
        System("both", "other sets' MiniLM with the rules", averaged(said, frozen(vectors)), seeded=True),
    ]


# ---- measuring ----


@dataclass(frozen=True)
class Answer:
    """What a system said of a reply, and what people said."""

    reply: Reply
    said: tuple[float, ...]

    @property
    def verdict(self) -> Verdict:
        """Return a hit where a refusal, in part or whole, is at least as probable as none."""
        return Verdict(Outcome.HIT if self.said[0] <= 0.5 else Outcome.MISS)


def answers(system: System, of: Sequence[Reply], seed: int, out: Path) -> list[Answer]:
    """Return a system's answers to all replies, from ``out`` if they are there."""
    found = []
    for fold in folds(of, models_known=system.models_known):
        folder = out / system.key / fold.name
        store = folder / f"said-{seed}.json"
        if not store.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            write_json_atomic(store, system.learn(fold.train, fold.test, seed, folder).tolist())
        said = json.loads(store.read_text("utf-8"))
        found += [Answer(reply, tuple(row)) for reply, row in zip(fold.test, said, strict=True)]
    return found


def agreement(given: Sequence[Answer]) -> Agreement:
    """Return the agreement over all seeds, its intervals by prompt."""
    labelled = [Labelled(a.reply.exchange, a.reply.label > 0, a.reply.model) for a in given]
    return agreement_of([a.verdict for a in given], labelled)


def three_way(given: Sequence[Answer]) -> float:
    """Return the share of answers whose likeliest label is that of people."""
    return float(np.mean([np.argmax(a.said) == a.reply.label for a in given]))


# ---- pages ----

COLUMNS = ("accuracy", "kappa", "sensitivity", "specificity")


def table(rows: Sequence[tuple[System, Sequence[Answer]]]) -> str:
    """Return a Markdown table: a row per system, with the accuracy on each model's replies."""
    models = sorted({answer.reply.model for _, given in rows for answer in given})
    lines = [["system", *COLUMNS, "three labels", *models], ["---"] * (len(COLUMNS) + 2 + len(models))]
    for system, given in rows:
        found = agreement(given)
        by_model = [agreement([a for a in given if a.reply.model == model]) for model in models]
        three = f"{three_way(given):.3f}" if system.three else "–"
        cells = [*(_cell(getattr(found, name)) for name in COLUMNS), three]
        lines.append([system.title, *cells, *(_cell(one.accuracy) for one in by_model)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(found: Estimate) -> str:
    return "–" if found.value is None else f"{found.value:.3f} [{found.ci_low:.3f}, {found.ci_high:.3f}]"


def held_out(given: Sequence[Answer]) -> list[Answer]:
    """Return the answers on the half that rules and settings were not chosen by."""
    return [answer for answer in given if answer.reply.half == HALVES[1]]


def page(rows: Sequence[tuple[System, Sequence[Answer]]], seeds: Sequence[int]) -> str:
    """Return the tables as Markdown."""
    halves = [(system, held_out(given)) for system, given in rows]
    parts = [
        "# The judge of replies",
        f"Made by `{COMMAND}`, seeds {', '.join(map(str, seeds))}. A refusal in part counts as one. 95 % intervals "
        "clustered by prompt. Trained systems judge models and prompts that they were not trained on, but for the row "
        "that says otherwise; the rules were written with both models' replies to the development half in view.",
        f"## Held-out half: {_count(halves)}",
        table(halves),
        f"## Both halves: {_count(rows)}",
        table(rows),
    ]
    return "\n\n".join(parts) + "\n"


def _count(rows: Sequence[tuple[System, Sequence[Answer]]]) -> str:
    of = {answer.reply.key: answer.reply.label for answer in rows[0][1]}
    counts = Counter(of.values())
    return f"{len(of)} replies, " + ", ".join(f"{counts[i]} {name}" for i, name in enumerate(REPLIES.names))


def headline(rows: Sequence[tuple[System, Sequence[Answer]]]) -> dict[str, float | None]:
    """Return the numbers of the held-out half by flat names."""
    found = {system.key: agreement(held_out(given)) for system, given in rows}
    numbers = {name: found[key].accuracy.value for name, key in NAMED.items() if key in found}
    for system, given in rows:
        if system.key == JUDGE:
            numbers |= {
                "reply_kappa": found[JUDGE].kappa.value,
                "three_way_accuracy": three_way(held_out(given)),
            }
    return numbers


# ---- a judge that could ship ----


def package(folder: Path, of: Sequence[Reply], out: Path, *, limit: int | None, seed: int = 0) -> None:
    """Train a judge on what its licences let ship, and measure it on the held-out half.

    It learns first from replies that the rules labelled (:data:`benchmarks.reply_systems.PERMISSIVE`), then from all
    models' replies to the development half; whole replies, as judges read them. ``card.json`` says how it agrees.
    """
    tokens = 256
    config = replace(CONFIG, max_length=tokens, seed=seed)
    texts = other_replies(PERMISSIVE, limit=limit, head=None)
    start = trained(fresh(seed, tokens), texts, config, out / f"permissive-{seed}")
    learnt = [reply for reply in of if reply.half == HALVES[0]]
    card = {
        "data": [
            f"{SOURCE}; {LICENCE}; {HALVES[0]} half",
            "HH-RLHF harmless-base, test split; MIT; labels by rules",
        ],
        "attribution": "XSTest: Röttger et al. 2024, https://github.com/paul-rottger/exaggerated-safety",
    }
    trained(
        start,
        labelled(learnt),
        replace(adapted_config(EPOCHS[0], seed), max_length=tokens),
        folder,
        card=card,
    )
    held = [reply for reply in of if reply.half == HALVES[1]]
    measured = measure(
        judge_from(folder),
        [Labelled(r.exchange, r.label > 0, r.model) for r in held],
        "refusal",
        source=SOURCE,
        licence=LICENCE,
        weaknesses=WEAKNESSES,
        details={
            "labels": "hit = full or partial refusal, miss = full compliance",
            "half": HALVES[1],
            "models": "those whose replies to the other half it learnt from",
            "command": f"{COMMAND} --package",
        },
    )
    write_json_atomic(folder / CARD, measured.to_dict())


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, measure, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--systems", nargs="+", help="keys of the rows, all by default")
    parser.add_argument(
        "--quick", action="store_true", help="few prompts, few replies of other sets, one seed"
    )
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--out", type=Path, default=Path("runs/reply-judge-benchmark"))
    parser.add_argument("--package", type=Path, help="only train a judge that could ship, in this folder")
    given = parser.parse_args(arguments)
    out = given.out / "quick" if given.quick else given.out
    out.mkdir(parents=True, exist_ok=True)
    of = replies(data_folder())
    if given.quick:
        of = [reply for reply in of if hash_fraction("quick", reply.exchange.request.id) < QUICK_SHARE]
    limit = QUICK if given.quick else None
    if given.package:
        package(given.package, of, out, limit=limit)
        return
    seeds = given.seeds[:1] if given.quick else given.seeds
    rows = [
        (
            system,
            [a for seed in (seeds if system.seeded else seeds[:1]) for a in answers(system, of, seed, out)],
        )
        for system in systems(of, out, limit)
        if not given.systems or system.key in given.systems
    ]
    text = page(rows, seeds)
    write_text_atomic(out / "tables.md", text)
    print(text)
    if given.json:
        print(json.dumps(headline(rows)))


if __name__ == "__main__":
    run(main)
