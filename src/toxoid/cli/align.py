"""``toxoid align``: treat a model, without the audits around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from toxoid.cli.options import data_options, model_options, resolve
from toxoid.methods.registry import NAMES


@click.command()
@click.argument("model", required=False)
@click.option("--method", type=click.Choice(sorted(NAMES)), default="mistake-analysis", show_default=True)
@click.option(
    "--recipe", default="default", show_default=True, help="Packaged recipe or YAML file: training and data."
)
@click.option("--out", type=click.Path(path_type=Path), help="Run directory; the same command continues it.")
@model_options
@data_options
def align(model: str | None, method: str, recipe: str, out: Path | None, **given: Any) -> None:
    """Train MODEL with one method; writes an adapter (or a model folder) with its training set and card."""
    from toxoid.cli.execute import command_line, default_directory
    from toxoid.cli.progress import RichProgress
    from toxoid.config.recipe import load_recipe, single_arm
    from toxoid.loop.run import align as run_align

    resolved = resolve(single_arm(load_recipe(recipe), method), model, given)
    directory = out or default_directory(resolved)
    with RichProgress() as progress:
        treated = run_align(resolved, directory, command=command_line(), progress=progress)
    made = ", ".join(f"{count} {source}" for source, count in treated.examples.items())
    click.echo(f"trained {treated.steps} steps on {made}")
    click.echo(f"model: {treated.path}")
