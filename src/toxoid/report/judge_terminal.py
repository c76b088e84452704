"""Shows a judge in a terminal: its training round by round, and its card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from toxoid.methods.adversarial_tuning.holdouts import CONTENTIOUS, MISSED, UNCONDITIONED, UNSEEN_ADVERSARY
from toxoid.report import judge_card, judge_view
from toxoid.report.facts import judge_warnings
from toxoid.report.format import DASH
from toxoid.report.judge_card import GroupLine
from toxoid.report.judge_view import Record
from toxoid.report.text import visible
from toxoid.report.view import Cell

_ARMS = {"adversary": "Against the adversary", "control": "Control: prompts drawn at random"}
_HEADINGS = {
    MISSED: "accuracy\nmissed",
    CONTENTIOUS: "false pos.\ncontentious",
    UNCONDITIONED: "accuracy\nunconditioned",
    UNSEEN_ADVERSARY: "accuracy\nnew adversary",
}
_MEASURES = ("accuracy", "sensitivity", "specificity", "kappa", "AUROC", "calibration error")


def rounds_table(results: Mapping[str, Any]) -> Group:
    """Return what a judge's training ends with: the verdict, and its rounds or, without any, its card.

    Raises:
        UsageError: ``results`` does not have the layout that :func:`toxoid.report.judge_page.render_judge_page` takes.
    """
    training = judge_view.checked(results)
    sentences = [
        Text(visible(sentence, limit=2000), style="" if index else "bold")
        for index, sentence in enumerate(judge_view.sentences(results))
    ]
    arms: list[RenderableType] = [
        Group(Text(), _rounds(rounds, training.slices, _ARMS[name]))
        for name, rounds in training.arms.items()
        if training.played
    ]
    return Group(*sentences, *(arms or [Text(), card_table(results["card"])]))


def card_table(card: Mapping[str, Any]) -> Group:
    """Return a judge's card: what it was compared with, its numbers by group, its weaknesses."""
    facts = [
        Text(visible(f"{fact.name}: {fact.value}{f' ({fact.note})' if fact.note else ''}", limit=600))
        for fact in judge_card.card_facts(card)
    ]
    warnings = [Text(visible(f"note: {text}", limit=600), style="yellow") for text in judge_warnings(card)]
    numbers: list[RenderableType] = [Text(), _groups(card), Text()] if card.get("n") else []
    return Group(*facts, *numbers, *warnings)


def _table(first: str, *numbers: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(first, overflow="fold")
    for title in numbers:
        table.add_column(title, justify="right", overflow="fold")
    return table


def _rounds(rounds: Sequence[Record], slices: Sequence[str], title: str) -> Table:
    table = _table("round", "labels", "success", "distinct\npairs", *(_HEADINGS[name] for name in slices))
    table.title, table.title_justify, table.title_style = title, "left", "bold"
    table.add_column("", overflow="fold")
    for record, line in zip(rounds, judge_view.round_lines(rounds), strict=True):
        rates = [judge_card.rate_cell(judge_view.measured(record, name)) for name in slices]
        state = ("adopted" if line.adopted else "not adopted") + (", collapsed" if line.collapsed else "")
        style = "" if line.adopted and not line.collapsed else "bold yellow"
        table.add_row(
            str(line.number),
            line.candidates,
            _cell(line.success),
            line.distinct[1] if line.distinct else DASH,
            *map(_cell, rates),
            Text(state, style=style),
        )
    return table


def _groups(card: Mapping[str, Any]) -> Table:
    table = _table("", "labels", "unscored", *_MEASURES)
    _add_group(table, judge_card.group_line("all", card))
    for found in judge_card.group_tables(card):
        table.add_row(Text(found.title.lower(), style="bold"))
        for line in found.lines:
            _add_group(table, line, indent="  ")
        if found.hidden:
            table.add_row(Text(f"  {found.hidden} more", style="dim"))
    return table


def _add_group(table: Table, line: GroupLine, *, indent: str = "") -> None:
    table.add_row(Text(f"{indent}{line.name}"), line.n, line.unscored, *map(_cell, line.cells))


def _cell(cell: Cell) -> Text:
    return Text.assemble(cell.rate, (f"\n{cell.interval}" if cell.interval else "", "dim"))
