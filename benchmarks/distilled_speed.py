"""Speed of a distilled shield: python -m benchmarks.distilled_speed RUN, a directory of `shield-distilled` on lab-base.

The bare model, the shield, the LoRA adapter (merged) and the soft prompt take turns at the same benign requests, one
thread, one by one and 32 together. Counted is the process's own CPU time, which a busy machine disturbs least.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch

from toxoid.config.recipe import ModelSection
from toxoid.data.lab import lab_requests
from toxoid.data.schemas import user
from toxoid.engines.base import GenerationRequest, Sampling
from toxoid.engines.local import LocalEngine
from toxoid.engines.peft_prompts import soft_prompted
from toxoid.loop import models

REQUESTS = 32
BATCHES = (1, REQUESTS)


def engines(run: Path) -> dict[str, LocalEngine]:
    """Return the systems of a run by name, each with a model of its own."""
    section, artifacts = ModelSection(), run / "artifacts"
    return {
        "base": models.local_engine(models.load(section)),
        "shield": models.teacher_engine(models.load(section), artifacts / "contrast"),
        "lora": models.local_engine(models.load_treated(section, artifacts / "lora")),
        "soft-prompt": soft_prompted(models.load(section), artifacts / "soft-prompt"),
    }


def pace(engine: LocalEngine, batch: int, seed: int) -> float:
    """Return the reply tokens per second of CPU time."""
    asked = [
        GenerationRequest(user(request.prompt), "", Sampling(1.0, 1.0, 96), 1, seed * REQUESTS + number)
        for number, request in enumerate(lab_requests("lab-benign").requests[:REQUESTS])
    ]
    started, tokens = time.process_time(), 0
    for first in range(0, REQUESTS, batch):
        rows = engine.generate(asked[first : first + batch])
        tokens += sum(done.completion_tokens for row in rows for done in row)
    return tokens / (time.process_time() - started)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a row per system and batch size, and the ratios as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--turns", type=int, default=7)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    systems, ratios = engines(given.run), {}
    for batch in BATCHES:
        for engine in systems.values():
            pace(engine, batch, given.turns)  # warm
        paces: dict[str, list[float]] = {name: [] for name in systems}
        for turn in range(given.turns):
            for name, engine in systems.items():
                paces[name].append(pace(engine, batch, turn))
        for name, found in paces.items():
            costs = [base / own for base, own in zip(paces["base"], found, strict=True)]
            ratios[f"{name}_batch_{batch}"] = round(median(costs), 3)
            print(
                f"| {name}, {batch} at once | {median(found):.0f} tokens/s | {median(costs):.2f} "
                f"({min(costs):.2f} to {max(costs):.2f}) |"
            )
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
