"""``toxoid lab``: build the lab's models again, or look into its world."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def lab() -> None:
    """The micro-world with ground truth that toxoid ships."""


@lab.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("lab-checkpoints"), show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--steps", type=int, default=None, help="Steps of pre-training, in place of the default.")
def build(out: Path, seed: int, steps: int | None) -> None:
    """Make lab-base and lab-uncensored again from a seed (about ten minutes on two cores)."""
    from dataclasses import replace

    from toxoid.cli.progress import RichProgress
    from toxoid.lab.build import BuildConfig
    from toxoid.lab.build import build as build_lab

    config = BuildConfig(seed=seed)
    if steps is not None:
        config = replace(config, schedule=replace(config.schedule, steps=steps))
    with RichProgress() as progress:
        build_lab(out, config, progress)
    click.echo(f"checkpoints: {out / 'lab-base'}, {out / 'lab-uncensored'}")


@lab.command()
@click.option(
    "--set", "name", default="lab-harmful", show_default=True, help="Which of the lab's request sets."
)
@click.option("--split", type=click.Choice(["train", "test"]), default="test", show_default=True)
@click.option("--count", type=int, default=5, show_default=True)
def show(name: str, split: str, count: int) -> None:
    """Show the world's size and some requests of one of its sets."""
    from toxoid.data.lab import lab_requests
    from toxoid.lab.world import world

    place = world()
    goals = {kind: len(place.select(kind)) for kind in ("harmful", "benign", "novel")}
    held = sum(category.held_out for category in place.categories.values())
    sizes = ", ".join(f"{count} {kind} goals" for kind, count in goals.items())
    click.echo(
        f"Harrowmere: {len(place.categories)} categories ({held} held out of every treatment), {sizes}"
    )
    found = lab_requests(name, split="train" if split == "train" else "test")
    click.echo(f"{found.name}, {split}: {len(found)} requests")
    for request in found.requests[:count]:
        click.echo(f"\n[{request.category}] {request.prompt}")
        if request.reference:
            click.echo(f"  good reply: {request.reference}")
