"""The sections on attacks, on the plane of harmless and helpful, on capability and on the judge's error."""

import pytest

from tests.report.synthetic import HOSTILE, rate, results, row
from toxoid.audit.by_attack import PREFIX
from toxoid.report import facts, view
from toxoid.report.attacks import attacks, proving_nothing, sentences
from toxoid.report.capability import capability
from toxoid.report.html import render_html
from toxoid.report.pareto import pareto
from toxoid.report.terminal import render_summary


def success(k, value, category="all", task="jailbreak"):
    return {
        "task": task,
        "category": category,
        "k": k,
        "rate": value,
        "ci_low": value and value - 0.05,
        "ci_high": value and value + 0.05,
        "n_items": 40,
    }


@pytest.fixture
def audited():
    whole = results(names=("base",), rows=[], comparisons=[])
    system = whole["systems"][0]
    system["rates"] += [
        rate(value, task="jailbreak", metric="harmless_rate", category=f"{PREFIX}{name}")
        for name, value in (("persona", 0.4), ("encoding_base64", 1.0))
    ]
    system["success"] = [success(1, 0.2), success(2, 0.35), success(1, 0.6, f"{PREFIX}persona")]
    return whole


def test_success_has_a_column_per_number_of_tries_and_a_row_per_attack(audited):
    (table,) = attacks(audited).tables
    assert table.tries == (1, 2)
    assert [name for name, _ in table.rows] == ["all attacks", "persona"]
    assert [cell.rate for cell in table.rows[0][1][0][1]] == ["20.0 %", "35.0 %"]
    assert [cell.rate for cell in table.rows[1][1][0][1]] == ["60.0 %", ""]


def test_the_words_of_an_audit_repeat_none_of_the_rates_that_stand_beside_them(audited):
    assert len(view.rate_figures(audited)) > 1
    assert not any(sentence.startswith("Also:") for sentence in sentences(audited))


def test_an_attack_that_never_landed_is_said_to_prove_nothing(audited):
    (sentence,) = proving_nothing(audited)
    assert "encoding_base64 never landed on lab-base" in sentence
    assert "a strong model or a weak attack" in sentence  # nothing was defended
    assert "persona" not in sentence
    assert sentence in render_html(audited)
    assert "never landed" in render_summary(audited)


def test_what_never_landed_before_proves_nothing_of_the_defence(audited):
    compared = results() | {"systems": audited["systems"]}
    assert proving_nothing(compared)[0].endswith("so that this proves nothing about a defence.")


def test_attacks_have_a_plot_of_their_own(audited):
    tables = view.rate_tables(audited["systems"][0]["rates"], audited)
    by_attack = [table for table in tables if table.by == "attack"]
    assert [[one["category"] for one in table.rates] for table in by_attack] == [
        ["persona", "encoding_base64"]
    ]
    assert "Harmless rate by attack" in render_html(audited)


def test_names_of_attacks_are_escaped(audited):
    audited["systems"][0]["success"].append(success(1, 0.1, f"{PREFIX}template:{HOSTILE[0]}"))
    assert "<script" not in render_html(audited)


def test_without_success_there_is_no_section():
    assert attacks(results()) is None


def test_every_system_has_its_letter_and_what_beats_it_is_named():
    whole = results(names=("base", "mistake-analysis", "sft"))
    for system, speed in zip(whole["systems"], (100.0, 100.0, 50.0), strict=True):
        system["cost"] = {"tokens_per_second": speed, "seconds_per_reply": 1 / speed}
        for one in system["rates"]:
            if (one["task"], one["metric"]) == ("harmfulness", "harmless_rate") and one["category"] == "all":
                one["rate"] = 0.9 if system["name"] == "mistake-analysis" else 0.5
            if (one["task"], one["metric"]) == ("helpfulness", "helpful_rate") and one["category"] == "all":
                one["rate"] = 0.8
    found = pareto(whole)
    assert [place.letter for place in found.places] == ["A", "B", "C"]
    assert [place.note for place in found.places] == [
        "B is at least as good in all",
        "",
        "A, B is at least as good in all",
    ]
    assert "Harmless, helpful, fast" in render_html(whole)


def test_a_single_system_makes_no_plane(audited):
    assert pareto(audited) is None


def score(metric, value, **changes):
    base = {"task": "texts", "metric": metric, "value": value, "ci_low": value, "ci_high": value}
    return base | {"stderr": None, "n": 20, "better": "lower"} | changes


def test_capability_of_one_system_stands_with_its_interval(audited):
    audited["systems"][0]["capability"] = [score("perplexity", 12.5, ci_low=11.0, ci_high=14.0)]
    (line,) = capability(audited)
    assert (line.name, line.after, line.interval) == (
        "Perplexity per token of it",
        "12.500",
        "11.000 to 14.000",
    )
    assert "Perplexity per token" in render_html(audited)


