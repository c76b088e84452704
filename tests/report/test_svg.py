"""Plots: well-formed, within their axes, and saying in words what they show."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxoid.report.svg import (
    UNIT,
    Change,
    Difference,
    Estimate,
    Point,
    Series,
    changes,
    curves,
    difference_axis,
    estimates,
    forest,
)

fractions = st.one_of(st.none(), st.floats(-1, 1))
differences = st.builds(
    Difference,
    group=st.text(max_size=20),
    label=st.text(max_size=20),
    difference=fractions,
    low=fractions,
    high=fractions,
    state=st.sampled_from(["better", "worse", "unclear"]),
    note=st.text(max_size=20),
)


def positions(svg: str) -> list[float]:
    """Return all horizontal positions, in per cent."""
    found = []
    for element in ET.fromstring(svg).iter():
        found += [float(element.attrib[key][:-1]) for key in ("x1", "x2", "cx") if key in element.attrib]
        found += [float(value[:-1]) for value in [element.attrib.get("x", "0")] if value.endswith("%")]
    return found


@given(st.lists(differences, max_size=6))
def test_a_forest_plot_is_xml_and_stays_within_its_width(rows):
    assert all(0 <= position <= 100 for position in positions(forest(rows, ident="f", title="t")))


@given(st.lists(st.builds(Change, st.text(max_size=9), st.floats(0, 1), st.floats(0, 1), st.just("better"))))
def test_a_before_after_plot_stays_within_its_width(rows):
    assert all(0 <= position <= 100 for position in positions(changes(rows, ident="c", title="t")))


@given(st.lists(st.floats(-1, 1)))
def test_an_axis_holds_zero_all_values_and_few_ticks(values):
    axis = difference_axis(values)
    assert all(axis.low - 1e-9 <= value <= axis.high + 1e-9 for value in [0.0, *values])
    assert 2 <= len(axis.ticks) <= 9


@given(st.floats(0, 1), st.floats(0, 1))
def test_positions_keep_the_order_of_values(one, other):
    assert (UNIT.at(one) <= UNIT.at(other)) == (one <= other) or abs(one - other) < 1e-9


def test_a_point_is_drawn_at_its_value():
    svg = ET.fromstring(changes([Change("a", 0.25, 0.75, "better")], ident="c", title="t"))
    drawn = {c.attrib["class"].split()[0]: c.attrib["cx"] for c in svg.iter("circle")}
    assert drawn == {"ring": "26.50%", "disc": "73.50%"}


def test_a_plot_is_an_image_with_title_and_description():
    svg = ET.fromstring(forest([Difference("g", "l", 0.1, 0.0, 0.2, "better", "")], ident="f", title="T"))
    assert svg.attrib["role"] == "img"
    assert svg.find("title").text == "T"
    assert "g, l: +10.0 (0.0 to 20.0)" in svg.find("desc").text
    assert svg.attrib["aria-labelledby"] == svg.find("title").attrib["id"]


def test_a_missing_difference_is_said_and_not_drawn():
    svg = forest([Difference("g", "l", None, None, None, "unclear", "not measured")], ident="f", title="T")
    assert "not measured" in svg
    assert "<circle" not in svg


def curve(rate: float, name: str = "one", **changes: object) -> Series:
    return Series(name, (Point(0, rate, None, None), Point(0.5, rate, None, None)), **changes)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_labels_of_curves_never_overlap_and_keep_the_order_of_the_ends(rates):
    series = [curve(rate, f"n{index}", label=str(index)) for index, rate in enumerate(rates)]
    svg = ET.fromstring(curves(series, {0: "", 1: ""}, ident="c", title="t"))
    labels = [text for text in svg.iter("text") if text.attrib["class"].startswith("name")]
    heights = [int(text.attrib["y"]) for text in labels]
    assert all(below - above >= 16 for above, below in pairwise(heights))
    assert all(0 <= height <= int(svg.attrib["height"]) for height in heights)
    drawn = [rates[int(text.text.split()[-1])] for text in labels]
    assert drawn == sorted(rates, reverse=True)


def test_a_curve_is_known_by_its_mark_and_its_label_by_the_same_sign():
    svg = curves([curve(0.5, mark="diamond", label="Half")], {0: "", 1: ""}, ident="c", title="t")
    assert svg.count("<path") == 2
    assert "<circle" not in svg
    assert "◆ Half" in svg


def test_labels_take_room_from_the_curves_and_only_where_there_are_some():
    bare, labelled = (
        ET.fromstring(curves([curve(0.5, label=label)], {0: "", 0.5: ""}, ident="c", title="t"))
        for label in ("", "Half")
    )
    ends = [max(float(c.attrib["cx"][:-1]) for c in svg.iter("circle")) for svg in (bare, labelled)]
    assert ends == [97.0, 69.0]


@pytest.mark.parametrize("label", ["<script>x</script>", '"><svg onload=1>', "\u202ebidi", "\x00\ud800"])
def test_labels_are_escaped_and_made_visible(label):
    drawn = estimates([Estimate(label, 0.5, 0.4, 0.6)], ident="e", title=label)
    assert "<script" not in drawn
    assert "\u202e" not in drawn
    ET.fromstring(drawn.encode())
