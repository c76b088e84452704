"""Verdicts to rates: complements, unscored replies, clusters, paired rows, flips."""

from dataclasses import replace

import pytest

from tests.helpers.scripted_engine import ScriptedEngine
from toxoid.attacks.registry import make_attack
from toxoid.audit.items import Drawing, Item, build_items, items_fingerprint
from toxoid.audit.rates import Settings, comparison_rows, rate_rows
from toxoid.audit.run import Scored, run_audit
from toxoid.audit.scored_files import read_scored, write_scored
from toxoid.audit.slim import changed
from toxoid.audit.tasks import TASKS, Metric, task_spec
from toxoid.data.schemas import Request, user
from toxoid.engines.base import Completion, Sampling
from toxoid.errors import UsageError
from toxoid.judges.base import Outcome, Verdict

HIT, MISS, UNSCORED = Outcome.HIT, Outcome.MISS, Outcome.UNSCORED
FAST = Settings(resamples=200)


def entry(name, outcomes, task="harmfulness", category="a"):
    request = Request(f"set/{name}", f"prompt {name}", category=category)
    verdicts = tuple(Verdict(outcome, reason=outcome.value) for outcome in outcomes)
    done = tuple(Completion(f"reply {i}", "stop", 1, 1) for i in range(len(outcomes)))
    return Scored(Item(task, request, user(request.prompt)), done, {"harmful": verdicts})


def row_of(rows, metric="harmless_rate", category="all"):
    return next(row for row in rows if (row["metric"], row["category"]) == (metric, category))


def test_harmless_is_the_complement_of_harm():
    rows = rate_rows([entry("1", [HIT]), entry("2", [MISS]), entry("3", [MISS]), entry("4", [MISS])], FAST)
    assert row_of(rows)["rate"] == 0.75


def test_unscored_replies_are_neither_and_bound_the_rate():
    row = row_of(rate_rows([entry("1", [HIT]), entry("2", [MISS]), entry("3", [UNSCORED])], FAST))
    assert row["rate"] == 0.5
    assert row["unscored"] == 1
    assert (row["low_bound"], row["high_bound"]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))


def test_the_unit_is_the_request_not_the_reply():
    row = row_of(rate_rows([entry("1", [HIT, HIT]), entry("2", [MISS, MISS])], FAST))
    assert (row["n_items"], row["n_replies"]) == (2, 4)


def test_a_metric_without_judge_is_not_reported():
    rows = rate_rows([entry("1", [HIT])], FAST)
    assert {row["metric"] for row in rows} == {"harmless_rate"}


def replies(*pairs):
    """Return a request whose replies have these verdicts on harm and on validity."""
    found = entry("1", [harmful for harmful, _ in pairs])
    valid = tuple(Verdict(outcome) for _, outcome in pairs)
    return replace(found, verdicts={**found.verdicts, "valid": valid})


@pytest.mark.parametrize(
    ("harmful", "valid", "counted"),
    [
        (MISS, HIT, 1.0),
        (MISS, MISS, 0.0),
        (HIT, HIT, 0.0),
        (HIT, UNSCORED, 0.0),
        (UNSCORED, MISS, 0.0),
        (MISS, UNSCORED, None),
        (UNSCORED, HIT, None),
        (UNSCORED, UNSCORED, None),
    ],
)
def test_valid_and_safe_is_harmless_and_valid_and_open_only_where_nothing_decides(harmful, valid, counted):
    row = row_of(rate_rows([replies((harmful, valid))], FAST), "valid_safe_rate")
    assert (row["rate"], row["unscored"]) == (counted, int(counted is None))


@pytest.mark.parametrize("task", ["harmfulness", "jailbreak"])
def test_valid_and_safe_never_exceeds_either_of_its_parts(task):
    pairs = [(harmful, valid) for harmful in (HIT, MISS) for valid in (HIT, MISS)]
    found = replies(*pairs, (MISS, HIT))
    rows = rate_rows([replace(found, item=replace(found.item, task=task))], FAST)
    rates = {
        name: row_of(rows, name)["rate"] for name in ("valid_safe_rate", "harmless_rate", "validity_rate")
    }
    assert rates == {"valid_safe_rate": 0.4, "harmless_rate": 0.6, "validity_rate": 0.6}


def test_valid_and_safe_is_compared_like_any_rate():
    rows = comparison_rows([replies((MISS, MISS))], [replies((MISS, HIT))], FAST, names=("a", "b"))
    assert (row_of(rows, "valid_safe_rate")["difference"], row_of(rows)["difference"]) == (1.0, 0.0)


def test_harmlessness_stays_the_headline_and_makes_the_flips():
    assert (
        task_spec("harmfulness").metrics[0].name == task_spec("jailbreak").metrics[0].name == "harmless_rate"
    )
    assert list(changed(replies((MISS, MISS)), replies((MISS, HIT)))) == []


def test_overall_rows_come_first_and_categories_follow():
    before = [entry("1", [HIT], category="a"), entry("2", [HIT], category="b")]
    after = [entry("1", [MISS], category="a"), entry("2", [HIT], category="b")]
    rows = comparison_rows(before, after, FAST, names=("base", "new"))
    assert [row["category"] for row in rows] == ["all", "a", "b"]
    assert row_of(rows)["difference"] == 0.5
    assert (row_of(rows)["before_name"], row_of(rows)["after_name"]) == ("base", "new")


def test_only_items_of_both_sides_are_compared():
    before = [entry("1", [HIT]), entry("2", [HIT])]
    assert row_of(comparison_rows(before, [entry("2", [MISS])], FAST, names=("a", "b")))["n"] == 1


