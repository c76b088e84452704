"""``toxoid run``: audit, treat, re-audit, report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from toxoid.cli.options import data_options, model_options, resolve


@click.command()
@click.argument("model", required=False)
@click.option("--recipe", default="default", show_default=True, help="Packaged recipe or YAML file.")
@click.option("--out", type=click.Path(path_type=Path), help="Run directory; the same command continues it.")
@click.option("--method", "methods", multiple=True, help="Only these arms of the recipe (repeatable).")
@model_options
@data_options
def run(model: str | None, recipe: str, out: Path | None, methods: tuple[str, ...], **given: Any) -> None:
    """Audit MODEL, treat it, audit it again on the same items, and report the difference.

    MODEL is a checkpoint folder, a Hub id, or lab-base (the default).
    """
    from toxoid.cli.execute import execute
    from toxoid.config.recipe import load_recipe, only_arms

    loaded = load_recipe(recipe)
    execute(resolve(only_arms(loaded, methods) if methods else loaded, model, given), out)
