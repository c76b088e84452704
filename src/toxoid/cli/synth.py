"""``toxoid synth``: training data at scale, for toxoid's trainers and for others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toxoid.cli.options import model_options, request_options, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table


@click.group()
def synth() -> None:
    """Make training data: Parquet files that any trainer reads, with a data card."""


@synth.command("course-correction")
@click.argument("model", required=False)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of the data; the same command continues it.",
)
@model_options
@request_options
@click.option(
    "--safe-replies",
    type=click.Choice(["auto", "reference", "guided"]),
    default="auto",
    show_default=True,
    help="The data's, MODEL's own under the safe system prompt, or the second where the first is missing.",
)
@click.option(
    "--truncations", type=click.IntRange(1, 16), default=4, show_default=True, help="Corrections per request."
)
@click.option(
    "--late", is_flag=True, help="Correct the whole harmful reply too, as the last of the corrections."
)
@click.option(
    "--tries", type=click.IntRange(1, 16), default=2, show_default=True, help="Continuations per correction."
)
@click.option(
    "--wording",
    type=click.Choice(["auto", "english", "lab"]),
    default="auto",
    help="Of openers and triggers.",
)
@click.option(
    "--shard", type=click.IntRange(1), default=1000, show_default=True, help="Requests per pair of files."
)
def course_correction(
    model: str | None,
    out: Path,
    safe_replies: Any,
    truncations: int,
    late: bool,
    tries: int,
    wording: Any,
    shard: int,
    **given: Any,
) -> None:
    """Have MODEL correct harmful replies that have begun; writes ranked groups and their pairs (C2-Syn).

    MODEL is a checkpoint folder, a Hub id, lab-base (the default), or with --endpoint a server's model. The requests
    need full harmful replies (a column `target`).
    """
    from toxoid.cli.execute import command_line, console
    from toxoid.cli.progress import RichProgress
    from toxoid.config.recipe import load_recipe, without_arms
    from toxoid.loop.synth import synthesise, told
    from toxoid.methods.course_correction.synthesis import SynthesisOptions

    recipe = resolve(without_arms(load_recipe("audit")), model, given)
    options = SynthesisOptions(
        truncations=truncations, late=late, tries=tries, wording=wording, safe_replies=safe_replies
    )
    with RichProgress() as progress:
        counts = synthesise(
            recipe, out, options=options, shard=shard, command=command_line(), progress=progress
        )
    console().print(_table(told(counts)))
    click.echo(f"groups and pairs: {out}")


def _table(counts: Mapping[str, int]) -> Table:
    from rich.table import Table

    table = Table("made and dropped", "count")
    table.columns[1].justify = "right"
    for name, count in counts.items():
        table.add_row(name, f"{count:,}")
    return table
