"""``toxoid report``: write a run's report again and print its table."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
def report(run: Path) -> None:
    """Write report.html of the finished run in directory RUN, and print its table."""
    from toxoid.cli.execute import console
    from toxoid.loop.publish import publish
    from toxoid.report.terminal import summary
    from toxoid.store.run_directory import RunDirectory

    path = publish(run)
    console().print(summary(RunDirectory.read(run).results()))
    click.echo(f"report: {path}")
