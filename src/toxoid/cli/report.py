"""``toxoid report``: write a finished run's report again, or in a format of others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toxoid.cli.gates import enforce_gates, fail_on

if TYPE_CHECKING:
    from toxoid.loop.export import Format
    from toxoid.report.gates import Gate

FORMATS = ("html", "junit", "sarif", "inspect", "model-card")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--format", type=click.Choice(FORMATS), default="html", show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="File to write, for inspect and model-card a folder; by default in RUN.",
)
@click.option("--system", help="System to tell of; by default the one that the verdict is about.")
@fail_on
def report(run: Path, format: Format, out: Path | None, system: str | None, gates: Sequence[Gate]) -> None:
    """Write the report of the finished run in directory RUN, and print its table.

    junit and sarif are files for CI, inspect is a folder of logs for `inspect view`, and model-card adds the scores
    to the folder of a treated model.
    """
    from toxoid.cli.execute import console
    from toxoid.loop.export import export
    from toxoid.report.terminal import summary
    from toxoid.store.run_directory import RunDirectory

    paths = export(run, format, out=out, system=system)
    results = RunDirectory.read(run).results()
    console().print(summary(results))
    for path in paths:
        click.echo(f"{'report' if format == 'html' else format}: {path}")
    enforce_gates(results, gates)
