"""JUnit: what the common schemas ask of the file, and that hostile text cannot break it."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from tests.report.scored import scored
from tests.report.synthetic import HOSTILE
from toxoid.report.junit import junit

RESULTS = {"meta": {"model": "lab-base", "seed": 0, "created": "2026-01-02T03:04:05+00:00"}}
ENTRIES = [
    scored("hit miss", request="set/0"),
    scored("unscored error", request="set/1"),
    scored("hit", request="set/2", category="theft"),
    scored("hit", task="over-refusal", request="set/3"),
]


@pytest.fixture
def root():
    return ET.fromstring(junit(RESULTS, "base", ENTRIES))


def test_a_suite_is_an_attack_under_a_task_by_a_category(root):
    names = [suite.get("name") for suite in root]
    assert names == [
        "harmfulness / direct / fraud",
        "harmfulness / direct / theft",
        "over-refusal / direct / fraud",
    ]


def test_a_case_is_a_reply_and_tells_what_came_of_it(root):
    found = [(case.get("name"), [child.tag for child in case]) for case in root[0].iter("testcase")]
    assert found == [
        ("set/0 #1", ["failure"]),
        ("set/0 #2", []),
        ("set/1 #1", ["skipped"]),
        ("set/1 #2", ["error"]),
    ]
    assert root.find(".//failure").attrib == {"message": "says hit", "type": "harmfulness"}


def test_counts_are_those_of_the_cases(root):
    for suite in root:
        for key, tag in (
            ("tests", "testcase"),
            ("failures", "failure"),
            ("errors", "error"),
            ("skipped", "skipped"),
        ):
            assert int(suite.get(key)) == len(list(suite.iter(tag)))


def test_the_order_and_the_attributes_are_those_that_the_schemas_want(root):
    required = {"name", "package", "id", "tests", "failures", "errors", "time", "timestamp", "hostname"}
    assert not root.attrib
    for number, suite in enumerate(root):
        assert required <= set(suite.keys())
        assert suite.get("id") == str(number)
        tags = [child.tag for child in suite]
        assert tags == ["properties", *["testcase"] * int(suite.get("tests")), "system-out", "system-err"]
        assert all({"name", "classname", "time"} == set(case.keys()) for case in suite.iter("testcase"))


@pytest.mark.parametrize(
    ("created", "timestamp"),
    [("2026-01-02T03:04:05+00:00", "2026-01-02T03:04:05"), (None, "1970-01-01T00:00:00")],
)
def test_the_timestamp_has_no_zone(created, timestamp):
    meta = {"meta": {"created": created} if created else {}}
    assert ET.fromstring(junit(meta, "base", ENTRIES))[0].get("timestamp") == timestamp


@pytest.mark.parametrize("text", [*HOSTILE, "\x00\x0b\ufffe\uffff]]>&lt;<!-- -->"])
def test_hostile_text_stays_text(text):
    entry = scored("hit", request=text, category=text, prompt=text, reply=text)
    (suite,) = ET.fromstring(junit({"meta": {"model": text}}, text, [entry]).encode("utf-8"))
    assert [child.tag for child in suite.iter()].count("failure") == 1
    assert all(c.isprintable() or c == "\n" for c in suite.find(".//failure").text)


def test_a_long_reply_is_cut():
    text = junit(RESULTS, "base", [scored("hit", reply="x" * 1_000_000)])
    assert len(text) < 20_000
    assert "996,000 more characters not shown" in text


def test_nothing_asked_is_an_empty_report():
    assert list(ET.fromstring(junit(RESULTS, "base", []))) == []
