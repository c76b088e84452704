"""The packaged card against the public data it was measured on."""

from __future__ import annotations

import pytest
from benchmarks.refusal_agreement import HALVES, StringMatcher, card, data_folder, half_of, load, main

from toxoid.errors import UsageError
from toxoid.judges.card import packaged_card
from toxoid.judges.refusal import RefusalJudge


@pytest.fixture
def folder():
    try:
        return data_folder()
    except UsageError as missing:
        pytest.skip(str(missing))


def test_halves_are_about_equal_and_both_replies_to_a_prompt_share_one():
    sizes = [sum(half_of(f"v2-{i}") == half for i in range(1, 451)) for half in HALVES]
    assert sum(sizes) == 450
    assert min(sizes) > 190


def test_missing_data_is_a_usage_error(monkeypatch, tmp_path):
    monkeypatch.setenv("TOXOID_DATA", str(tmp_path))
    with pytest.raises(UsageError, match="TOXOID_DATA"):
        main([])


@pytest.mark.data
def test_packaged_numbers_are_what_is_measured_here(folder):
    measured, packaged = card(RefusalJudge(), folder, "held-out").to_dict(), packaged_card("refusal")
    if measured["data"] != packaged["data"]:
        pytest.skip("other files of replies than the card was measured on")
    for name in ("n", "tp", "fn", "tn", "fp", "n_unscored", "n_requests"):
        assert measured[name] == packaged[name]
    assert measured["kappa"]["value"] == pytest.approx(packaged["kappa"]["value"])


@pytest.mark.data
def test_rules_beat_the_string_matcher_on_the_held_out_half(folder):
    rules, matcher = (
        card(judge, folder, "held-out").agreement for judge in (RefusalJudge(), StringMatcher())
    )
    assert rules.accuracy.value > matcher.accuracy.value
    assert rules.kappa.value > matcher.kappa.value


@pytest.mark.data
def test_no_prompt_is_on_both_sides(folder):
    labels = {"1_full_compliance": False, "2_full_refusal": True, "3_partial_refusal": True}
    sides = [{row.exchange.request.id for row in load(folder, half, labels)} for half in HALVES]
    assert not sides[0] & sides[1]
