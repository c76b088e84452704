"""``toxoid cp``: a packaged recipe, launcher or task folder as one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from toxoid.errors import UsageError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


@click.command()
@click.argument("name")
@click.argument("target", required=False, type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Overwrite TARGET.")
def cp(name: str, target: Path | None, force: bool) -> None:
    """Copy the packaged recipe or launcher NAME to TARGET: a file, a folder, or by default NAME.yaml here.

    NAME may be lm-eval-c2: the folder of C2-Eval for lm-eval's --include_path, by default copied to lm-eval-c2 here.
    """
    from toxoid.config.packaged import (
        packaged_folders,
        packaged_judge_recipes,
        packaged_launchers,
        packaged_recipe,
    )
    from toxoid.store.files import disk_errors, write_text_atomic

    if folder := packaged_folders().get(name):
        _copy_folder(folder, target or Path(name), force=force)
        return
    launcher, judge = packaged_launchers().get(name), packaged_judge_recipes().get(name)
    text = (launcher or judge or packaged_recipe(name)).read_text("utf-8")
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
        else f"toxoid judge train {path}"
        if judge
        else f"toxoid run --recipe {path}"
    )
    click.echo(f"{path}: edit it, then `{use}`")


def _copy_folder(folder: Traversable, target: Path, *, force: bool) -> None:
    from toxoid.store.files import disk_errors, write_text_atomic

    if target.exists() and not force:
        raise UsageError(f"{target} exists: give another name, or --force to overwrite what it holds")
    with disk_errors(target):
        target.mkdir(parents=True, exist_ok=True)
    for entry in folder.iterdir():
        if entry.name.endswith((".yaml", ".py")):
            write_text_atomic(target / entry.name, entry.read_text("utf-8"))
    click.echo(f"{target}: its YAML file says how to run it")