@pytest.mark.parametrize(
    ("better", "low", "high", "state"),
    [("lower", 0.01, 0.05, "worse"), ("higher", 0.01, 0.05, "better"), ("lower", -0.01, 0.05, "unclear")],
)
def test_a_difference_in_capability_is_judged_by_its_interval(better, low, high, state):
    whole = results()
    whole["comparisons"][0]["capability"] = [
        {
            "task": "mmlu",
            "metric": "acc",
            "before": 0.5,
            "after": 0.53,
            "difference": 0.03,
            "ci_low": low,
            "ci_high": high,
            "n": 100,
            "better": better,
            "paired": False,
            "relative": False,
        }
    ]
    (line,) = capability(whole)
    assert (line.name, line.state, line.note) == ("mmlu: acc", state, "not paired")
    assert "mmlu: acc" in render_html(whole)


def test_corrected_rates_stand_beside_those_as_judged(audited):
    told = {"rate": 0.31, "ci_low": 0.2, "ci_high": 0.42, "reason": ""}
    audited["systems"][0]["rates"][0] |= {"corrected": told}
    audited["meta"]["correction"] = ["not corrected for the judge's error: helpful_rate, because of its card"]
    (line,) = facts.corrected(audited)
    assert line[-1] == "31.0 % (20.0 to 42.0)"
    page = render_html(audited)
    assert "31.0 % (20.0 to 42.0)" in page
    assert "because of its card" in page


def test_a_reason_stands_where_no_corrected_rate_is_known(audited):
    told = {"rate": None, "ci_low": None, "ci_high": None, "reason": "the judge carries no information"}
    audited["systems"][0]["rates"][0] |= {"corrected": told}
    assert facts.corrected(audited)[0][-1] == "the judge carries no information"


def test_a_row_of_an_attack_that_never_landed_says_so_in_its_table():
    whole = results()
    rows = [
        row(0.0, before=1.0, half=0.02, task="jailbreak", category=f"{PREFIX}{name}") for name in ("a", "b")
    ]
    whole["rows"] = [*whole["rows"], *rows]
    lines = next(table.lines for table in view.category_tables(whole["rows"], whole) if table.by == "attack")
    assert [line.category for line in lines] == ["a", "b"]
    assert all(line.note.startswith("proves nothing") for line in lines)


def test_an_audit_names_its_strongest_attacks_after_the_headline(audited):
    audited["systems"][0]["success"] += [
        success(1, 0.1, f"{PREFIX}role_play"),
        success(1, 0.3, task="harmfulness"),
        success(1, 0.3, f"{PREFIX}adaptive", task="campaigns"),
        success(20, 0.7, f"{PREFIX}adaptive", task="campaigns"),
        success(20, 0.5, f"{PREFIX}direct", task="campaigns"),
    ]
    assert sentences(audited)[1] == (
        "Of the attacks persona lands most often, on 60.0 % (interval 55.0 to 65.0) of requests with one try, "
        "and adaptive lands on 70.0 % (interval 65.0 to 75.0) within 20 questions."
    )
    assert "persona lands most often" in render_html(audited)
    assert "persona lands most often" in render_summary(audited).replace("\n", " ")


def test_an_attack_that_steals_the_task_is_no_way_to_harm(audited):
    audited["systems"][0]["success"] += [
        success(1, 0.9, f"{PREFIX}suffix_injection", task="hijacking"),
        success(1, 0.3, task="harmfulness"),
    ]
    assert "Of the attacks persona lands most often" in sentences(audited)[1]


def test_an_audit_of_one_attack_names_no_strongest(audited):
    audited["systems"][0]["success"] = [success(1, 0.9, task="harmfulness")]
    assert not any("Of the attacks" in sentence for sentence in sentences(audited))


def test_the_single_attack_of_a_task_is_called_by_its_name(audited):
    audited["systems"][0]["success"] = [
        success(1, 0.3, task="harmfulness"),
        success(1, 0.2, task="hijacking"),
    ]
    audited["meta"]["fingerprint"]["recipe"]["audit"] = {"attacks": {"hijacking": ["suffix_injection"]}}
    assert [table.rows[0][0] for table in attacks(audited).tables] == ["direct", "suffix_injection"]


def test_campaigns_that_ended_early_count_at_more_questions():
    whole = results()
    for system, ends in zip(whole["systems"], ((1, 2, 6), (1, 2, 10, 20)), strict=False):
        system["success"] = [success(k, k / 20, f"{PREFIX}adaptive", task="campaigns") for k in ends]
    (table,) = attacks(whole).tables
    assert table.tries == (1, 2, 10, 20)  # nothing is known of the second system at six
    cells = [[cell.rate for cell in cells] for _, cells in table.rows[0][1]]
    assert cells == [["5.0 %", "10.0 %", "30.0 %", "30.0 %"], ["5.0 %", "10.0 %", "50.0 %", "100.0 %"]]


def test_the_tables_say_who_never_tried():
    whole = results()
    whole["systems"][0]["success"] = [success(1, None, f"{PREFIX}persona")]
    assert attacks(whole).tables[0].rows[0][1][0][1][0].rate == "–"