def test_category_p_values_are_adjusted_together():
    before = [entry(f"{c}{i}", [HIT], category=c) for c in "abc" for i in range(8)]
    after = [entry(f"{c}{i}", [MISS], category=c) for c in "abc" for i in range(8)]
    rows = comparison_rows(before, after, FAST, names=("x", "y"))
    for row in rows:
        factor = 1 if row["category"] == "all" else 3
        assert row["p_adjusted"] == pytest.approx(factor * row["p_value"])


def test_flips_know_their_direction():
    (flip,) = changed(entry("1", [HIT, HIT]), entry("1", [MISS, HIT]))
    (back,) = changed(entry("1", [MISS]), entry("1", [HIT]))
    assert (flip["item"], flip["direction"], back["direction"]) == ("set/1", "better", "worse")


def test_an_unscored_side_is_no_flip():
    assert list(changed(entry("1", [HIT]), entry("1", [UNSCORED]))) == []


def test_scored_items_survive_the_disk(tmp_path):
    scored = [entry("1", [HIT, UNSCORED]), entry("2", [MISS])]
    write_scored(tmp_path / "s.jsonl", scored)
    assert read_scored(tmp_path / "s.jsonl") == scored


def test_a_damaged_file_of_scored_items_names_its_line(tmp_path):
    write_scored(tmp_path / "s.jsonl", [entry("1", [HIT])])
    with (tmp_path / "s.jsonl").open("a") as file:
        file.write("{}\n")
    with pytest.raises(UsageError, match="line 2"):
        read_scored(tmp_path / "s.jsonl")


def test_items_are_the_same_in_every_run_and_differ_by_seed():
    requests = [Request(f"s/{i}", f"How do I do thing {i}?") for i in range(20)]
    attack = make_attack("role_play")
    first, again = (build_items("jailbreak", requests, attack, seed=1) for _ in range(2))
    other = build_items("jailbreak", requests, attack, seed=2)
    assert items_fingerprint(first) == items_fingerprint(again) != items_fingerprint(other)


def test_the_seed_of_an_item_depends_on_its_content_only():
    requests = [Request(f"s/{i}", f"How do I do thing {i}?") for i in range(3)]
    items = build_items("harmfulness", requests, make_attack("direct"), seed=0)
    alone = build_items("harmfulness", requests[1:2], make_attack("direct"), seed=0)
    drawing = Drawing(Sampling(), 2)
    assert items[1].generation(drawing, 0) == alone[0].generation(drawing, 0)


class CountingJudge:
    name = "counting"
    aspects = frozenset({"harmful"})

    def __init__(self):
        self.calls = 0

    def identity(self):
        return {"judge": "counting"}

    def judge(self, exchanges, aspect):
        self.calls += 1
        return [Verdict(HIT if "yes" in exchange.completion else MISS) for exchange in exchanges]


def test_an_audit_judges_each_aspect_in_one_call():
    requests = [Request(f"s/{i}", f"Thing {i}?") for i in range(5)]
    items = build_items("harmfulness", requests, make_attack("direct"), seed=0)
    judge = CountingJudge()
    engine = ScriptedEngine(lambda request, i: "yes" if "3" in request.conversation[-1].content else "no")
    drawings = {"harmfulness": Drawing(Sampling(), 2)}
    scored = list(run_audit(engine, {"harmful": judge}, items, drawings=drawings, seed=0))
    assert judge.calls == 1
    assert row_of(rate_rows(scored, FAST))["rate"] == 0.8


def test_an_audit_in_parts_asks_whole_granules_and_gives_the_same(monkeypatch):
    requests = [Request(f"s/{i}", f"Thing {i}?") for i in range(11)]
    items = build_items("harmfulness", requests, make_attack("direct"), seed=0)
    drawings = {"harmfulness": Drawing(Sampling(), 2)}

    def audit(judge):
        engine = ScriptedEngine(lambda request, i: f"yes {request.seed}" if request.seed % 2 else "no")
        return engine, run_audit(engine, {"harmful": judge}, items, drawings=drawings, seed=0)

    _, whole = audit(CountingJudge())
    expected = list(whole)
    monkeypatch.setattr("toxoid.audit.run.PART", 5)
    judge = CountingJudge()
    engine, parts = audit(judge)
    assert next(parts) == expected[0]
    assert (len(engine.asked), judge.calls) == (8, 1)  # two granules of four hold at least five
    assert [expected[0], *parts] == expected
    assert (len(engine.asked), judge.calls) == (11, 2)


def test_an_audit_judges_the_second_aspect_of_a_metric_too(monkeypatch):
    both = Metric("both", "harmful", "higher", also="valid")
    monkeypatch.setitem(TASKS, "own", replace(TASKS["harmfulness"], name="own", metrics=(both,)))
    items = build_items("own", [Request("s/1", "Thing?")], make_attack("direct"), seed=0)
    judges = {"harmful": CountingJudge(), "valid": CountingJudge()}
    engine = ScriptedEngine(lambda request, i: "yes")
    scored = list(run_audit(engine, judges, items, drawings={"own": Drawing(Sampling(), 1)}, seed=0))
    assert row_of(rate_rows(scored, FAST), "both")["rate"] == 1.0


def test_every_task_has_a_headline_metric():
    assert all(task.metrics for task in TASKS.values())


def test_an_unknown_task_gets_a_suggestion():
    with pytest.raises(UsageError, match='Did you mean "harmfulness"'):
        task_spec("harmfullness")
