"""Runs a recipe for several seeds, prints its comparisons as tables: python -m benchmarks.study RECIPE [--seeds 0 1 2].

Runs live in ``--out/RECIPE-SEED`` (``RECIPE-MODEL-SEED`` with ``--model``) and are continued where they stand; with
``--tables`` or ``--rates`` nothing is run.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toxoid.cli.progress import RichProgress
from toxoid.config.recipe import load_recipe, with_overrides
from toxoid.loop.publish import publish
from toxoid.loop.run import run_loop


def results_of(recipe: str, model: str | None, seed: int, out: Path, *, run: bool) -> dict[str, Any]:
    """Return the results of one seed, running what is missing."""
    directory = out / "-".join([Path(recipe).stem, *([Path(model).name] if model else []), str(seed)])
    if run:
        source = {"model.source": model} if model else {}
        chosen = with_overrides(load_recipe(recipe), {"seed": seed, **source})
        with RichProgress() as progress:
            run_loop(chosen, directory, command=f"python -m benchmarks.study {recipe}", progress=progress)
        publish(directory)
    found: dict[str, Any] = json.loads((directory / "results.json").read_text("utf-8"))
    return found


def table(
    runs: Sequence[dict[str, Any]], seeds: Sequence[int], names: tuple[str, str], *, parts: bool
) -> str:
    """Return one comparison as a Markdown table: a row per task, measure and part, a column per seed."""
    columns = [_rows(found, names, parts=parts) for found in runs]
    head = ["task", "measure", "part", *(f"seed {seed}" for seed in seeds)]
    lines = [f"**{names[0]} → {names[1]}**", "", _line(head), "|" + "---|" * len(head)]
    for key in columns[0]:
        lines.append(_line([*key, *(column.get(key, "–") for column in columns)]))
    return "\n".join(lines) + "\n"


def rates_table(runs: Sequence[dict[str, Any]], measures: Sequence[str]) -> str:
    """Return the overall rates of every system as a Markdown table, in per cent, a value per seed.

    ``measures`` are the columns, ``TASK:METRIC`` each; empty for all.
    """
    cells: dict[str, dict[tuple[str, str], list[str]]] = {}
    for found in runs:
        for system in found["systems"]:
            row = cells.setdefault(system["label"], {})
            for rate in system["rates"]:
                if rate["category"] == "all":
                    row.setdefault((rate["task"], rate["metric"]), []).append(f"{100 * rate['rate']:.1f}")
    columns = list(dict.fromkeys(key for row in cells.values() for key in row))
    if measures:
        columns = [(task, metric) for task, _, metric in (name.partition(":") for name in measures)]
    lines = [
        _line(["system", *(f"{task}: {metric}" for task, metric in columns)]),
        "|" + "---|" * (len(columns) + 1),
    ]
    lines += [
        _line([name, *(" / ".join(row.get(key, ["–"])) for key in columns)]) for name, row in cells.items()
    ]
    return "\n".join(lines) + "\n"


def _rows(found: dict[str, Any], names: tuple[str, str], *, parts: bool) -> dict[tuple[str, str, str], str]:
    """Return the cells of a comparison; rates are in per cent, words in words."""
    comparison = next(c for c in found["comparisons"] if (c["before"], c["after"]) == names)
    cells = {
        (row["task"], row["metric"], row["category"]): _cell(row, 100)
        for row in comparison["rows"]
        if row["category"] == "all" or (parts and row["category"].startswith("k="))
    }
    words = {
        (mean["task"], mean["measure"], "all"): _cell(mean, 1)
        for mean in comparison.get("means", [])
        if mean["measure"] == "mean_words_before"
    }
    return cells | words


def _cell(row: dict[str, Any], scale: float) -> str:
    if row["difference"] is None:
        return "–"
    numbers = [scale * row[key] for key in ("before", "after", "difference", "ci_low", "ci_high")]
    return "{:.1f} → {:.1f}: {:+.1f} ({:+.1f} to {:+.1f})".format(*numbers)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--model", help="in place of the recipe's")
    parser.add_argument(
        "--rates", action="store_true", help="print the rates of the systems of runs that are there"
    )
    parser.add_argument("--measures", nargs="+", default=[], help="columns of --rates, TASK:METRIC each")
    parser.add_argument("--tables", action="store_true", help="print the tables of runs that are there")
    parser.add_argument("--parts", action="store_true", help="the lengths k beside the overall rows")
    given = parser.parse_args()
    run = not (given.tables or given.rates)
    runs = [results_of(given.recipe, given.model, seed, given.out, run=run) for seed in given.seeds]
    if given.rates:
        print(rates_table(runs, given.measures))
        return
    for comparison in runs[0]["comparisons"]:
        names = comparison["before"], comparison["after"]
        print(table(runs, given.seeds, names, parts=given.parts))


if __name__ == "__main__":
    main()
