"""``toxoid ls``: what there is to choose from."""

from __future__ import annotations

import json
import shutil
import sys
from importlib import import_module

import click

_REGISTRIES = {
    "methods": ("toxoid.methods.registry",),
    "attacks": ("toxoid.attacks.registry", "toxoid.attacks.interactive_names"),
    "judges": ("toxoid.judges.registry",),
    "datasets": ("toxoid.data.lab", "toxoid.data.contrast", "toxoid.data.registry"),
}
KINDS = (*_REGISTRIES, "recipes", "launchers")


@click.command()
@click.argument("kind", metavar="KIND", type=click.Choice(KINDS))
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object: name to description.")
def ls(kind: str, as_json: bool) -> None:
    """List what there is of KIND: methods, attacks, judges, datasets, recipes or launchers."""
    names = listing(kind)
    if as_json:
        click.echo(json.dumps(names, indent=2, ensure_ascii=False))
        return
    width = max(map(len, names), default=0)
    room = shutil.get_terminal_size((110, 24)).columns
    for name, description in names.items():
        click.echo(_shortened(f"{name:<{width}}  {description}", room))


def listing(kind: str) -> dict[str, str]:
    """Return name to one-line description of everything of a kind."""
    if kind == "recipes":
        from toxoid.config.packaged import recipe_descriptions

        return recipe_descriptions()
    if kind == "launchers":
        from toxoid.config.packaged import launcher_descriptions

        return launcher_descriptions()
    return {name: line for module in _REGISTRIES[kind] for name, line in import_module(module).NAMES.items()}


def _shortened(line: str, room: int) -> str:
    """Fit a line to a terminal; in a pipe nothing is cut."""
    if not sys.stdout.isatty() or len(line) <= room:
        return line
    return f"{line[: room - 1]}…"
