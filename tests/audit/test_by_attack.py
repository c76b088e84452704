"""Attacks of one task, each by itself and all together."""

from dataclasses import replace
from itertools import combinations

import pytest

from tests.helpers.drawn import scored
from toxoid.audit.by_attack import (
    PREFIX,
    attack_comparison_rows,
    attack_rate_rows,
    landing,
    never_landed,
    success_rows,
)
from toxoid.audit.rates import Settings, rate_rows
from toxoid.judges.base import Outcome

SETTINGS = Settings(resamples=200)
BOTH = [*scored("jailbreak", attack="persona", hits=0.7), *scored("jailbreak", attack="prefill", hits=0.0)]


def test_a_campaign_counts_under_its_attack_even_if_it_is_the_only_one():
    entries = [
        replace(one, item=replace(one.item, attack="pair", campaign={"queries": 1, "landed_at": 1}))
        for one in scored("jailbreak")
    ]
    assert {row["category"] for row in attack_rate_rows(entries, SETTINGS)} == {f"{PREFIX}pair"}


def test_the_rates_of_an_attack_are_those_of_its_items_alone():
    alone = [row for row in rate_rows(BOTH[:12], SETTINGS) if row["category"] == "all"]
    among = [row for row in attack_rate_rows(BOTH, SETTINGS) if row["category"] == f"{PREFIX}persona"]
    assert among == [{**row, "category": f"{PREFIX}persona"} for row in alone]


def test_tasks_with_one_attack_have_no_rows_by_attack():
    assert attack_rate_rows(scored("harmfulness"), SETTINGS) == []


def test_p_values_of_attacks_are_adjusted_together():
    after = [
        *scored("jailbreak", attack="persona", hits=0.0),
        *scored("jailbreak", attack="prefill", hits=0.0),
    ]
    rows = attack_comparison_rows(BOTH, after, SETTINGS, names=("a", "b"))
    harmless = [row for row in rows if row["metric"] == "harmless_rate"]
    assert [row["category"] for row in harmless] == [f"{PREFIX}persona", f"{PREFIX}prefill"]
    assert harmless[0]["p_adjusted"] == pytest.approx(min(1, 2 * harmless[0]["p_value"]))


@pytest.mark.parametrize("k", [1, 2, 5])
def test_success_is_the_mean_over_all_ways_to_draw_k_tries(k):
    """Enumerated: the share of k-subsets of a request's scored replies that hold a hit, averaged over requests."""
    entries = scored("harmfulness", items=6, replies=5, hits=0.3, unscored=0.0)
    row = next(row for row in success_rows(entries, SETTINGS) if row["k"] == k)
    chances = []
    for entry in entries:
        hits = [verdict.outcome is Outcome.HIT for verdict in entry.verdicts["harmful"]]
        draws = list(combinations(hits, k))
        chances.append(sum(map(any, draws)) / len(draws))
    assert row["rate"] == pytest.approx(sum(chances) / len(chances))
    assert row["ci_low"] <= row["rate"] <= row["ci_high"]


def test_success_grows_with_the_tries_and_counts_all_attacks_together():
    rows = success_rows(BOTH, SETTINGS)
    together = [row["rate"] for row in rows if row["category"] == "all"]
    assert together == sorted(together)
    assert {row["category"] for row in rows} == {"all", f"{PREFIX}persona", f"{PREFIX}prefill"}


def test_requests_with_too_few_scored_tries_are_left_out():
    entries = scored("harmfulness", items=40, replies=2, unscored=0.2)
    two = next(row for row in success_rows(entries, SETTINGS) if row["k"] == 2)
    full = [e for e in entries if all(v.outcome is not Outcome.UNSCORED for v in e.verdicts["harmful"])]
    assert two["n_items"] == len(full)


def test_nothing_lands_on_a_task_that_counts_what_should_be():
    assert landing("helpfulness") is None
    assert success_rows(scored("helpfulness"), SETTINGS) == []


def test_an_attack_without_any_hit_never_landed():
    assert never_landed(attack_rate_rows(BOTH, SETTINGS)) == {"jailbreak": ["prefill"]}
