"""``toxoid cp``: a packaged recipe or launcher as a file of one's own."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("name")
@click.argument("target", required=False, type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Overwrite TARGET.")
def cp(name: str, target: Path | None, force: bool) -> None:
    """Copy the packaged recipe or launcher NAME to TARGET: a file, a folder, or by default NAME.yaml here."""
    from toxoid.config.packaged import packaged_launchers, packaged_recipe
    from toxoid.errors import UsageError
    from toxoid.store.files import disk_errors, write_text_atomic

    launcher = packaged_launchers().get(name)
    text = (launcher or packaged_recipe(name)).read_text("utf-8")
    path = target or Path(f"{name}.yaml")
    if path.is_dir():
        path = path / f"{name}.yaml"
    if path.suffix not in (".yaml", ".yml"):
        raise UsageError(f"{path}: the name of such a file ends in .yaml")
    if path.exists() and not force:
        raise UsageError(f"{path} exists: give another name, or --force to overwrite it")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomic(path, text)
    use = (
        f"accelerate launch --config_file {path} -m toxoid train ..."
        if launcher
        else f"toxoid run --recipe {path}"
    )
    click.echo(f"{path}: edit it, then `{use}`")
