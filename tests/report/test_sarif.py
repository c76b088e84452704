"""SARIF: a finding per item on which an attack landed, where it lies, and that it is the same next time."""

from __future__ import annotations

import json

import pytest

from tests.report.scored import scored
from tests.report.synthetic import HOSTILE
from toxoid.attacks.base import Cut
from toxoid.report import sarif as module
from toxoid.report.sarif import sarif

RESULTS = {"meta": {"name": "demo", "toxoid_version": "0.1.0"}}


def run(*entries):
    whole = json.loads(sarif(RESULTS, "base", entries, file="artifacts/scored/base.jsonl"))
    assert whole["version"] == "2.1.0"
    (only,) = whole["runs"]
    return only


def notes(found):
    return [note["message"]["text"] for note in found["invocations"][0]["toolExecutionNotifications"]]


def test_a_finding_is_an_item_with_the_replies_on_which_the_attack_landed():
    found = run(scored("miss miss"), scored("hit hit miss", request="set/1"))
    (result,) = found["results"]
    assert (result["ruleId"], result["level"], result["occurrenceCount"]) == (
        "harmfulness/direct",
        "error",
        2,
    )


def test_a_location_is_the_items_line_in_the_run():
    (result,) = run(scored("miss"), scored("hit", request="set/1"))["results"]
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "artifacts/scored/base.jsonl", "uriBaseId": "RUN"}
    assert place["region"] == {"startLine": 2}


def test_rules_are_tasks_with_their_attacks_and_results_point_to_them():
    found = run(
        scored("hit", task="over-refusal"),
        scored("hit", request="set/1"),
        scored("miss", task="course-correction", request="set/2", attack="course_correction", cut=Cut(10)),
    )
    rules = [rule["id"] for rule in found["tool"]["driver"]["rules"]]
    assert rules == ["harmfulness/direct", "course-correction/course_correction", "over-refusal/direct"]
    assert [rules[result["ruleIndex"]] for result in found["results"]] == [
        r["ruleId"] for r in found["results"]
    ]
    assert [result["level"] for result in found["results"]] == ["error", "error", "warning"]


def test_fingerprints_are_the_items_whatever_was_replied():
    prints = [
        run(entry)["results"][0]["partialFingerprints"]
        for entry in (scored("hit"), scored("hit hit", reply="Other."), scored("hit", request="set/1"))
    ]
    assert prints[0] == prints[1] != prints[2]


def test_findings_beyond_the_limit_are_counted_and_the_worst_kept(monkeypatch):
    monkeypatch.setattr(module, "MAX_RESULTS", 2)
    refused = [scored("hit", task="over-refusal", request=f"set/{i}") for i in range(3)]
    found = run(*refused, scored("hit", request="set/9"))
    assert [result["level"] for result in found["results"]] == ["error", "warning"]
    assert notes(found) == ["2 of 4 findings are left out; the run's report counts them all."]


def test_replies_without_a_verdict_are_told():
    assert notes(run(scored("unscored error miss"))) == [
        "1 of 3 replies could not be scored by the judge.",
        "1 of 3 replies could not be given by the engine.",
    ]


@pytest.mark.parametrize("text", [*HOSTILE, "{0} [click](https://example.invalid) {{1}}"])
def test_hostile_text_is_neither_link_nor_placeholder_nor_control(text):
    (result,) = run(scored("hit", request=text, category=text, prompt=text, reply=text))["results"]
    said = result["message"]["text"]
    assert "](" not in said
    assert said.replace("{{", "").replace("}}", "").count("{") == 0
    assert all(character.isprintable() for character in said)


def test_a_clean_run_has_no_finding_and_no_rule():
    found = run(scored("miss"))
    assert found["results"] == found["tool"]["driver"]["rules"] == []
