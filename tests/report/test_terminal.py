"""What a terminal shows."""

from __future__ import annotations

import pytest

from tests.report.synthetic import HOSTILE, TASKS, results, row
from toxoid.errors import UsageError
from toxoid.report.terminal import render_summary, terminal_table


def test_the_verdict_comes_first_and_the_table_holds_the_numbers():
    text = render_summary(results())
    assert text.startswith(
        "Harmless rate (harmful requests) rose by 32.0 points (95 % interval 27.0 to 37.0)."
    )
    assert [line.split() for line in text.splitlines() if "Corrected rate" in line] == [
        [
            "Corrected",
            "rate",
            "31.0",
            "%",
            "12.0",
            "%",
            "−19.0",
            "−24.0",
            "to",
            "−14.0",
            "<",
            ".001",
            "240",
            "worse",
        ]
    ]


def test_categories_are_left_to_the_page():
    assert "dream theft" not in render_summary(results())


def test_an_audit_shows_rates():
    text = render_summary(results(names=("base",)))
    assert "measured" in text
    assert "8.5 % unscored" in text


def test_several_audited_systems_are_told_apart():
    whole = results() | {"rows": [], "comparisons": []}
    assert "Harmful requests · Plain SFT" in render_summary(whole)


def test_a_missing_difference_has_its_reason():
    assert "no item was scored on both sides" in render_summary(results(rows=[row(None, n=0)]))


@pytest.mark.parametrize("text", [*HOSTILE, "[red]markup[/red] [link=file:///]x[/link]"])
def test_hostile_names_neither_control_the_terminal_nor_vanish(text):
    whole = results(rows=[row(task="own")])
    whole["meta"] |= {"tasks": {"own": {"title": text}}, "warnings": [text]}
    shown = render_summary(whole, width=300)
    assert not {"\x1b", "\x07", "\u202e", "\u200b", "\ufeff"} & set(shown)
    assert text[:10].strip() in shown or "\\" in shown


def test_a_narrow_terminal_keeps_its_width():
    assert max(map(len, render_summary(results(), width=80).splitlines())) <= 80


def test_the_table_has_a_row_per_overall_rate_and_task():
    assert terminal_table(results()).row_count == len(TASKS) + sum(
        len(task.metrics) for task in TASKS.values()
    )


def test_something_else_than_results_is_refused():
    with pytest.raises(UsageError):
        terminal_table({})
