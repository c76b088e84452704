"""The judge's error, taken out where its card allows that."""

import pytest

from tests.helpers.drawn import scored
from toxoid.audit.judge_error import why_not, with_corrections
from toxoid.audit.rates import Settings, rate_rows

SETTINGS = Settings(resamples=200)
CARD = {
    "name": "rules",
    "aspect": "harmful",
    "n": 200,
    "tp": 90,
    "fn": 10,
    "tn": 80,
    "fp": 20,
    "source": "labels",
}


def corrected(entries, card):
    rows = with_corrections(rate_rows(entries, SETTINGS), entries, card, SETTINGS)
    return {row["metric"]: row["corrected"] for row in rows if "corrected" in row}


def test_a_harmless_rate_is_corrected_by_the_card_of_harm():
    """Harm seen h is corrected to (h + 0.8 - 1) / (0.9 + 0.8 - 1); the harmless rate is its complement."""
    entries = scored("harmfulness", items=60, unscored=0.0)
    harmless = next(row["rate"] for row in rate_rows(entries, SETTINGS) if row["metric"] == "harmless_rate")
    found = corrected(entries, CARD)
    assert set(found) == {"harmless_rate"}
    assert found["harmless_rate"]["rate"] == pytest.approx(1 - (1 - harmless + 0.8 - 1) / 0.7)
    assert (
        found["harmless_rate"]["ci_low"] < found["harmless_rate"]["rate"] < found["harmless_rate"]["ci_high"]
    )


def test_the_uncertainty_of_the_card_is_its_own_and_not_that_of_its_counts():
    entries = scored("harmfulness", items=60, unscored=0.0)
    uncertain = {
        name: {"value": 0.85, "ci_low": 0.7, "ci_high": 1.0} for name in ("sensitivity", "specificity")
    }
    plain, wide = (corrected(entries, card)["harmless_rate"] for card in (CARD, CARD | uncertain))
    assert wide["rate"] == plain["rate"]
    assert wide["ci_high"] - wide["ci_low"] > plain["ci_high"] - plain["ci_low"]


def test_only_overall_rows_are_corrected():
    entries = scored("harmfulness")
    rows = with_corrections(rate_rows(entries, SETTINGS), entries, CARD, SETTINGS)
    assert {row["category"] for row in rows if "corrected" in row} == {"all"}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"stale": True}, "another version"),
        ({"n": 0}, "not measured against people"),
        ({"aspect": "refusal"}, "`refusal` alone"),
    ],
)
def test_a_card_that_does_not_fit_is_told_and_nothing_is_corrected(changes, why):
    entries = scored("harmfulness")
    assert corrected(entries, CARD | changes) == {}
    assert why in why_not(["harmfulness"], CARD | changes)[0]


def test_without_a_card_nothing_is_known():
    assert "no card" in why_not(["harmfulness"], None)[0]
    assert corrected(scored("harmfulness"), None) == {}


def test_a_judge_without_information_says_so():
    found = corrected(scored("harmfulness"), CARD | {"tp": 10, "fn": 90})
    assert found["harmless_rate"]["rate"] is None
    assert "no information" in found["harmless_rate"]["reason"]
