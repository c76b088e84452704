"""``toxoid audit``: how does this model fail, and how sure are we."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from toxoid.cli.options import data_options, model_options, resolve


@click.command()
@click.argument("model", required=False)
@click.option(
    "--recipe",
    default="audit",
    show_default=True,
    help="Packaged recipe or YAML file; its arms are left out.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Run directory; the same command continues it.")
@click.option("--shield", help="Audit the model behind this shield (see `toxoid shield`).")
@model_options
@data_options
def audit(model: str | None, recipe: str, out: Path | None, **given: Any) -> None:
    """Audit MODEL: a checkpoint folder, a Hub id, lab-base (the default), or with --endpoint a server's model."""
    from toxoid.cli.execute import execute
    from toxoid.config.recipe import load_recipe, without_arms

    execute(resolve(without_arms(load_recipe(recipe)), model, given), out)
