"""``toxoid compare``: the paired difference between two runs on the same items."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from toxoid.cli.gates import enforce_gates, fail_on

if TYPE_CHECKING:
    from toxoid.report.gates import Gate


@click.command()
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@click.option("--before-system", default="base", show_default=True, help="System of the first run.")
@click.option("--after-system", default=None, help="System of the second run; by default its last one.")
@click.option(
    "--force", is_flag=True, help="Compare runs that differ in more than the model; every output says so."
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the page to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@fail_on
def compare(
    before: Path,
    after: Path,
    before_system: str,
    after_system: str | None,
    force: bool,
    out: Path | None,
    as_json: bool,
    gates: Sequence[Gate],
) -> None:
    """Compare a system of run BEFORE with a system of run AFTER, item by item."""
    import json

    from toxoid.cli.execute import console
    from toxoid.loop.compare import compare_runs
    from toxoid.report.html import render_html
    from toxoid.report.terminal import summary
    from toxoid.store.files import write_text_atomic

    results = compare_runs(before, after, before_system=before_system, after_system=after_system, force=force)
    if as_json:
        click.echo(json.dumps(results, ensure_ascii=False))
    else:
        console().print(summary(results))
    if out:
        write_text_atomic(out, render_html(results))
        click.echo(f"page: {out}", err=as_json)
    enforce_gates(results, gates)
