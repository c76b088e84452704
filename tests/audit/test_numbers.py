"""How numbers are written."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxoid.audit.numbers import DASH, interval, p_value, percent, points

FRACTIONS = st.floats(-1, 1, allow_nan=False)


def read(text: str) -> float:
    return float(text.replace("−", "-").removesuffix(" %"))


@pytest.mark.parametrize(
    ("rate", "text"),
    [(0.314, "31.4 %"), (0.0, "0.0 %"), (1.0, "100.0 %"), (0.9997, "99.97 %"), (0.0002, "0.02 %")],
)
def test_percent_never_rounds_onto_none_or_all(rate, text):
    assert percent(rate) == text


@pytest.mark.parametrize(
    ("difference", "text"),
    [(0.314, "+31.4"), (-0.02, "−2.0"), (0.0, "0.0"), (-0.0, "0.0"), (-0.0004, "−0.04"), (1e-17, "0.0")],
)
def test_points_are_signed_with_a_real_minus(difference, text):
    assert points(difference) == text


@given(FRACTIONS)
def test_a_written_difference_is_the_difference_to_half_a_tenth_of_a_point(difference):
    assert read(points(difference)) == pytest.approx(difference * 100, abs=0.0501)


@given(FRACTIONS.filter(lambda x: abs(x) > 1e-6))
def test_a_written_difference_keeps_its_sign(difference):
    assert math.copysign(1, read(points(difference))) == math.copysign(1, difference)


def test_intervals_are_written_with_to_because_a_dash_reads_as_a_minus():
    assert interval(-0.012, 0.02) == "−1.2 to 2.0"


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.0004, "< .001"), (0.0, "< .001"), (0.034, ".034"), (1.0, "1"), (0.9999, "1"), (0.05, ".050"),
        (0.04996, ".04996"), (0.0502, ".0502"), (0.001, ".001"),
    ],
)  # fmt: skip
def test_p_values(p, text):
    assert p_value(p) == text


@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
def test_what_is_missing_is_a_dash(missing):
    assert {percent(missing), points(missing), p_value(missing), interval(missing, 0.1)} == {DASH}
