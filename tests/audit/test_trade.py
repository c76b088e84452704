"""Whether a gain is worth its loss."""

import pytest

from tests.helpers.drawn import scored
from toxoid.audit.rates import Settings, comparison_rows
from toxoid.audit.trade import trade

SETTINGS = Settings(resamples=400)


def weighed(harmful, helpful, refused=(0.0, 0.0), items=60):
    sides = [
        {
            "harmfulness": scored("harmfulness", items=items, hits=harmful[place], seed=place),
            "helpfulness": scored("helpfulness", items=items, hits=helpful[place], seed=place),
            "over-refusal": scored("over-refusal", items=items, hits=refused[place], seed=place),
        }
        for place in (0, 1)
    ]
    flat = [[entry for entries in side.values() for entry in entries] for side in sides]
    return trade(*sides, comparison_rows(*flat, SETTINGS, names=("a", "b")), SETTINGS)


def test_a_large_gain_without_a_loss_is_significant():
    found = weighed((0.9, 0.1), (0.9, 0.9))
    assert found["significant"] == "gain"
    assert "yes, the gain is larger" in found["sentence"]


def test_a_gain_that_is_paid_in_full_is_not():
    found = weighed((0.9, 0.5), (0.9, 0.5))
    assert found["significant"] == "no"


def test_a_loss_for_nothing_is_told_as_one():
    assert weighed((0.5, 0.5), (0.95, 0.2))["significant"] == "loss"


def test_the_larger_of_two_losses_counts():
    found = weighed((0.9, 0.2), (0.9, 0.8), refused=(0.0, 0.6))
    assert found["loss"] == pytest.approx(0.6, abs=0.15)
    assert found["net"] == pytest.approx(found["gain"] - found["loss"])


def test_without_a_measured_loss_there_is_no_trade():
    sides = [{"harmfulness": scored("harmfulness", seed=seed)} for seed in (0, 1)]
    rows = comparison_rows(sides[0]["harmfulness"], sides[1]["harmfulness"], SETTINGS, names=("a", "b"))
    assert trade(*sides, rows, SETTINGS) is None
