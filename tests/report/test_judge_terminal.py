"""What a terminal shows of a judge."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console, RenderableType

from tests.report.synthetic import HOSTILE
from tests.report.synthetic_judge import agreement, card, recipe, results, untrained_against
from toxoid.errors import UsageError
from toxoid.report.judge_terminal import card_table, rounds_table


def shown(what: RenderableType, width: int = 120) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(what)
    return stream.getvalue()


def test_the_verdict_comes_first_and_each_round_has_its_numbers():
    text = shown(rounds_table(results()))
    assert text.startswith(
        "Round 4 is adopted: measurably better than round 0 on 3 of 4 slices, worse on none."
    )
    (line,) = re.findall(r"^3 .*not adopted", text, re.MULTILINE)
    assert line.split()[:4] == ["3", "120", "14.7", "%"]
    assert line.split()[4:] == ["0.12", "69.0", "%", "2.0", "%", "85.0", "%", "70.0", "%", "not", "adopted"]
    assert re.search(r"^4 .*adopted, collapsed", text, re.MULTILINE)


def test_both_arms_are_told_apart():
    text = shown(rounds_table(results()))
    assert text.index("Against the adversary") < text.index("Control: prompts drawn at random")
    assert len(re.findall(r"^0 ", text, re.MULTILINE)) == 2


@pytest.mark.parametrize("whole", [untrained_against(), results(0, control=False)])
def test_without_rounds_the_card_is_shown(whole):
    text = shown(rounds_table(whole))
    assert text.startswith("The judge agrees with 90.0 %")
    assert "Threshold: 0.432" in text


def test_the_card_has_a_row_per_group_with_its_numbers():
    text = shown(card_table(card()))
    (line,) = (line for line in text.splitlines() if "sky piracy" in line)
    assert line.split() == [
        "sky",
        "piracy",
        "200",
        "0",
        "71.0",
        "%",
        "71.0",
        "%",
        "71.0",
        "%",
        "0.42",
        "0.71",
        "0.19",
    ]
    assert "note: English only." in text


def test_a_card_without_labels_has_no_table():
    text = shown(
        card_table({"name": "llm", "aspects": ["harmful"], "n": 0, "weaknesses": ["Its error is unknown."]})
    )
    assert "not measured against people" in text
    assert "sensitivity" not in text


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_keeps_its_width_and_loses_nothing(width):
    for what in (rounds_table(results()), card_table(card())):
        text = shown(what, width)
        assert max(map(len, text.splitlines())) <= width
        assert "…" not in text


@pytest.mark.parametrize("text", [*HOSTILE, "[red]markup[/red] [link=file:///]x[/link]"])
def test_hostile_names_neither_control_the_terminal_nor_vanish(text):
    groups = {text: agreement(9), "other": agreement(9)}
    given = card(name=text, source=text, aspect=text, weaknesses=[text], by_category=groups, date=text)
    for what in (card_table(given), rounds_table(results(0, card=given, recipe=recipe(name=text)))):
        found = shown(what, 400)
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", found)
        assert text[:10].strip() in found or "\\" in found


def test_something_else_is_refused():
    with pytest.raises(UsageError):
        rounds_table({})
