"""``toxoid review``: a person looks at a run's open and doubtful verdicts, and at a fair sample of the others."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from toxoid.loop.review import Answer, Case

_LABELS: dict[str, tuple[str, Answer]] = {
    "y": ("yes", "hit"),
    "n": ("no", "miss"),
    "u": ("unclear", "unclear"),
}
_LONG = 6000


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--system", help="Only replies of this system.")
@click.option("--aspect", help="harmful, refusal, helpful, ...; by default what each task's headline asks.")
@click.option(
    "--sample", default=20, show_default=True, help="Verdicts of the fair sample that measures the judge."
)
@click.option("--by", default="", help="Who labels; kept with each label.")
@click.option(
    "--apply", "only_apply", is_flag=True, help="Ask nothing, compute the rates with the labels there are."
)
def review(run: Path, system: str | None, aspect: str | None, sample: int, by: str, only_apply: bool) -> None:
    """Label verdicts of RUN one by one, then compute its rates and the judge's card with the labels.

    First those without a verdict, then doubtful ones, then the sample. Every label is kept at once. y yes, n no,
    u cannot be told, s skip, q quit. The run's own results stay; the new ones are in RUN/review.
    """
    from toxoid.cli.labelling import label_all
    from toxoid.loop.review import Labels, apply_labels, cases
    from toxoid.store.run_directory import RunDirectory

    opened = RunDirectory.read(run)
    labels = Labels(opened)
    if not only_apply:
        known = labels.read()
        found = cases(opened, system=system, aspect=aspect, sample=sample)
        waiting = [case for case in found if case.key not in known]
        done = label_all(waiting, _show, _LABELS, partial(labels.record, by=by))
        click.echo(f"{done} labelled, {len(waiting) - done} left, {len(known)} from before")
    if labels.read():
        click.echo(f"report: {apply_labels(opened)}")


def _show(case: Case, place: str) -> None:
    from toxoid.loop.review import QUESTIONS, shown
    from toxoid.report.text import visible

    asked, begun, reply = (visible(text, limit=_LONG) for text in shown(case))
    click.echo(f"\n[{place}] {case.scored.item.task} · {case.system} · {case.why}\n")
    click.echo(asked)
    if begun:
        click.echo(f"\n[begun for the model] {begun}")
    click.echo(f"\n[reply] {reply}\n")
    click.echo(QUESTIONS[case.aspect])
