"""Runs a resolved recipe for a person: progress while it goes, a table and the report's path at the end."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toxoid.cli.gates import enforce_gates

if TYPE_CHECKING:
    from rich.console import Console

    from toxoid.config.recipe import Recipe
    from toxoid.report.gates import Gate

_ADDRESS = re.compile(r"https?://[^\s,}\]'\"]+")


def execute(recipe: Recipe, out: Path | None, gates: Sequence[Gate]) -> None:
    """Run ``recipe`` in ``out`` (by default ``runs/<recipe>-<model>``), write the report, print the table.

    Raises:
        ThresholdBreached: A gate is breached; everything is written by then.
    """
    from toxoid.cli.progress import RichProgress
    from toxoid.loop.api import run_recipe
    from toxoid.report.terminal import summary

    directory = out or default_directory(recipe)
    with RichProgress() as progress:
        results = run_recipe(recipe, directory, command=command_line(), progress=progress)
    console().print(summary(results))
    click.echo(f"report: {directory / 'report.html'}")
    enforce_gates(results, gates)


def command_line() -> str:
    """Return this program's call, for a shell. Reports and model cards show it: addresses lose what may hold keys."""
    from toxoid.engines.endpoint_wire import public_url

    shown = [_ADDRESS.sub(lambda found: public_url(found[0]), argument) for argument in sys.argv[1:]]
    return shlex.join(["toxoid", *shown])


def console() -> Console:
    """Return the console of results; where nobody watches (a pipe, a log) it is wide enough for the tables."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=120)


def default_directory(recipe: Recipe) -> Path:
    """Return the run directory of a recipe and model when none is given."""
    model = Path(recipe.model.source).name or "model"
    return Path("runs") / f"{recipe.name}-{model}"
