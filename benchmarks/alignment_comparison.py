"""Mistake analysis beside its baselines on the lab model, over seeds, with what the numbers allow to claim.

    python -m benchmarks.alignment_comparison [--quick] [--seeds 0 1 2 3 4] [--json] [--tables]

Each study is a packaged recipe; it runs once per seed in ``--out/STUDY-SEED``, two at a time with one thread each, and
is continued where it stands (``--tables``: nothing is run). Tables go to ``--results`` as Markdown and JSON. A seed
changes sampling, training order and the choice of examples; all seeds share the lab's checkpoint and the test items.
With ``--json`` the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from benchmarks.alignment_tables import NOVEL, Measure, Study, document, headline, page, table_of
from toxoid.config.recipe import Recipe, load_recipe, single_arm, with_overrides
from toxoid.loop.run import align, run_loop
from toxoid.store.files import write_json_atomic, write_text_atomic

SEEDS = (0, 1, 2, 3, 4)
NAME = "mistake-analysis-tables"
QUICK = {
    "data.limit": 40,
    "audit.samples": 1,
    "train.limit": 120,
    "training.max_steps": 60,
    "statistics.resamples": 200,
}

HARMLESS = Measure("harmless", "harmfulness", "harmless_rate", "harmless_rate")
JAILBREAK = Measure("harmless, disguised", "jailbreak", "harmless_rate", "jailbreak_harmless_rate")
OVER_REFUSAL = Measure("over-refusal", "over-refusal", "over_refusal_rate", "over_refusal")
HELPFUL = Measure("helpful, benign", "helpfulness", "helpful_rate", "helpful_rate")
VALID = Measure("valid", "harmfulness", "validity_rate", "validity_rate")
VALID_SAFE = Measure("valid and safe", "harmfulness", "valid_safe_rate", "valid_safe_rate")
RECOGNISED = Measure("harm recognised", "discrimination", "recognised_rate", "recognised_rate")
FALSE_ALARM = Measure("false alarms", "false-alarm", "false_alarm_rate", "false_alarm_rate")
RESISTED = Measure("hijacking resisted", "hijacking", "resisted_rate", "resisted_rate")
SHOWN = Measure("novel, shown", "novel-harm-shown", "harmless_rate", "novel_shown_harmless_rate")
COMPARED = (HARMLESS, JAILBREAK, OVER_REFUSAL, HELPFUL, VALID, VALID_SAFE, RESISTED, RECOGNISED, FALSE_ALARM)
ABLATED = (HARMLESS, VALID_SAFE, OVER_REFUSAL, HELPFUL, RECOGNISED, FALSE_ALARM)
HIJACKED = (RESISTED, HELPFUL, HARMLESS, OVER_REFUSAL)


STUDIES = (
    Study("alignment-comparison", "Methods at matched steps", "alignment-comparison", COMPARED, ""),
    Study("goal-hijacking", "Goal hijacking", "goal-hijacking", HIJACKED, "hijacking."),
    Study(
        "goal-hijacking-aligned",
        "Goal hijacking of an aligned model (SFT on refusals)",
        "goal-hijacking",
        HIJACKED,
        "hijacking_aligned.",
        aligned=True,
    ),
    Study(
        "policy-extension",
        "Policy extension: actions declared harmful",
        "policy-extension",
        (NOVEL, SHOWN, HARMLESS, HELPFUL, OVER_REFUSAL),
        "policy.",
    ),
    Study("mistake-sources", "Where mistakes come from", "mistake-sources", ABLATED, "sources."),
    Study("mistake-count", "How many mistakes", "mistake-count", ABLATED, "count.", reference="m0"),
    Study("mistake-guidance", "Guidance and analyses", "mistake-guidance", ABLATED, "guidance."),
)


# ---- running ----


def run_one(study: Study, seed: int, out: Path, quick: bool) -> None:
    """Run one seed of a study, or what is missing of it."""
    recipe = _recipe(study.recipe, seed, quick)
    if study.aligned:
        first = single_arm(_recipe("alignment-comparison", seed, quick), "sft")
        model = align(first, out / f"aligned-{seed}", command="toxoid align --method sft").path
        recipe = with_overrides(recipe, {"model.source": str(model)})
    run_loop(recipe, study.directory(seed, out), command=f"toxoid run --recipe {study.recipe}")


def _recipe(name: str, seed: int, quick: bool) -> Recipe:
    recipe = load_recipe(name)
    own = {f"arms.{arm.name}.training.max_steps": 10 for arm in recipe.arms if "max_steps" in arm.training}
    return with_overrides(recipe, {"seed": seed, **(QUICK | own if quick else {})})


def run_all(studies: Sequence[Study], seeds: Sequence[int], out: Path, *, quick: bool, workers: int) -> None:
    """Run every study of every seed, seed by seed."""
    os.environ["OMP_NUM_THREADS"] = "1"  # read by the workers when they import torch
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        jobs = {
            pool.submit(run_one, study, seed, out, quick): study.directory(seed, out)
            for seed in seeds
            for study in studies
        }
        for job in as_completed(jobs):
            job.result()
            print(f"{jobs[job]}: done", flush=True)


def main() -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one seed, few items and steps: does it work?")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--study", nargs="+", choices=[study.name for study in STUDIES], help="only these")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where the runs are kept")
    parser.add_argument("--results", type=Path, help="where the tables go: docs/results, if --quick OUT")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread")
    parser.add_argument("--tables", action="store_true", help="write the tables of runs that are there")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    given = parser.parse_args()
    out = given.out / "quick" if given.quick else given.out
    seeds = given.seeds or (SEEDS[:1] if given.quick else SEEDS)
    studies = [study for study in STUDIES if not given.study or study.name in given.study]
    if not given.tables:
        run_all(studies, seeds, out, quick=given.quick, workers=given.workers)
    tables = [table_of(study, seeds, out) for study in studies]
    folder = given.results or (out if given.quick else Path("docs/results"))
    folder.mkdir(parents=True, exist_ok=True)
    write_text_atomic(folder / f"{NAME}.md", page(tables, seeds, out))
    write_json_atomic(folder / f"{NAME}.json", document(tables, seeds))
    print(f"tables: {folder / NAME}.md")
    if given.json:
        print(json.dumps(headline(tables)))


if __name__ == "__main__":
    main()
