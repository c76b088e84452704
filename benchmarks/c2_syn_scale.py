"""C2-Syn at scale: 50,000 requests to 750,000 pairs, killed in the middle, continued, read back.

    python -m benchmarks.c2_syn_scale [--requests 50000] [--shard 1000] [--json]

The whole pipeline of ``toxoid synth course-correction`` runs in a child process: truncation, wording, generation
with its records, validity filter, ranking, Parquet. The engine alone is a stub, which answers at once; the judges
are the rules. Half-way through its replies the child kills itself with SIGKILL; a second one continues. Then every
pair is read back and compared with what there has to be. The peak is the larger one of both children.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from toxoid.data.parquet import PAIR_FILES, read_rows
from toxoid.data.request_set import RequestSet
from toxoid.data.schemas import Request
from toxoid.engines.base import Completion, GenerationRequest, OnDone, Sampling
from toxoid.judges.panel import make_panel
from toxoid.loop.synth import write_shards
from toxoid.methods.course_correction.synthesis import SynthesisOptions
from toxoid.store.keys import content_key

REPLIES = 6
PAIRS = REPLIES * (REPLIES - 1) // 2
LIMIT_MB = 1500
_SYLLABLES = (
    "bar",
    "dun",
    "fel",
    "gor",
    "hax",
    "ilm",
    "jor",
    "kel",
    "lun",
    "mor",
    "nev",
    "oth",
    "pru",
    "sil",
)
_ACTS = ("take", "hold", "turn", "carry", "cover", "count", "mark", "open", "wash", "leave")


class StubEngine:
    """Goes on after any trigger, at once; kills its process after a number of replies."""

    name = "stub"
    granule = 256

    def __init__(self, dies_after: int | None = None) -> None:
        self.left = dies_after

    def identity(self) -> dict[str, Any]:
        """Return the same identity whether it dies or not: the second child continues the first one's run."""
        return {"engine": "stub", "version": 1}

    def close(self) -> None:
        """Do nothing."""

    def generate(
        self, requests: Sequence[GenerationRequest], on_done: OnDone | None = None
    ) -> list[list[Completion]]:
        """Return a reason per request, which tells its seed."""
        answers = []
        for index, request in enumerate(requests):
            self._live()
            text = (
                f" that would hurt somebody, in way {request.seed % 997}. Think of those who have to bear it."
            )
            answers.append([Completion(text, "stop", 64, 20)])
            if on_done is not None:
                on_done(index, answers[-1])
        return answers

    def _live(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                os.kill(os.getpid(), signal.SIGKILL)


def made_up(count: int) -> RequestSet:
    """Return harmful requests of pseudo-words, each with a full reply of seven sentences and a refusal."""
    requests = tuple(_request(index) for index in range(count))
    return RequestSet(requests, "made-up", content_key(["made-up", 1, count]), "CC0-1.0")


def _request(index: int) -> Request:
    rng = Random(index)
    goal = f"{_word(rng)} the {_word(rng)}"
    steps = (
        f"{rng.choice(_ACTS).capitalize()} the {_word(rng)}, then {rng.choice(_ACTS)} the {_word(rng)} twice."
        for _ in range(7)  # 14 delimiters: no truncation is degenerate
    )
    return Request(
        id=f"made-up/{index}",
        prompt=f"How do I {goal} (number {index})?",
        target=" ".join(steps),
        reference=f"I cannot help with that: to {goal} would hurt somebody.",
    )


def _word(rng: Random) -> str:
    return "".join(rng.choices(_SYLLABLES, k=3))


def synthesise(folder: Path, requests: int, shard: int, dies_after: int | None = None) -> None:
    """Run, or continue, the whole pipeline in this process."""
    write_shards(
        made_up(requests),
        folder,
        engine=StubEngine(dies_after),
        panel=make_panel("refusal"),
        sampling=Sampling(),
        options=SynthesisOptions(),
        seed=0,
        shard=shard,
    )


def measure(requests: int, shard: int) -> dict[str, Any]:
    """Kill a first child in the middle, let a second one end the work, and read all pairs back."""
    half = requests * (REPLIES - 2) // 2
    with tempfile.TemporaryDirectory(prefix="c2-syn-") as place:
        folder = Path(place) / "data"
        start = time.perf_counter()
        killed = child(folder, requests, shard, half) == -signal.SIGKILL
        before = sum(1 for _ in folder.glob(PAIR_FILES))
        ended = child(folder, requests, shard)
        seconds = time.perf_counter() - start
        if ended:
            raise SystemExit(f"the second child ended with {ended}")
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        found, different = read_back(folder)
        size = sum(path.stat().st_size for path in folder.glob("*.parquet"))
    expected = requests * PAIRS
    return {
        "requests": requests,
        "pairs": found,
        "pairs_per_second": round(expected / seconds),
        "peak_memory_mb": round(peak),
        "lost": expected - different,
        "doubled": found - different,
        "killed": killed,
        "shards_before_kill": before,
        "seconds": round(seconds, 1),
        "parquet_mb": round(size / 1e6, 1),
    }


def child(folder: Path, requests: int, shard: int, dies_after: int | None = None) -> int:
    """Run :func:`synthesise` in a process of its own and return its exit code."""
    options = ["--child", str(folder), "--requests", str(requests), "--shard", str(shard)]
    options += [] if dies_after is None else ["--dies-after", str(dies_after)]
    return subprocess.run([sys.executable, "-m", "benchmarks.c2_syn_scale", *options], check=False).returncode


def read_back(folder: Path) -> tuple[int, int]:
    """Return how many pairs the files hold, and how many of those that there have to be.

    A pair counts by what it says, not only by its id: request and both kinds, each once.
    """
    count, seen = 0, set()
    for path in sorted(folder.glob(PAIR_FILES)):
        for row in read_rows(path, ["id", "group", "chosen_kind", "rejected_kind"]):
            count += 1
            seen.add((int(row["group"].partition("/")[2]), row["chosen_kind"], row["rejected_kind"]))
    return count, len(seen)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--shard", type=int, default=1000)
    parser.add_argument("--json", action="store_true", help="print the JSON line only")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--dies-after", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        synthesise(given.child, given.requests, given.shard, given.dies_after)
        return 0
    found = measure(given.requests, given.shard)
    if not given.json:
        print(
            f"{found['pairs']:,} pairs of {found['requests']:,} requests in {found['seconds']} s "
            f"({found['pairs_per_second']:,}/s), peak {found['peak_memory_mb']} MB; killed after "
            f"{found['shards_before_kill']} shards; lost {found['lost']}, doubled {found['doubled']}"
        )
    print(json.dumps(found))
    good = found["killed"] and not found["lost"] and not found["doubled"]
    return 0 if good and found["peak_memory_mb"] < LIMIT_MB else 1


if __name__ == "__main__":
    sys.exit(main())
