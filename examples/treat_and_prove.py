"""Audit a model, treat it, audit it again on the same items, and print what the treatment changed.

python examples/treat_and_prove.py --out runs/proof
python examples/treat_and_prove.py --model ./my-model --requests pku-saferlhf --benign alpaca --method sft
"""

from __future__ import annotations

import argparse

import toxoid


def main() -> None:
    """Run the loop of one treatment in a directory; called again, it continues."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--model", default="lab-base")
    parser.add_argument("--method", default="mistake-analysis", choices=toxoid.available("methods"))
    parser.add_argument("--requests", help="name or file; by default the lab's, as for all sets")
    parser.add_argument("--benign")
    parser.add_argument("--limit", type=int, default=60, help="requests of each set")
    parser.add_argument("--steps", type=int, default=60, help="optimiser steps")
    parser.add_argument("--out", default="runs/proof")
    given = parser.parse_args()

    arm = {"name": given.method, "method": given.method}
    sets = {role: name for role, name in (("harmful", given.requests), ("benign", given.benign)) if name}
    settings = {
        "model.source": given.model,
        "data.limit": given.limit,
        "training.max_steps": given.steps,
        "audit.tasks": ["harmfulness", "helpfulness"],
        "arms": [arm],
    }
    if sets:
        settings |= {"data.sets": sets, "train.harmful": [sets["harmful"]], "train.benign": [sets["benign"]]}
    recipe = toxoid.with_overrides(toxoid.load_recipe("default"), settings)
    with toxoid.RichProgress() as progress:
        results = toxoid.run_recipe(recipe, given.out, progress=progress)
    print(toxoid.render_summary(results))
    print(f"report: {given.out}/report.html")


if __name__ == "__main__":
    main()
