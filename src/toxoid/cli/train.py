"""``toxoid train``: train on files that are there already, also under a distributed launcher."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("model", required=False)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="Groups (a folder of `toxoid synth`, .parquet or .jsonl), or chats (.jsonl with `messages`).",
)
@click.option(
    "--anchors", type=click.Path(path_type=Path), help="Chats on which MODEL stays as it is; with groups."
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="YAML file with the sections model, training and options of a recipe, and a seed.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of the adapter or model; the same command continues a training that was stopped.",
)
def train(model: str | None, data: Path, anchors: Path | None, config: Path | None, out: Path) -> None:
    """Train MODEL on a file: preferences over groups, or the replies of chats.

    Several processes share the work under a launcher, e.g. `accelerate launch --config_file FILE -m toxoid train ...`
    (docs/distributed.md).
    """
    from toxoid.cli.execute import command_line
    from toxoid.cli.progress import RichProgress
    from toxoid.loop.train import load_settings, train_on_file
    from toxoid.training.processes import is_main

    settings = load_settings(config)
    if model is not None:
        changed = settings.model.model_copy(update={"source": model})
        settings = settings.model_copy(update={"model": changed})
    with RichProgress() as progress:
        result = train_on_file(
            data, out, settings, anchors=anchors, command=command_line(), progress=progress
        )
    if is_main():
        click.echo(f"trained {result.steps} steps on {result.examples} examples")
        click.echo(f"{result.kind}: {result.path}")
