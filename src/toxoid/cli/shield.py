"""``toxoid shield``: make two opposite soft prompts for a model, distil, look into and exchange them with PEFT."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from toxoid.cli.options import F, model_options, request_options, resolve
from toxoid.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from toxoid.config.recipe import Recipe
    from toxoid.engines.loading import LoadedModel
    from toxoid.engines.shield import Shield
    from toxoid.loop.treat import Treated

_METHOD = "contrastive-decoding"
_PUBLISHED: dict[str, Any] = {
    "contentious": 0.0,
    "two_sided": False,
    "unlikelihood": 1.0,
    "rescale": False,
    "plausibility": 0.0,
}


class _MakeByDefault(click.Group):
    """A group whose ``make`` may be left out: a first argument that is no subcommand is the model."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``make`` before what belongs to it."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["make", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_MakeByDefault)
def shield() -> None:
    """Make a shield for MODEL: `toxoid shield MODEL --out DIR` is `toxoid shield make MODEL --out DIR`.

    A shield is two opposite soft prompts. With `toxoid generate MODEL --shield DIR` the model follows the safe one and
    stays away from the adversarial one. Its weights stay as they are.
    """


def _training_options(function: F) -> F:
    """Add the options of the verbs that train."""
    options = (
        click.option(
            "--out", type=click.Path(path_type=Path), help="Run directory; the same command continues it."
        ),
        click.option("--anchors", type=int, help="Instructions per side to learn from."),
        click.option("--steps", type=int, help="Steps of the training."),
        click.option("--learning-rate", type=float, help="Of the training."),
        model_options,
        request_options,
        click.option("--benign", help="Benign requests: name or file."),
        click.option("--contentious", help="Requests that sound harmful and are not: name or file."),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="KEY=VALUE",
            help="Any recipe value, dotted (repeatable).",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


@shield.command()
@click.argument("model", required=False)
@click.option("--recipe", default="shield", show_default=True, help="Packaged recipe or YAML file.")
@click.option("--published", is_flag=True, help="As in the paper, in place of the form recommended here.")
@_training_options
def make(
    model: str | None,
    out: Path | None,
    recipe: str,
    published: bool,
    anchors: int | None,
    steps: int | None,
    learning_rate: float | None,
    **given: Any,
) -> None:
    """Train a shield for MODEL, from its own replies to harmful and safe requests."""
    from toxoid.config.recipe import load_recipe, single_arm
    from toxoid.engines.shield import load_shield

    values = {
        **({f"options.{key}": value for key, value in _PUBLISHED.items()} if published else {}),
        **_trained(anchors, steps, learning_rate),
    }
    resolved, treated = _run(single_arm(load_recipe(recipe), _METHOD), values, model, out, given)
    click.echo(
        f"trained {treated.steps} steps in {load_shield(treated.path).facts['seconds']} s on {_made(treated)} replies"
    )
    click.echo(f"shield: {treated.path}")
    click.echo(f"use it: toxoid generate {resolved.model.source} --shield {treated.path}")


@shield.command()
@click.argument("model", required=False)
@click.option(
    "--shield", "folder", required=True, type=click.Path(path_type=Path), help="The shield of MODEL."
)
@click.option("--form", type=click.Choice(["lora", "soft-prompt"]), default="lora", show_default=True)
@click.option("--recipe", default="shield-distilled", show_default=True, help="Packaged recipe or YAML file.")
@_training_options
def distil(
    model: str | None,
    folder: Path,
    form: str,
    recipe: str,
    out: Path | None,
    anchors: int | None,
    steps: int | None,
    learning_rate: float | None,
    **given: Any,
) -> None:
    """Train one PEFT adapter to say in a single pass what MODEL says under a shield.

    It is no shield: PEFT and any server of adapters run it. vLLM takes LoRA adapters, and no soft prompts since 0.10.
    What is lost is measured with `toxoid run --recipe shield-distilled`.
    """
    from toxoid.config.recipe import distilled, load_recipe

    chosen = distilled(load_recipe(recipe), str(folder), form)
    _, treated = _run(chosen, _trained(anchors, steps, learning_rate), model, out, given)
    click.echo(f"trained {treated.steps} steps on {_made(treated)} replies")
    click.echo(f"adapter: {treated.path}")


def _trained(anchors: int | None, steps: int | None, learning_rate: float | None) -> dict[str, Any]:
    """Return the settings of an arm by their place in it."""
    return {"options.anchors": anchors, "training.max_steps": steps, "training.learning_rate": learning_rate}


def _run(
    recipe: Recipe, values: Mapping[str, Any], model: str | None, out: Path | None, given: dict[str, Any]
) -> tuple[Recipe, Treated]:
    """Run a recipe's one treatment, with the values that were given for its arm, and return both."""
    from toxoid.cli.execute import command_line, default_directory
    from toxoid.cli.progress import RichProgress
    from toxoid.config.recipe import with_overrides
    from toxoid.loop.run import align

    chosen = {f"arms.0.{key}": value for key, value in values.items() if value is not None}
    resolved = resolve(with_overrides(recipe, chosen), model, given)
    with RichProgress() as progress:
        directory = out or default_directory(resolved)
        return resolved, align(resolved, directory, command=command_line(), progress=progress)


def _made(treated: Treated) -> str:
    return ", ".join(f"{count} {source}" for source, count in treated.examples.items())


@shield.command(name="import")
@click.argument("model")
@click.option("--safe", type=click.Path(path_type=Path), required=True, help="Adapter that makes MODEL safe.")
@click.option(
    "--opposite", type=click.Path(path_type=Path), required=True, help="Adapter that makes MODEL comply."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the shield.")
@model_options
def import_(model: str, safe: Path, opposite: Path, out: Path, **given: Any) -> None:
    """Make a shield of two PEFT prompt-tuning adapters of MODEL."""
    from toxoid.engines.contrast import Contrast
    from toxoid.engines.peft_prompts import import_peft
    from toxoid.engines.shield import save_shield

    loaded = _load(model, given)
    save_shield(import_peft(safe, opposite, loaded=loaded, contrast=Contrast()), out)
    click.echo(f"shield: {out}")


@shield.command()
@click.argument("folder", metavar="SHIELD", type=click.Path(path_type=Path))
@click.argument("model")
@click.option(
    "--half", type=click.Choice(["safe", "opposite"]), required=True, help="Which of the two prompts."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="New folder of the adapter.")
@click.option("--yes", is_flag=True, help="Export the adversarial half.")
@model_options
def export(
    folder: Path, model: str, half: Literal["safe", "opposite"], out: Path, yes: bool, **given: Any
) -> None:
    """Write one half of a SHIELD of MODEL as a PEFT prompt-tuning adapter."""
    from toxoid.engines.peft_prompts import export_peft
    from toxoid.engines.shield import load_shield

    if half == "opposite":
        warning = f"the adversarial half is a ready-made jailbreak of {model}"
        if not yes:
            raise UsageError(f"{warning}: add --yes to export it all the same")
        click.echo(f"toxoid: {warning}: give it to nobody who should not have that", err=True)
    export_peft(load_shield(folder), half, out, loaded=_load(model, given))
    click.echo(f"adapter: {out}")


@shield.command()
@click.argument("folder", metavar="SHIELD", type=click.Path(path_type=Path))
def show(folder: Path) -> None:
    """Show what a SHIELD is: its model, its prompts, its contrast, and how it was made."""
    from rich.table import Table
    from rich.text import Text

    from toxoid.cli.execute import console
    from toxoid.engines.shield import load_shield
    from toxoid.report.text import one_line

    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in _told(load_shield(folder)):
        table.add_row(Text(name, style="dim"), Text(one_line(value, limit=300)))
    console().print(table)


def _told(made: Shield) -> Iterator[tuple[str, str]]:
    """Yield the facts of a shield, a name and a text each."""
    from dataclasses import asdict

    yield "model", str(made.model.get("name"))
    yield from ((name, str(value)) for name, value in made.model.items() if name != "name" and value)
    yield "soft tokens", f"{made.length} each, placement {made.frame.placement}"
    yield "contrast", _words(asdict(made.contrast))
    for name, value in made.facts.items():
        yield name.replace("_", " "), _words(value) if isinstance(value, dict) else str(value)


def _words(values: Mapping[str, Any]) -> str:
    shown = {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in values.items()}
    return ", ".join(f"{key} {value}" for key, value in shown.items() if value is not None)


def _load(model: str, given: dict[str, Any]) -> LoadedModel:
    """Load a model as the options say."""
    from toxoid.config.recipe import load_recipe, without_arms
    from toxoid.loop import models

    section = resolve(without_arms(load_recipe("audit")), model, given).model
    if section.endpoint:
        raise UsageError("--endpoint: soft prompts need the weights here: give a checkpoint folder or Hub id")
    return models.load(section)
