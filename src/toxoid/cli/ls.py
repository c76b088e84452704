"""``toxoid ls``: what there is to choose from."""

from __future__ import annotations

import json
import shutil
import sys

import click

from toxoid.loop.catalogue import KINDS, available


@click.command()
@click.argument("kind", metavar="KIND", type=click.Choice(KINDS))
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object: name to description.")
def ls(kind: str, as_json: bool) -> None:
    """List what there is of KIND: methods, attacks, judges, engines, datasets, recipes or launchers."""
    names = available(kind)
    if as_json:
        click.echo(json.dumps(names, indent=2, ensure_ascii=False))
        return
    width = max(map(len, names), default=0)
    room = shutil.get_terminal_size((110, 24)).columns
    for name, description in names.items():
        click.echo(_shortened(f"{name:<{width}}  {description}", room))


def _shortened(line: str, room: int) -> str:
    """Fit a line to a terminal; in a pipe nothing is cut."""
    if not sys.stdout.isatty() or len(line) <= room:
        return line
    return f"{line[: room - 1]}…"
