"""``toxoid compare``: the paired difference between two runs on the same items."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@click.option("--before-system", default="base", show_default=True, help="System of the first run.")
@click.option("--after-system", default=None, help="System of the second run; by default its last one.")
@click.option(
    "--force", is_flag=True, help="Compare runs that differ in more than the model; the output says so."
)
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
def compare(
    before: Path, after: Path, before_system: str, after_system: str | None, force: bool, as_json: bool
) -> None:
    """Compare a system of run BEFORE with a system of run AFTER, item by item."""
    import json

    from toxoid.cli.execute import console
    from toxoid.loop.compare import compare_runs
    from toxoid.report.terminal import summary

    results = compare_runs(before, after, before_system=before_system, after_system=after_system, force=force)
    if as_json:
        click.echo(json.dumps(results, ensure_ascii=False))
    else:
        console().print(summary(results))
