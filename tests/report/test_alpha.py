"""The figure over alpha: drawn for systems that differ in alpha only, with its numbers beside it."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from tests.report.synthetic import HOSTILE, results, with_alphas
from toxoid.report.alpha import sweeps
from toxoid.report.html import MAX_BYTES, render_html

NAMES = ["valid-and-safe", "harmless", "helpful", "over-refusal"]


def whole(*alphas, **decoding):
    return with_alphas(results(names=("base", "mistake-analysis")), *alphas, **decoding)


def alphas_of(sweep):
    return [alpha for alpha, _, _ in sweep.rows]


def only(found):
    assert len(found) == 1
    return found[0]


def test_results_without_contrast_have_no_figure():
    assert sweeps(results()) == []
    assert 'id="alpha"' not in render_html(results())


def test_three_alphas_make_a_figure_and_two_do_not():
    assert alphas_of(only(sweeps(whole(0.8, 0.2, 0.4)))) == ["0.2", "0.4", "0.8"]
    assert sweeps(whole(0.2, 0.4)) == []


def test_the_positive_context_alone_stands_at_alpha_zero():
    assert alphas_of(only(sweeps(whole(0.2, None, 0.4)))) == ["0", "0.2", "0.4"]


def test_what_has_no_effect_without_a_negative_context_keeps_nothing_apart():
    some = whole(0.2, 0.4, rescale=False, first=2)
    assert alphas_of(only(sweeps(with_alphas(some, None)))) == ["0", "0.2", "0.4"]


@pytest.mark.parametrize("other", [{"plausibility": 0.0}, {"positive": "safe"}, {"shield": "another"}])
def test_another_positive_context_is_not_alpha_zero_of_this_one(other):
    assert sweeps(with_alphas(whole(0.2, 0.4), None, **other)) == []


def test_a_contrast_with_an_alpha_of_zero_keeps_its_own():
    assert alphas_of(only(sweeps(whole(None, 0.0, 0.2, 0.4)))) == ["0", "0.2", "0.4"]


def test_other_decodings_have_figures_of_their_own():
    found = sweeps(with_alphas(whole(0.0, 0.2, 0.4), 0.0, 0.3, 0.5, negative="opposite", plausibility=0.0))
    assert [one.title for one in found] == [
        "Safe soft prompt against adversarial soft prompt",
        "Safe soft prompt against opposite prompt",
    ]
    assert [one.details for one in found] == [
        "contrastive-decoding, rescaled, plausibility 0.1",
        "contrastive-decoding, rescaled, no mask",
    ]


def test_another_method_is_no_part_of_it():
    some = whole(0.2, 0.4, 0.6)
    some["systems"][-1]["description"] = "safety-tuning"
    assert sweeps(some) == []


def test_two_systems_of_one_alpha_differ_in_something_else():
    assert sweeps(whole(0.2, 0.4, 0.4, 0.6)) == []


def test_every_rate_has_a_curve_with_a_mark_of_its_own():
    drawing = ET.fromstring(only(sweeps(whole(None, 0.2, 0.4))).drawing)
    marks = [one for one in drawing.iter() if one.attrib.get("class", "").startswith("point")]
    assert [one.attrib["class"].split()[1] for one in marks] == [name for name in NAMES for _ in range(3)]
    assert len({one.attrib.get("d") for one in marks}) == len(NAMES)


def test_a_rate_that_was_not_asked_has_no_curve():
    some = whole(None, 0.2, 0.4)
    for system in some["systems"]:
        system["rates"] = [row for row in system["rates"] if row["task"] == "helpfulness"]
    sweep = only(sweeps(some))
    assert (sweep.columns, sweep.caption) == (("Helpful",), "")
    for system in some["systems"]:
        system["rates"] = []
    assert sweeps(some) == []


def test_the_caption_names_the_safest_alpha_and_what_it_costs():
    some = whole(None, 0.2, 0.4)
    wanted = {"valid_safe_rate": 0.97, "harmless_rate": 0.99, "helpful_rate": 0.9, "over_refusal_rate": 0.1}
    for row in some["systems"][-2]["rates"]:
        if row["category"] == "all":
            row["rate"] = wanted.get(row["metric"], row["rate"])
    assert only(sweeps(some)).caption == (
        "Valid-and-safe is highest at alpha 0.2, with 97.0 %; there: harmless 99.0 %, helpful 90.0 %, "
        "over-refusal 10.0 %."
    )


def test_an_unscored_rate_is_a_dash_and_no_point():
    some = whole(None, 0.2, 0.4)
    for row in some["systems"][-1]["rates"]:
        row["rate"] = row["ci_low"] = row["ci_high"] = None
    sweep = only(sweeps(some))
    assert {cell.rate for cell in sweep.rows[-1][2]} == {"–"}
    assert sweep.drawing.count('class="point') == 2 * len(NAMES)


def test_the_page_has_the_figure_its_numbers_and_stays_below_its_limit():
    page = render_html(whole(None, *(step / 10 for step in range(1, 10))))
    assert 'id="alpha"' in page
    assert "ACD at 0.7" in page
    assert len(page.encode()) < MAX_BYTES


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_shown_not_obeyed(text):
    some = whole(None, 0.2, 0.4, positive=text)
    for system in some["systems"][-3:]:
        system |= {"label": text, "description": text}
    page = render_html(some)
    assert 'id="alpha"' in page
    assert text not in page
