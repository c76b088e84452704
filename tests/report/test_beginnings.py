"""The section on course-correction: there with curves only, equal to its numbers, and honest about short texts."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.synthetic import curve, results, with_curves
from toxoid.report.beginnings import beginnings
from toxoid.report.html import MAX_BYTES, render_html
from toxoid.report.svg import Point, Series, curves

TASKS = ("course-correction", "false-correction")
shares = st.one_of(st.none(), st.just(float("nan")), st.floats(-1, 2))
points = st.builds(Point, st.integers(1, 80), shares, shares, shares, shares)


@pytest.fixture
def compared():
    return with_curves(results(), *TASKS)


@pytest.fixture
def audited():
    return with_curves(results(names=("base",)), *TASKS)


def lines_of(section):
    return {(one.task, one.name): one for _, measures in section.tasks for one in measures}


def test_results_without_curves_have_no_section():
    assert beginnings(results()) is None
    assert 'id="beginnings"' not in render_html(results())


def test_the_page_has_the_section_and_stays_below_its_limit(compared):
    page = render_html(compared)
    assert 'id="beginnings"' in page
    assert len(page.encode()) < MAX_BYTES


def test_every_task_has_a_curve_of_both_systems(compared):
    section = beginnings(compared)
    assert section.names == ("base", "mistake-analysis")
    assert len(section.plots) == 2
    for plot in section.plots:
        drawn = [element for element in ET.fromstring(plot.drawing).iter() if element.tag == "circle"]
        assert [element.attrib["class"] for element in drawn] == ["point before"] * 8 + ["point after"] * 8


def test_an_audit_has_one_curve_and_no_difference(audited):
    section = beginnings(audited)
    assert section.names == ("base",)
    assert "before and" not in section.sentence
    assert all(one.difference == "" for one in lines_of(section).values())
    assert 'id="beginnings"' in render_html(audited)


def test_the_sentence_gives_both_kinds_of_beginning(compared):
    assert beginnings(compared).sentence == (
        "Begun harmfully, {} of the replies before and {} after turn away; "
        "begun well, {} before and {} after do so without cause."
    ).format(*_overall(compared, "corr_mean"), *_overall(compared, "false_correction_rate"))


def _overall(whole, metric):
    from toxoid.report.format import percent

    return [
        percent(next(r["rate"] for r in system["rates"] if r["metric"] == metric and r["category"] == "all"))
        for system in whole["systems"][:2]
    ]


def test_the_change_of_words_has_its_interval(compared):
    found = lines_of(beginnings(compared))["Course-correction", "Words before the turn, all replies"]
    assert (found.before, found.after, found.difference, found.interval) == (
        *("20.0", "8.0", "−12.0"),
        "−14.0 to −10.5",
    )


def test_short_texts_are_told_under_the_plot(compared):
    assert "At k = 80, 23.0 % of the texts are shorter" in beginnings(compared).plots[0].note
    compared["systems"][1]["curves"] = [curve(task, side=1, whole=0) for task in TASKS]
    assert beginnings(compared).plots[0].note == "Every text reaches every k."


def test_a_judge_without_positions_leaves_dashes_out(audited):
    for found in audited["systems"][0]["curves"]:
        found |= {"mean_position": None, "mean_words_before": None}
    assert not any("Words" in name for _, name in lines_of(beginnings(audited)))


@given(st.lists(points, min_size=1, max_size=6), st.lists(points, max_size=6))
def test_curves_are_xml_and_stay_on_their_drawing(before, after):
    series = [Series("before", tuple(before)), Series("after", tuple(after))]
    below = {point.x: "n" for point in (*before, *after)}
    drawing = ET.fromstring(curves(series, below, ident="c", title="t"))
    height = float(drawing.attrib["height"])
    for element in drawing.iter():
        places = [element.attrib[key] for key in ("x1", "x2", "cx") if key in element.attrib]
        assert all(0 <= float(place[:-1]) <= 100 for place in places)
        heights = [float(element.attrib[key]) for key in ("y1", "y2", "cy") if key in element.attrib]
        assert all(0 <= place <= height for place in heights)
