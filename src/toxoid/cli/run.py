"""``toxoid run``: audit, treat, re-audit, report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toxoid.cli.gates import fail_on
from toxoid.cli.options import data_options, model_options, resolve

if TYPE_CHECKING:
    from toxoid.report.gates import Gate


@click.command()
@click.argument("model", required=False)
@click.option("--recipe", default="default", show_default=True, help="Packaged recipe or YAML file.")
@click.option("--out", type=click.Path(path_type=Path), help="Run directory; the same command continues it.")
@click.option("--method", "methods", multiple=True, help="Only these arms of the recipe (repeatable).")
@click.option("--shield", help="Treat by this shield (see `toxoid shield`), in place of the recipe's arms.")
@fail_on
@model_options
@data_options
def run(
    model: str | None,
    recipe: str,
    out: Path | None,
    methods: tuple[str, ...],
    shield: str | None,
    gates: Sequence[Gate],
    **given: Any,
) -> None:
    """Audit MODEL, treat it, audit it again on the same items, and report the difference.

    MODEL is a checkpoint folder, a Hub id, or lab-base (the default).
    """
    from toxoid.cli.execute import execute
    from toxoid.config.recipe import load_recipe, only_arms, shielded
    from toxoid.errors import UsageError

    loaded = load_recipe(recipe)
    if shield and methods:
        raise UsageError(
            f"--shield is the one treatment, and --method {methods[0]} another: give one of them"
        )
    if shield:
        loaded = shielded(loaded, shield)
    elif methods:
        loaded = only_arms(loaded, methods)
    execute(resolve(loaded, model, given), out, gates)
