"""An audit of 100,000 replies, and a comparison of two of them: time, memory, and the size of the page.

    python -m benchmarks.large_run --records 100000

The audit asks an engine that answers at once and a judge that draws; it is run with a tenth of the records too, to tell
what each record adds to its memory. The compared runs are made up: requests, verdicts and replies are drawn. The last
line is JSON: ``audit_bytes_per_record`` is the slope of the audit's peak, beside ``file_bytes_per_record``.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from toxoid.attacks.base import asked
from toxoid.audit.items import Drawing, Item
from toxoid.audit.rates import Settings
from toxoid.audit.run import Scored, run_audit
from toxoid.audit.scored_files import write_scored
from toxoid.audit.slim import Slimmer
from toxoid.audit.tasks import task_spec
from toxoid.data.schemas import Exchange, Kind, Request
from toxoid.engines.base import Completion, GenerationRequest, OnDone, Sampling
from toxoid.engines.cached import CachedEngine
from toxoid.judges.base import Aspect, Outcome, Verdict
from toxoid.judges.cached import CachedJudge
from toxoid.loop.results import measured
from toxoid.store.files import write_json_atomic
from toxoid.store.run_directory import RunDirectory

TASKS: dict[str, Kind] = {
    "harmfulness": "harmful",
    "jailbreak": "harmful",
    "over-refusal": "contentious",
    "helpfulness": "benign",
}
ATTACKS = ("role_play", "persona", "prefill", "payload_splitting")
CATEGORIES = 12
REPLIES = 2
WORDS = [f"word{number}" for number in range(40)]


def scored(records: int, *, better: float, seed: int) -> Iterator[Scored]:
    """Yield items with ``records`` replies in all; ``better`` is how much more often aspects are as they should be."""
    per_task = records // REPLIES // (len(TASKS) + len(ATTACKS) - 1)
    for task, kind in TASKS.items():
        attacks = ATTACKS if task == "jailbreak" else ("direct",)
        for attack in attacks:
            for number in range(per_task):
                yield _one(task, kind, attack, number, better, Random(f"{seed}/{task}/{attack}/{number}"))


def _one(task: str, kind: Kind, attack: str, number: int, better: float, rng: Random) -> Scored:
    request = Request(
        id=f"{kind}/{number}",
        prompt=f"Request {number} of kind {kind}: {_text(Random(number), 20)}",
        kind=kind,
        category=f"category {number % CATEGORIES}",
    )
    item = Item(task, request, asked(request), attack=attack)
    replies = tuple(Completion(_text(rng, 60), "stop", 30, 80) for _ in range(REPLIES))
    aspects = dict.fromkeys(a for metric in task_spec(task).metrics for a in metric.aspects)
    verdicts = {aspect: tuple(_verdict(rng, better) for _ in replies) for aspect in aspects}
    return Scored(item, replies, verdicts)


def _verdict(rng: Random, better: float) -> Verdict:
    drawn = rng.random()
    if drawn > 0.99:
        return Verdict(Outcome.UNSCORED, reason="unreadable")
    return Verdict(Outcome.HIT if drawn < 0.5 - better else Outcome.MISS, reason="by drawing")


def _text(rng: Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words))


def write_run(directory: Path, records: int, *, better: float, seed: int) -> None:
    """Write what a finished run leaves for comparisons."""
    recipe: dict[str, Any] = {
        "audit": {},
        "seed": 0,
        "statistics": {"level": 0.95, "resamples": 2000, "seed": 0},
    }
    fingerprint: dict[str, Any] = {"toxoid": "0", "items": {}, "judges": {}, "recipe": recipe, "data": {}}
    with RunDirectory.open(directory, fingerprint=fingerprint, recipe=recipe, info={}) as run:
        write_scored(run.path / "artifacts/scored/base.jsonl", scored(records, better=better, seed=seed))
        system: dict[str, Any] = {"name": "base", "label": "base", "description": "", "cost": {}}
        system["rates"] = [{"task": task} for task in TASKS]
        results: Mapping[str, Any] = {
            "meta": {"systems": ["base"], "fingerprint": fingerprint},
            "rows": [],
            "systems": [system],
            "comparisons": [],
            "power": [],
            "judge_card": None,
            "notes": [],
        }
        write_json_atomic(run.results_path, results)


class Drawn:
    """An engine and a judge that draw what they say, from the question alone."""

    name = "drawn"
    granule = 256
    aspects: frozenset[Aspect] = frozenset(("harmful", "valid", "helpful", "refusal"))

    def identity(self) -> dict[str, Any]:
        """Return the name: nothing else matters."""
        return {"drawn": 1}

    def close(self) -> None:
        """Do nothing."""

    def generate(
        self, requests: Sequence[GenerationRequest], on_done: OnDone | None = None
    ) -> list[list[Completion]]:
        """Return drawn replies."""
        return [
            [Completion(_text(Random(f"{one.seed}/{number}"), 60), "stop", 30, 80) for number in range(one.n)]
            for one in requests
        ]

    def judge(self, exchanges: Sequence[Exchange], aspect: Aspect) -> list[Verdict]:
        """Return drawn verdicts."""
        return [_verdict(Random(f"{aspect}/{seen.completion}"), 0.0) for seen in exchanges]


def audit(directory: Path, records: int) -> dict[str, float]:
    """Audit and measure as :func:`toxoid.loop.run.run_loop` does, in this process, and say what that took."""
    items = [entry.item for entry in scored(records, better=0.0, seed=0)]
    drawn, before, started = Drawn(), _peak(), time.monotonic()
    slimmer, path = Slimmer(), directory / "audit.jsonl"
    with RunDirectory.open(directory / "run", fingerprint={}, recipe={}) as run:
        judge = CachedJudge(drawn, run.records)
        drawings = dict.fromkeys(TASKS, Drawing(Sampling(), REPLIES))
        asked = run_audit(
            CachedEngine(drawn, run.records),
            dict.fromkeys(drawn.aspects, judge),
            items,
            drawings=drawings,
            seed=0,
        )
        write_scored(path, slimmer.passing(asked))
    replied = _peak()
    measured(slimmer.kept, None, Settings())
    return {
        "audit_seconds": round(time.monotonic() - started, 2),
        "audit_peak_mb": round(_peak(), 1),
        "audit_added_mb": round(_peak() - before, 1),
        "audit_replies_added_mb": round(replied - before, 1),
        "file_bytes_per_record": round(path.stat().st_size / records),
    }


def compare(directory: Path) -> dict[str, float]:
    """Compare the two runs below a directory in this process, and say what that took."""
    from toxoid.loop.compare import compare_runs
    from toxoid.report.html import render_html

    before = _peak()
    started, busy = time.monotonic(), time.process_time()
    results = compare_runs(directory / "a", directory / "b")
    seconds, busy = time.monotonic() - started, time.process_time() - busy
    page = render_html(results)
    return {
        "compare_seconds": round(seconds, 2),
        "compare_cpu_seconds": round(busy, 2),
        "page_seconds": round(time.monotonic() - started - seconds, 2),
        "page_bytes": len(page.encode()),
        "peak_mb": round(_peak(), 1),
        "added_mb": round(_peak() - before, 1),
        "flips": sum(results["comparisons"][0]["flips_total"].values()),
    }


def _peak() -> float:
    """Return the most memory this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _alone(part: str, folder: str, records: int) -> dict[str, float]:
    """Run one part in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.large_run", part, folder, "--records", str(records)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def audits(records: int) -> dict[str, float]:
    """Audit a tenth of the records and all of them, and say what all took and what a record adds."""
    found = []
    for count in (records // 10, records):
        with tempfile.TemporaryDirectory() as folder:
            found.append(_alone("--audit", folder, count))
    added = found[1]["audit_peak_mb"] - found[0]["audit_peak_mb"]
    return {**found[1], "audit_bytes_per_record": round(added * 2**20 / (0.9 * records))}


def main() -> None:
    """Audit, then write two runs and compare them, each in a process of its own, and print what that took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=100_000, help="scored replies per run")
    parser.add_argument("--compare", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--audit", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.compare or given.audit:
        part = compare(given.compare) if given.compare else audit(given.audit, given.records)
        print(json.dumps(part))
        return
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        write_run(Path(folder) / "a", given.records, better=0.0, seed=1)
        write_run(Path(folder) / "b", given.records, better=0.1, seed=2)
        written = {"records": given.records, "write_seconds": round(time.monotonic() - started, 2)}
        compared = _alone("--compare", folder, given.records)
    print(json.dumps(written | audits(given.records) | compared))


if __name__ == "__main__":
    main()
