"""``toxoid judge``: train a judge against an adversary, measure one against people, label prompts."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from toxoid.methods.adversarial_tuning.label_queue import Label

_LABELS: dict[str, tuple[str, Label]] = {
    "p": ("problematic", "problematic"),
    "h": ("harmless", "harmless"),
    "u": ("unclear", "unclear"),
}
_LONG = 4000


@click.group()
def judge() -> None:
    """Train a judge of prompts or replies, measure it against people, label prompts for it."""


@judge.command()
@click.argument("recipe", default="judge-lab")
@click.option("--out", type=click.Path(path_type=Path), help="Run directory; the same command continues it.")
@click.option(
    "--start", help="The judge to begin with: minilm, bag-of-words, an encoder or a judge of your own."
)
@click.option(
    "--adversary",
    help="The model that writes prompts, in place of attacks: a checkpoint folder, Hub id, or name at an endpoint.",
)
@click.option("--adversary-endpoint", help="Base URL of the adversary's OpenAI-compatible server.")
@click.option(
    "--truth", help="Who knows what is problematic: lab-oracle, people, or a judge (name, guard:..., folder)."
)
@click.option("--rounds", type=int, help="Rounds of adversary against judge; 0 trains on the data alone.")
@click.option("--seed", type=int, help="Of everything random.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Any recipe value (repeatable).")
def train(recipe: str, out: Path | None, overrides: tuple[str, ...], **given: Any) -> None:
    """Train a judge by RECIPE: a packaged one (judge-lab, judge-text, judge-replies) or a YAML file.

    Round after round an adversary writes prompts, the ground truth says which are problematic, and the judge learns
    from those it missed. Without rounds it learns from the recipe's data alone.
    """
    from toxoid.cli.execute import command_line, console
    from toxoid.cli.progress import RichProgress
    from toxoid.config.overrides import parse_overrides
    from toxoid.loop.judge_recipe import load_judge_recipe
    from toxoid.loop.judge_training import train_judge
    from toxoid.report.judge_terminal import rounds_table

    chosen = load_judge_recipe(recipe, {**_shortcuts(given), **parse_overrides(overrides)})
    directory = out or Path("runs") / chosen.name
    with RichProgress() as progress:
        done = train_judge(chosen, directory, command=command_line(), progress=progress)
    console().print(rounds_table(done.results))
    click.echo(f"judge: {done.path}")
    click.echo(f"report: {done.report}")


def _shortcuts(given: dict[str, Any]) -> dict[str, Any]:
    places = {
        "start": "start.source",
        "adversary": "adversary.model.source",
        "adversary_endpoint": "adversary.model.endpoint",
        "truth": "truth.name",
        "rounds": "rounds.rounds",
        "seed": "seed",
    }
    found = {places[name]: value for name, value in given.items() if value is not None}
    return found | ({"adversary.attacks": []} if "adversary.model.source" in found else {})


@judge.command(name="eval")
@click.argument("data", nargs=-1, required=True)
@click.option("--judge", "name", default="encoder", show_default=True, help="A judge's name or folder.")
@click.option("--aspect", help="problematic, refusal or harmful; by default what the judge is for.")
@click.option("--judge-model", help="Model that the llm judge asks.")
@click.option("--judge-endpoint", help="Server of the judge's model.")
@click.option("--limit", type=int, help="At most this many of each set, chosen by hash.")
@click.option("--out", type=click.Path(path_type=Path), help="Also write the card to this JSON file.")
@click.option("--json", "as_json", is_flag=True, help="Print the card as JSON.")
def evaluate(data: tuple[str, ...], out: Path | None, as_json: bool, **given: Any) -> None:
    """Measure a judge on labelled DATA (names of sets or files) and print its card.

    A file has a text (`prompt`), for judges of replies also a `completion`, and a `label`.
    """
    import json

    from toxoid.cli.execute import command_line, console
    from toxoid.cli.progress import RichProgress
    from toxoid.loop.judge_evaluation import evaluate_judge
    from toxoid.report.judge_terminal import card_table
    from toxoid.store.files import write_json_atomic

    with RichProgress() as progress:
        card = evaluate_judge(data, command=command_line(), progress=progress, **given)
    if out:
        write_json_atomic(out, card)
    if as_json:
        click.echo(json.dumps(card, indent=2, ensure_ascii=False))
    else:
        console().print(card_table(card))


@judge.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--by", default="", help="Who labels; kept with each label.")
def label(folder: Path, by: str) -> None:
    """Label the prompts that wait in FOLDER, one by one; every label is kept at once.

    p problematic, h harmless, u cannot be told, s skip, q quit.
    """
    from toxoid.cli.labelling import label_all
    from toxoid.errors import UsageError
    from toxoid.methods.adversarial_tuning.label_queue import LabelQueue

    queue = LabelQueue(folder)
    waiting = queue.open()
    if not waiting and not queue.answers():
        raise UsageError(f"{folder} has no queue of prompts: give the folder that `toxoid judge train` named")
    done = label_all(waiting, _show, _LABELS, partial(queue.record, by=by))
    click.echo(f"{done} labelled, {len(waiting) - done} still wait")


def _show(text: str, place: str) -> None:
    from toxoid.report.text import visible

    click.echo(f"\n[{place}] {visible(text, limit=_LONG)}")
