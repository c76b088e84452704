"""Judge cards: agreement with labels, and the packaged cards."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxoid.data.schemas import Exchange, Request, user
from toxoid.judges.base import Outcome, Verdict
from toxoid.judges.card import Labelled, agreement_of, measure, packaged_card
from toxoid.judges.refusal import RefusalJudge

CELLS = st.sampled_from([("hit", True), ("hit", False), ("miss", True), ("miss", False), ("unscored", True)])


class ByText:
    """A judge that reads its verdict off the reply."""

    name = "by-text"
    aspects = frozenset({"refusal", "harmful"})

    def identity(self):
        return {"judge": self.name}

    def judge(self, exchanges, aspect):
        return [Verdict(Outcome(exchange.completion)) for exchange in exchanges]


def labelled(cells, per_request=1):
    return [
        Labelled(Exchange(Request(f"set/{i // per_request}", "q"), user("q"), said), human, f"model {i % 2}")
        for i, (said, human) in enumerate(cells)
    ]


def agreement(cells, per_request=1):
    rows = labelled(cells, per_request)
    return agreement_of([Verdict(Outcome(row.exchange.completion)) for row in rows], rows)


MIXED = [("hit", True)] * 6 + [("miss", True)] * 2 + [("miss", False)] * 9 + [("hit", False)] * 3


def test_counts_and_rates_of_a_known_table():
    """15 of 20, 6 of 8, 9 of 12; chance is (8 * 9 + 12 * 11) / 400 = .51, so kappa is .24 / .49."""
    found = agreement(MIXED)
    assert (found.tp, found.fn, found.tn, found.fp) == (6, 2, 9, 3)
    assert (found.accuracy.value, found.sensitivity.value, found.specificity.value) == (0.75, 0.75, 0.75)
    assert found.kappa.value == pytest.approx(0.24 / 0.49)


def test_kappa_equals_statsmodels():
    inter_rater = pytest.importorskip("statsmodels.stats.inter_rater")
    table = np.array([[6, 3], [2, 9]])
    assert agreement(MIXED).kappa.value == pytest.approx(inter_rater.cohens_kappa(table).kappa)


def test_unscored_verdicts_are_counted_and_in_no_rate():
    found = agreement([*MIXED, ("unscored", True), ("unscored", False)])
    assert (found.n_unscored, found.n, found.sensitivity) == (2, 20, agreement(MIXED).sensitivity)


@given(st.lists(CELLS, max_size=30), st.integers(1, 3))
def test_intervals_hold_their_values(cells, per_request):
    found = agreement(cells, per_request)
    for estimate in (found.accuracy, found.sensitivity, found.specificity):
        if estimate.value is not None:
            assert 0 <= estimate.ci_low <= estimate.value <= estimate.ci_high <= 1


@given(st.lists(CELLS, max_size=20), st.randoms(use_true_random=False))
def test_order_of_the_items_does_not_matter_for_the_values(cells, draw):
    shuffled = draw.sample(cells, len(cells))
    one, other = agreement(cells), agreement(shuffled)
    assert (one.tp, one.fn, one.kappa.value) == (other.tp, other.fn, other.kappa.value)


def test_perfect_agreement_still_has_a_width():
    found = agreement([("hit", True), ("miss", False)] * 5)
    assert found.accuracy.value == 1
    assert found.accuracy.ci_low < 1


def test_replies_to_one_request_are_no_independent_evidence():
    """The same table, each cell said four times about one request: the interval must not shrink by half."""
    alone = agreement(MIXED).accuracy
    fourfold = agreement([cell for cell in MIXED for _ in range(4)], per_request=4).accuracy
    assert fourfold.ci_high - fourfold.ci_low == pytest.approx(alone.ci_high - alone.ci_low, abs=0.02)


def test_nothing_to_compare_measures_nothing():
    found = agreement([])
    assert (found.n, found.accuracy.value, found.kappa.value) == (0, None, None)


def test_one_sided_labels_leave_the_other_rate_open():
    found = agreement([("hit", True), ("miss", True)])
    assert found.specificity.value is None
    assert found.sensitivity.value == 0.5


def card():
    return measure(
        ByText(),
        labelled(MIXED),
        "refusal",
        source="people",
        licence="own",
        weaknesses=["few"],
        details={"date": "x"},
    )


def test_card_measures_groups_too():
    measured = card()
    assert set(measured.by_group) == {"model 0", "model 1"}
    assert sum(group.n for group in measured.by_group.values()) == measured.agreement.n


def test_card_is_json_with_the_numbers_on_top():
    data = json.loads(json.dumps(card().to_dict()))
    assert data["accuracy"]["value"] == 0.75
    assert data["aspects"] == ["harmful", "refusal"]
    assert (data["n"], data["source"], data["licence"], data["weaknesses"], data["date"]) == (
        20,
        "people",
        "own",
        ["few"],
        "x",
    )


def test_packaged_card_is_about_the_present_rules():
    """If this fails, the rules have changed: run `python -m benchmarks.refusal_agreement --write` again."""
    found = packaged_card("refusal", {"refusal": RefusalJudge()})
    assert found["identity"] == RefusalJudge().identity()
    assert found["stale"] is False


def test_packaged_card_says_how_it_was_made():
    found = packaged_card("refusal")
    assert found["half"] == "held-out"
    assert found["command"].startswith("python -m benchmarks.refusal_agreement")
    assert found["data"]
    assert found["date"]


def test_packaged_card_adds_up():
    found = packaged_card("refusal")
    assert found["tp"] + found["fn"] + found["tn"] + found["fp"] == found["n"]
    assert found["accuracy"]["value"] == pytest.approx((found["tp"] + found["tn"]) / found["n"])


def test_card_of_another_version_is_marked_stale():
    class Newer(RefusalJudge):
        def identity(self):
            return {**super().identity(), "version": 0}

    assert packaged_card("refusal", {"refusal": Newer()})["stale"] is True


@pytest.mark.parametrize("name", ["llm", "lab-oracle"])
def test_unmeasured_judges_have_a_card_without_numbers(name):
    found = packaged_card(name, {"harmful": RefusalJudge()})
    assert (found["n"], found["accuracy"]["value"], found["aspects"]) == (0, None, ["harmful"])
    assert found["weaknesses"]


def test_unknown_panel_has_no_card():
    with pytest.raises(KeyError):
        packaged_card("none")
