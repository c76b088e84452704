"""The reliability diagram: in its place, honest about what is missing, strict about its input."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.synthetic_judge import bins
from toxoid.errors import UsageError
from toxoid.report.calibration import calibration_plot

shares = st.floats(0, 1)


def one(
    claimed: float | None = 0.5,
    observed: float | None = 0.5,
    n: int = 40,
    low: float = 0.0,
    high: float = 1.0,
) -> dict:
    return {"low": low, "high": high, "n": n, "claimed": claimed, "observed": observed}


def circle(**given: float) -> tuple[float, float]:
    found = ET.fromstring(calibration_plot([one(**given)])).find("circle")
    return float(found.attrib["cx"][:-1]), float(found.attrib["cy"])


@given(st.lists(st.builds(one, shares, shares, st.integers(0, 10**7)), max_size=12))
def test_it_is_xml_and_stays_within_its_width_and_height(given_bins):
    svg = ET.fromstring(calibration_plot(given_bins))
    for element in svg.iter():
        places = [element.attrib[key] for key in ("x", "x1", "x2", "cx") if key in element.attrib]
        assert all(0 <= float(place[:-1]) <= 100 for place in places)
        heights = [float(element.attrib[key]) for key in ("y", "y1", "y2", "cy") if key in element.attrib]
        assert all(0 <= height <= int(svg.attrib["height"]) for height in heights)


@given(shares)
def test_a_judge_that_means_what_it_says_lies_on_the_diagonal(share):
    svg = ET.fromstring(calibration_plot([one()]))
    (diagonal,) = [line.attrib for line in svg.iter("line") if "some" in line.attrib["class"]]
    (x1, x2), (y1, y2) = ([float(diagonal[key + end].rstrip("%")) for end in "12"] for key in "xy")
    x, y = circle(claimed=share, observed=share)
    assert y == pytest.approx(y1 + (y2 - y1) * (x - x1) / (x2 - x1), abs=0.2)


def test_up_is_more_observed_and_right_is_more_claimed():
    assert circle(observed=0.9)[1] < circle(observed=0.1)[1]
    assert circle(claimed=0.9)[0] > circle(claimed=0.1)[0]


def test_bins_have_their_counts_and_intervals_and_an_empty_one_has_neither():
    svg = ET.fromstring(calibration_plot(bins()))
    assert len(svg.findall("circle")) == len(svg.findall("rect")) == 9
    assert {"412", "97", "12k"} <= {text.text for text in svg.iter("text")}
    spans = [line.attrib for line in svg.iter("line") if "span" in line.attrib["class"]]
    assert all(float(span["y2"]) < float(span["y1"]) for span in spans)


def test_the_highest_bar_is_that_of_the_greatest_bin_and_the_smallest_can_be_seen():
    heights = [int(bar.attrib["height"]) for bar in ET.fromstring(calibration_plot(bins())).iter("rect")]
    assert heights.index(max(heights)) == 8
    assert min(heights) >= 1


def test_it_is_an_image_that_says_its_numbers():
    svg = ET.fromstring(calibration_plot([one(0.8, 0.5, 100)]))
    assert svg.attrib["role"] == "img"
    assert svg.find("desc").text == "claimed 80.0 %, observed 50.0 % (40.4 to 59.6), 100 labels"


def test_nothing_to_show_is_said():
    assert ET.fromstring(calibration_plot([])).find("desc").text == "no labels"


@pytest.mark.parametrize(
    "wrong",
    [
        one(claimed=None),
        one(observed=float("nan")),
        one(claimed=1.2),
        one(low=-0.1),
        {"n": 3},
        one() | {"n": "<script>"},
        one() | {"claimed": "0.5"},
    ],
)
def test_something_else_than_bins_is_refused(wrong):
    with pytest.raises(UsageError, match=r"a bin of the calibration .*`toxoid judge eval`"):
        calibration_plot([wrong])
