"""The group preference trainer against TRL's DPOTrainer and against a plain language-model step.

    python -m benchmarks.preference_tree [--json] [--quick]

Random-weight Llamas (24M parameters with a vocabulary of 8k, 43M with one of 32k), full training, groups shaped like
C2-Syn's (six ranked replies, 15 pairs) and ordinary pairs. Every measurement is a process of its own, the three sides
take turns, and an optimiser step covers the same pairs on each: one pass over all of them. TRL's settings are searched
for first. What is compared are medians of the time between the ends of consecutive steps; set-up is not in them. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.preference_sides import CLOCKS, TRLSettings, Workload, make_groups, save_model

Say: TypeAlias = Callable[[str], None]

THREADS = 2
WARM_UP = 3
"""Steps that are not measured, of the sides whose steps are short; TRL's first step is not measured either."""
LARGE = 32_000
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**33)}
"""Lets glibc reuse large blocks instead of returning them; without it TRL spends a third of its time in page faults."""


@dataclass(frozen=True)
class Bench:
    """Where the models lie, and how long is measured.

    Args:
        folder: Of the models, by vocabulary.
        threads: Of every side.
        clock: What ratios are of: ``wall``, or ``cpu`` seconds where others use the machine.
        rounds: How often the sides take turns.
        quick: Whether to take TRL's settings from an earlier search.
    """

    folder: Path
    threads: int
    clock: str
    rounds: int
    quick: bool

    def child(self, side: str, workload: Workload, **more: Any) -> dict[str, Any]:
        """Return what one measurement in a fresh process found.

        Raises:
            RuntimeError: It failed; the text is the end of what it said.
        """
        model = self.folder / str(workload.vocabulary)
        task = {
            "side": side,
            "folder": str(model),
            "workload": asdict(workload),
            "threads": self.threads,
            **more,
        }
        environment = (
            os.environ
            | KEEP_MEMORY
            | {
                "OMP_NUM_THREADS": str(self.threads),
                "HF_HUB_OFFLINE": "1",
                "HF_HUB_DISABLE_TELEMETRY": "1",
                "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
                "TOKENIZERS_PARALLELISM": "false",
            }
        )
        command = [sys.executable, "-m", "benchmarks.preference_sides", json.dumps(task)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            raise RuntimeError(f"{side}: {done.stderr[-2000:]}")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found


def best_settings(bench: Bench, workload: Workload, say: Say) -> TRLSettings:
    """Return the fastest of TRL's settings: first of batch sizes, then of precision and of sampling."""
    pairs = sum(len(group.pairs()) for group in make_groups(workload))
    sizes = [size for size in (2, 4, 5, 8, 10, 15, 16) if pairs % size == 0]
    best, fastest = TRLSettings(sizes[1]), float("inf")
    if bench.quick:
        return best
    candidates = [*(TRLSettings(size) for size in sizes), None, None]
    for number, given in enumerate(candidates):
        last = number == len(candidates) - 1
        changed = {"sampling": "random"} if last else {"bf16": not best.bf16}
        tried = given or replace(best, **changed)
        seconds = bench.child("trl", workload, settings=asdict(tried), steps=2)[bench.clock][-1]
        say(f"  TRL, {tried}: {seconds:.2f} s")
        if seconds < fastest:
            best, fastest = tried, seconds
    return best


def compare(bench: Bench, workload: Workload, settings: TRLSettings, say: Say) -> dict[str, Any]:
    """Return what the sides took, in turns; groups also against the limit, and with the references inside."""
    runs: dict[str, list[dict[str, Any]]] = {"trl": [], "toxoid": [], "lm": [], "trl inside": []}
    same = {"bf16": settings.bf16, "steps": WARM_UP + 5}
    for _ in range(bench.rounds):
        runs["trl"].append(bench.child("trl", workload, settings=asdict(settings), steps=3))
        runs["toxoid"].append(bench.child("toxoid", workload, **same))
        runs["lm"].append(bench.child("lm", workload, **same))
    inside = replace(settings, precomputed=False)
    runs["trl inside"].append(bench.child("trl", workload, settings=asdict(inside), steps=3))
    step = {name: [_step(name, run[bench.clock]) for run in found] for name, found in runs.items()}
    ours = statistics.median(step["toxoid"])
    both = ours + statistics.median(run["references"][bench.clock][0] for run in runs["toxoid"])
    pairs = sum(len(group.pairs()) for group in make_groups(workload))
    found = {
        "ratio_vs_trl": _ratios(step["trl"], step["toxoid"]),
        "ratio_vs_limit": _ratios(step["toxoid"], step["lm"]),
        "ratio_vs_trl_references_inside": step["trl inside"][0] / both,
        "pairs_per_second": {name: pairs / statistics.median(step[name]) for name in ("trl", "toxoid")},
        "step_seconds": {name: statistics.median(seconds) for name, seconds in step.items()},
        "memory_mb": {name: max(run["memory_mb"] for run in found) for name, found in runs.items()},
        "tokens": runs["lm"][0]["tokens"],
        "predicted": runs["lm"][0]["predicted"],
        "trl_settings": asdict(settings),
        "workload": asdict(workload) | {"pairs": pairs},
    }
    say(_told(found))
    return found


def _step(name: str, seconds: Sequence[float]) -> float:
    """Return the median step of a run; short steps are many, and the first of them still warm up."""
    return statistics.median(seconds if name.startswith("trl") else seconds[WARM_UP - 1 :])


def _ratios(above: Sequence[float], below: Sequence[float]) -> dict[str, float]:
    """Return the median and the range of the ratios of the rounds."""
    each = [a / b for a, b in zip(above, below, strict=True)]
    return {"median": statistics.median(each), "low": min(each), "high": max(each)}


def _told(found: dict[str, Any]) -> str:
    work, memory = found["workload"], found["memory_mb"]

    def ratio(name: str) -> str:
        return "{median:.2f} ({low:.2f} to {high:.2f})".format(**found[name])

    return (
        f"{work['shape']}, vocabulary {work['vocabulary']}, {work['pairs']} pairs, {found['tokens']} distinct tokens:\n"
        f"  TRL / toxoid {ratio('ratio_vs_trl')}, references inside {found['ratio_vs_trl_references_inside']:.2f}; "
        f"toxoid / LM step {ratio('ratio_vs_limit')}\n"
        f"  peak memory TRL {memory['trl']:.0f} MB, toxoid {memory['toxoid']:.0f} MB, LM {memory['lm']:.0f} MB"
    )


def run(bench: Bench, say: Say) -> dict[str, Any]:
    """Return all comparisons; the headline numbers are those of the smaller vocabulary, the harder case."""
    groups, pairs = Workload("groups", 2, 8000), Workload("pairs", 16, 8000)
    for vocabulary in {groups.vocabulary, LARGE}:
        save_model(bench.folder / str(vocabulary), vocabulary)
    error = bench.child("gradients", groups)["gradient_error"]
    say(f"gradient error against pairwise computation in float32: {error:.1e}")
    found = {}
    for name, workload in (("groups", groups), ("pairs", pairs)):
        settings = best_settings(bench, workload, say)
        found[name] = compare(bench, workload, settings, say)
        if not bench.quick:
            found[f"{name}_large_vocabulary"] = compare(
                bench, replace(workload, vocabulary=LARGE), settings, say
            )
    return {
        "ratio_vs_trl": found["groups"]["ratio_vs_trl"]["median"],
        "ratio_vs_limit": found["groups"]["ratio_vs_limit"]["median"],
        "gradient_error": error,
        "pairs_ratio_vs_trl": found["pairs"]["ratio_vs_trl"]["median"],
        "memory_mb": found["groups"]["memory_mb"],
        "threads": bench.threads,
        "clock": bench.clock,
        "rounds": bench.rounds,
        **found,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print the last line only")
    parser.add_argument("--quick", action="store_true", help="one round, no search, small vocabulary only")
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: for a machine that others use too"
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.threads, options.clock, 1 if options.quick else 3, options.quick)
        found = run(bench, (lambda text: None) if options.json else print)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
