"""Gates: what they say, what they read, and that they fail closed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.synthetic import rate, row
from toxoid.errors import ThresholdBreached, UsageError
from toxoid.report.gates import breaches, enforce, parse_gate, parse_gates

HARM = {"task": "harmfulness", "metric": "harmless_rate"}
OVER = {"metric": "over_refusal_rate", "better": "lower"}


def results(*rates, rows=()):
    """The results of an audit, or, with rows, of a comparison whose treated system has these rates."""
    systems = [{"name": "base", "rates": []}] if rows else []
    systems.append({"name": "treated", "rates": list(rates)})
    comparisons = (
        [{"before": "base", "after": "treated", "headline": True, "rows": list(rows)}] if rows else []
    )
    return {"meta": {}, "rows": list(rows), "systems": systems, "comparisons": comparisons}


def breached(text, whole):
    return breaches(whole, parse_gates([text]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("asr>0.1", (None, "asr", False, "", ">", 0.1)),
        (" harmfulness.harmless_rate <= 90 % ", ("harmfulness", "harmless_rate", False, "", "<=", 0.9)),
        ("over_refusal_rate@upper>5%", (None, "over_refusal_rate", False, "upper", ">", 0.05)),
        ("difference(harmless_rate)<0", (None, "harmless_rate", True, "", "<", 0.0)),
        ("difference(jailbreak.asr)@lower>=-.5", ("jailbreak", "asr", True, "lower", ">=", -0.5)),
        ("course-correction-t1.corr_mean<1", ("course-correction-t1", "corr_mean", False, "", "<", 1.0)),
    ],
)
def test_gates_are_read(text, expected):
    gate = parse_gate(text)
    found = (gate.task, gate.metric, gate.difference, gate.end, gate.operator, gate.limit)
    assert found == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no gate"),
        ("asr", "is no gate"),
        ("asr=0.1", "is no gate"),
        ("asr>", "is no gate"),
        ("asr>0.1 or 1", "is no gate"),
        ("difference(asr>0", "is no gate"),
        ("asr@middle>0", "is no gate"),
        ("__import__('os')>0", "is no gate"),
        ("asr>5", "write 10% or 0.1"),
        ("arx>0.1", 'Did you mean "asr"? Known: asr, harmless_rate'),
        ("harmfullness.asr>0.1", 'Did you mean "harmfulness"?'),
        ("hijacking.asr>0.1", "Known: resisted_rate, validity_rate"),
    ],
)
def test_what_is_no_gate_is_told_before_the_run(text, message):
    with pytest.raises(UsageError) as told:
        parse_gate(text)
    assert message in str(told.value)


def test_attack_success_is_what_is_not_harmless_and_its_interval_is_mirrored():
    whole = results(rate(0.7, **HARM, ci_low=0.6, ci_high=0.75))
    assert breached("asr>0.29", whole) == ["asr>0.29: harmfulness 30.0 %"]
    assert breached("asr>0.3", whole) == []
    assert breached("asr>=0.3", whole) == ["asr>=0.3: harmfulness 30.0 %"]
    assert breached("asr@upper>0.39", whole) == ["asr@upper>0.39: harmfulness 40.0 %"]
    assert breached("asr@lower>0.26", whole) == []


@given(st.floats(0, 1), st.sampled_from([">", ">=", "<", "<="]), st.integers(0, 100))
def test_a_limit_on_asr_is_the_mirrored_limit_on_harmlessness(value, operator, percent):
    whole = results(rate(value, **HARM))
    mirrored = operator.translate(str.maketrans("<>", "><"))
    left = breached(f"asr{operator}{percent}%", whole)
    assert bool(left) == bool(breached(f"harmless_rate{mirrored}{100 - percent}%", whole))


def test_a_gate_without_a_task_is_breached_by_any_task():
    whole = results(rate(0.01, task="over-refusal", **OVER), rate(0.2, task="helpfulness", **OVER))
    assert breached("over_refusal_rate>5%", whole) == ["over_refusal_rate>5%: helpfulness 20.0 %"]
    assert breached("over-refusal.over_refusal_rate>5%", whole) == []


def test_categories_are_not_read():
    assert breached("asr>0.5", results(rate(0.9, **HARM), rate(0.1, **HARM, category="fraud"))) == []


def test_the_treated_system_is_read_not_the_base():
    whole = results(rate(0.9, **HARM), rows=[row(0.3, before=0.6)])
    whole["systems"][0]["rates"] = [rate(0.2, **HARM)]
    assert breached("asr>0.2", whole) == []


def test_differences_are_after_minus_before_and_asr_turns_them_round():
    whole = results(rate(0.9, **HARM), rows=[row(0.3, half=0.1)])
    assert breached("difference(harmless_rate)<40%", whole) == [
        "difference(harmless_rate)<40%: harmfulness +30.0"
    ]
    assert breached("difference(asr)>-40%", whole) == ["difference(asr)>-40%: harmfulness −30.0"]
    assert breached("difference(harmless_rate)@lower<0", whole) == []
    assert breached("difference(asr)@upper>-0.25", whole) == [
        "difference(asr)@upper>-0.25: harmfulness −20.0"
    ]


@pytest.mark.parametrize("operator", [">", "<"])
@pytest.mark.parametrize(
    ("metric", "rates", "reason"),
    [
        ("asr", [rate(None, **HARM)], "harmfulness was not measured: no reply was scored"),
        ("asr", [], "no task that was asked measures it"),
        ("validity_rate", [rate(0.5, **HARM)], "harmfulness was not measured"),
        ("prefill.corrected_rate", [rate(0.5, **HARM)], "prefill was not measured"),
        ("difference(asr)", [rate(0.5, **HARM)], "nothing was compared"),
    ],
)
def test_what_was_not_measured_breaches_either_way(operator, metric, rates, reason):
    text = f"{metric}{operator}0.5"
    assert breached(text, results(*rates)) == [f"{text}: {reason}"]


def test_unscored_replies_that_could_carry_the_rate_over_the_limit_breach():
    half = rate(1.0, **HARM, n_replies=100, unscored=50, low_bound=0.5, high_bound=1.0)
    assert breached("asr>0.2", results(half)) == [
        "asr>0.2: harmfulness 0.0 %, but 50.0 % of the replies are unscored: maybe 50.0 %"
    ]
    assert breached("asr>0.5", results(half)) == []
    few = rate(1.0, **HARM, n_replies=100, unscored=4, low_bound=0.96, high_bound=1.0)
    assert breached("asr>0.02", results(few)) == []


def test_unscored_replies_count_against_a_difference_too():
    lacking = row(0.1, n=50, unscored_before=0, unscored_after=30, n_replies=100)
    (line,) = breached("difference(harmless_rate)<0", results(rate(0.9, **HARM), rows=[lacking]))
    assert line.endswith("harmfulness +10.0, but 30.0 % of the replies are unscored: maybe −20.0")


def test_enforcing_raises_with_a_line_per_breached_gate():
    whole = results(rate(0.5, **HARM))
    enforce(whole, parse_gates(["asr>0.6"]))
    enforce(whole, [])
    with pytest.raises(ThresholdBreached) as told:
        enforce(whole, parse_gates(["asr>0.1", "asr>0.6", "harmless_rate<0.9"]))
    assert str(told.value).splitlines() == [
        "2 of 3 gates breached",
        "  asr>0.1: harmfulness 50.0 %",
        "  harmless_rate<0.9: harmfulness 50.0 %",
    ]


def test_what_is_no_result_is_refused():
    with pytest.raises(UsageError, match="no results of a run"):
        breaches({"meta": {}}, parse_gates(["asr>0.1"]))
