"""Campaigns as scored items: rates, success with k questions, disk, transfer; and every attack on the lab model."""

from functools import cache

import pytest

from toxoid.attacks.adaptive import Adaptive
from toxoid.attacks.best_of_n import BestOfN
from toxoid.attacks.crescendo import Crescendo
from toxoid.attacks.direct import Direct
from toxoid.attacks.interactive import Answer, Ask, OneByOne
from toxoid.attacks.lab import LabAttacker
from toxoid.attacks.pair import Pair
from toxoid.audit.campaigns import (
    Attempt,
    Budget,
    Campaign,
    Spent,
    campaign_scored,
    success_at,
    transferred,
    tries,
)
from toxoid.audit.items import Drawing
from toxoid.audit.play import run_campaigns
from toxoid.audit.rates import Settings, comparison_rows, rate_rows
from toxoid.audit.run import run_audit
from toxoid.audit.scored_files import read_scored, write_scored
from toxoid.config.recipe import ModelSection
from toxoid.data.lab import lab_requests
from toxoid.data.schemas import Request, user
from toxoid.engines.base import Completion, Sampling
from toxoid.judges.base import Outcome, Verdict
from toxoid.judges.panel import make_panel
from toxoid.loop import models

HIT, MISS, UNSCORED = Outcome.HIT, Outcome.MISS, Outcome.UNSCORED
QUICK = Settings(resamples=100)


def campaign(*outcomes, id="set/1"):
    """A campaign whose attempts had these outcomes; ``None`` is a setup."""
    attempts = tuple(
        Attempt(
            Ask(user(f"attempt {number}"), f"v{number}", setup=outcome is None),
            Answer(
                Completion(f"reply {number}", "stop", 3, 2), None if outcome is None else Verdict(outcome)
            ),
        )
        for number, outcome in enumerate(outcomes, start=1)
    )
    landed = next((number for number, outcome in enumerate(outcomes, start=1) if outcome is HIT), None)
    made = Campaign(
        Request(id, "request"), "pair", attempts, landed, "exhausted", Spent(len(attempts), 3, 2), Spent(), 0
    )
    shown = Verdict(UNSCORED) if made.reported is None else made.reported.answer.verdict
    return Campaign(
        **{name: getattr(made, name) for name in made.__slots__} | {"verdicts": {"harmful": shown}}
    )


@pytest.mark.parametrize(
    ("outcomes", "reported"),
    [
        ((MISS, HIT, MISS), 2),
        ((MISS, MISS), 2),
        ((MISS, UNSCORED), 1),
        ((UNSCORED, UNSCORED), 2),
        ((MISS, None), 1),
        ((None, None), None),
        ((), None),
    ],
)
def test_the_attempt_that_stands_for_a_campaign(outcomes, reported):
    found = campaign(*outcomes).reported
    assert (found and found.ask.variant) == (reported and f"v{reported}")


def test_a_scored_campaign_is_its_reported_attempt_with_the_figures_beside_it():
    scored = campaign_scored(campaign(None, MISS, HIT), "jailbreak")
    assert scored.item.conversation == user("attempt 3")
    assert (scored.item.attack, scored.item.variant) == ("pair", "v3")
    assert scored.completions[0].text == "reply 3"
    assert scored.verdicts == {"harmful": (Verdict(HIT),)}
    figures = scored.item.campaign
    assert (figures["landed_at"], figures["attempts"], figures["queries"]) == (3, 3, 3)


def test_a_campaign_without_an_attempt_is_unscored():
    scored = [
        campaign_scored(campaign(None), "harmfulness"),
        campaign_scored(campaign(HIT, id="set/2"), "harmfulness"),
    ]
    row = rate_rows(scored, QUICK)[0]
    assert (row["rate"], row["unscored"], row["n_items"]) == (0.0, 1, 2)


def test_rates_and_paired_tests_read_campaigns_of_different_conversations():
    before = [campaign_scored(campaign(HIT, id=f"set/{n}"), "harmfulness") for n in range(9)]
    after = [campaign_scored(campaign(MISS, MISS, id=f"set/{n}"), "harmfulness") for n in range(9)]
    row = comparison_rows(before, after, QUICK, names=("base", "treated"))[0]
    assert (row["metric"], row["before"], row["after"], row["n"]) == ("harmless_rate", 0.0, 1.0, 9)
    assert row["p_value"] < 0.01


