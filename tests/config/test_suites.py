"""The suites: on the lab, and on requests of one's own."""

import pytest

from toxoid.cli.options import resolve
from toxoid.config.recipe import with_overrides
from toxoid.config.suites import SUITES, load_suite, on_own_sets
from toxoid.errors import UsageError


def own(name, **given):
    suite = load_suite(name)
    return on_own_sets(suite, resolve(suite, None, given), tasks_given=bool(given.get("tasks")))


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_asks_for_harm_refusals_help_hijacking_and_capability(name):
    suite = load_suite(name)
    assert {"harmfulness", "jailbreak", "over-refusal", "helpfulness", "hijacking"} <= set(suite.audit.tasks)
    assert suite.capability.texts == "auto"
    assert not suite.arms


def test_suites_grow():
    attacks = [set(load_suite(name).audit.attacks["jailbreak"]) for name in SUITES]
    assert attacks[0] < attacks[1] < attacks[2]


@pytest.mark.parametrize("name", SUITES)
def test_requests_of_ones_own_are_attacked_and_injected(name):
    found = own(name, requests="mine.csv", benign="fine.csv")
    assert "direct" not in found.audit.attacks["jailbreak"]
    assert found.audit.attacks["hijacking"] == ("goal_hijacking", "suffix_injection")
    assert "over-refusal" not in found.audit.tasks
    assert set(found.audit.tasks) <= set(load_suite(name).audit.tasks)


def test_attacks_and_tasks_that_were_given_stay():
    found = own(
        "quick",
        requests="mine.csv",
        tasks=("jailbreak", "prefill"),
        overrides=["audit.attacks.jailbreak=persona"],
    )
    assert found.audit.tasks == ("jailbreak", "prefill")
    assert found.audit.attacks == {"jailbreak": ("persona",)}


def test_one_attack_and_a_list_of_them_read_alike():
    suite = load_suite("quick")
    one = with_overrides(suite, {"audit.attacks": {"jailbreak": "persona"}})
    assert one == with_overrides(suite, {"audit.attacks": {"jailbreak": ["persona"]}})


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("audit.attacks", {"jailbreak": ["persona", "persona"]}, "twice"),
        ("audit.attacks", {"jailbreak": []}, "jailbreak"),
        ("budget.price_in", 1.0, "price_out"),
        ("budget.requests", 0, "budget.requests"),
        ("capability.lm_eval", {"nobody": "x.json"}, "nobody"),
        ("capability.window", 3, "window"),
    ],
)
def test_what_cannot_work_is_refused_by_its_place(place, value, told):
    with pytest.raises(UsageError, match=told):
        with_overrides(load_suite("quick"), {place: value})
