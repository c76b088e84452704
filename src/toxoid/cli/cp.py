"""``toxoid cp``: a packaged recipe as a file of one's own."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("recipe")
@click.argument("target", required=False, type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Overwrite TARGET.")
def cp(recipe: str, target: Path | None, force: bool) -> None:
    """Copy the packaged RECIPE to TARGET: a file, a folder, or by default RECIPE.yaml here."""
    from toxoid.config.packaged import packaged_recipe
    from toxoid.errors import UsageError
    from toxoid.store.files import disk_errors, write_text_atomic

    text = packaged_recipe(recipe).read_text("utf-8")
    path = target or Path(f"{recipe}.yaml")
    if path.is_dir():
        path = path / f"{recipe}.yaml"
    if path.suffix not in (".yaml", ".yml"):
        raise UsageError(f"{path}: the name of a recipe file ends in .yaml")
    if path.exists() and not force:
        raise UsageError(f"{path} exists: give another name, or --force to overwrite it")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomic(path, text)
    click.echo(f"{path}: edit it, then `toxoid run --recipe {path}`")