def test_scored_campaigns_survive_the_disk(tmp_path):
    scored = [
        campaign_scored(campaign(None, MISS, HIT), "jailbreak"),
        campaign_scored(campaign(), "jailbreak"),
    ]
    write_scored(tmp_path / "scored.jsonl", scored)
    assert read_scored(tmp_path / "scored.jsonl") == scored


def played(campaigns):
    return [campaign_scored(each, "campaigns") for each in campaigns]


def test_success_at_k_is_the_share_that_landed_within_k_questions():
    landed = [campaign(*[MISS] * misses, HIT, id=f"set/{misses}") for misses in (0, 1, 3)]
    campaigns = [*landed, campaign(MISS, MISS, id="set/none")]
    found = {entry.k: entry.rate.rate for entry in success_at(played(campaigns), [1, 2, 3, 4, 9], QUICK)}
    assert found == {1: 0.25, 2: 0.5, 3: 0.5, 4: 0.75, 9: 0.75}


def test_unscored_attempts_have_not_landed_and_campaigns_without_verdicts_are_unscored():
    campaigns = [campaign(UNSCORED, MISS, id="a"), campaign(UNSCORED, id="b"), campaign(None, id="c")]
    (entry,) = success_at(played(campaigns), [5], QUICK)
    assert (entry.rate.rate, entry.rate.n_unscored) == (0.0, 2)


def test_intervals_are_clustered_by_request():
    once = [campaign(HIT if n % 2 else MISS, id=f"set/{n}") for n in range(20)]
    (one,), (five,) = success_at(played(once), [1], QUICK), success_at(played(once * 5), [1], QUICK)
    assert (one.rate.ci_low, one.rate.ci_high) == (five.rate.ci_low, five.rate.ci_high)


@pytest.mark.parametrize(
    ("queries", "expected"),
    [(0, []), (1, [1]), (2, [1, 2]), (10, [1, 2, 5, 10]), (60, [1, 2, 5, 10, 20, 50, 60])],
)
def test_tries_grow_to_the_budget(queries, expected):
    assert tries(queries) == expected


def test_what_is_transferred_is_the_reported_question_as_a_plain_item():
    found = [
        transferred(campaign_scored(each, "campaigns").item) for each in (campaign(MISS, HIT), campaign(None))
    ]
    assert [item.conversation for item in found] == [user("attempt 2"), user("request")]
    assert {(item.task, item.attack, item.campaign) for item in found} == {("transfer", "pair", None)}


@cache
def lab():
    return models.local_engine(models.load(ModelSection(source="lab-base")))


def on_the_lab(attack):
    """Play on six of the lab's requests, greedily, with at most twelve questions each."""
    return run_campaigns(
        attack,
        lab_requests("lab-harmful").requests[::23][:6],
        task="jailbreak",
        target=lab(),
        judges=make_panel("lab-oracle"),
        attacker=LabAttacker(),
        budget=Budget(12),
        sampling=Sampling(0.0, 1.0, 80),
        seed=0,
    )


@cache
def plainly():
    return on_the_lab(OneByOne(Direct()))


def landed(campaigns):
    return sum(campaign.landed_at is not None for campaign in campaigns)


@pytest.mark.parametrize(
    "attack",
    [BestOfN(), Crescendo(), Crescendo(attacker=True), Pair(), Adaptive(), Adaptive(attacker=True)],
    ids=lambda attack: f"{attack.name}-{attack.needs_attacker}",
)
def test_every_attack_lands_on_the_lab_model_at_least_as_often_as_the_plain_request(attack):
    assert landed(on_the_lab(attack)) >= max(1, landed(plainly()))


def test_a_transferred_attack_lands_again_on_the_same_greedy_model():
    found = on_the_lab(Pair())
    items = [transferred(campaign_scored(each, "jailbreak").item) for each in found]
    drawings = {"transfer": Drawing(Sampling(0.0, 1.0, 80), 1)}
    again = run_audit(lab(), make_panel("lab-oracle"), items, drawings=drawings, seed=0)
    hits = [entry.verdicts["harmful"][0].outcome is HIT for entry in again]
    assert hits == [each.landed_at is not None for each in found]
