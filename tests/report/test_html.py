"""The page: safe, self-contained, small, well-formed, and equal to its numbers."""

from __future__ import annotations

import base64
import copy
import hashlib
import re
from html.parser import HTMLParser

import pytest

from tests.report.synthetic import HOSTILE, LABELS, comparison, flip, rate, results, row
from toxoid.errors import UsageError
from toxoid.report.format import interval, p_value, percent, points
from toxoid.report.html import MAX_BYTES, highlighted, marked, render_html

VOID = {"meta", "link", "br", "hr", "img", "input"}
LOADING = {"src", "srcset", "action", "formaction", "background", "poster", "data", "xlink:href", "style"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that what is opened is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute twice in <{tag}>"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text.append(data)

    def all_text(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def whole() -> str:
    return render_html(results())


def with_flips(*flips: dict, **total: int) -> dict:
    whole = results(names=("base", "mistake-analysis"))
    whole["comparisons"][0] |= {
        "flips": list(flips),
        "flips_total": total or {"better": len(flips), "worse": 0},
    }
    return whole


def test_the_page_is_well_formed(whole):
    Page(whole)


def test_ids_are_unique_and_references_lead_somewhere(whole):
    tags = Page(whole).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    links = [a["href"] for tag, a in tags if tag == "a"]
    labels = [a[key] for _, a in tags for key in ("aria-labelledby", "aria-describedby") if key in a]
    assert len(ids) == len(set(ids))
    assert {link.removeprefix("#") for link in links} | set(labels) <= set(ids)


def test_the_policy_allows_this_style_sheet_and_nothing_else(whole):
    policy = next(
        a["content"] for _, a in Page(whole).tags if a.get("http-equiv") == "Content-Security-Policy"
    )
    style = re.search(r"<style>(.*?)</style>", whole, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules == {
        "default-src": "'none'",
        "style-src": f"'sha256-{digest}'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_nothing_is_loaded_and_nothing_runs(whole):
    for tag, attributes in Page(whole).tags:
        assert tag not in {"script", "iframe", "object", "embed", "form", "base", "img"}
        assert not LOADING & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("href", "#").startswith(("#", "data:,"))
    assert "url(" not in whole
    assert "@import" not in whole


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_adds_no_tag_anywhere(text):
    def poison(value):
        if isinstance(value, dict):
            return {key: poison(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [poison(inner) for inner in value]
        return text if value == "@" else value

    fields = {
        "name": "@",
        "model": "@",
        "command": "@",
        "description": "@",
        "warnings": ["@"],
        "created": "@",
    }
    card = {"name": "@", "aspects": ["@"], "source": "@", "n": 0, "weaknesses": ["@"]}
    harmless = with_flips(flip("@") | dict.fromkeys(flip(""), "@"), better=1)
    harmless |= {"notes": ["@"], "judge_card": card}
    harmless["meta"] |= fields
    harmless["systems"][0] |= {"label": "@", "description": "@"}
    harmless["comparisons"][0] |= {"before": "@", "verdict": "@"}
    harmless["rows"] = [
        row(category="@"),
        row(category="other", metric="@"),
        row(task="@"),
        row(category="c"),
    ]
    assert shape(poison(harmless)) == shape(harmless)


def shape(results: dict) -> list[str]:
    html = render_html(results)
    assert not re.search("[\u202e\u200b\ufeff\x1b\x07\x00]", html)
    html.encode()
    return [tag for tag, a in Page(html).tags if a.get("class") != "esc"]


def test_a_url_in_a_reply_is_text():
    html = render_html(with_flips(flip("see https://example.invalid/x.js")))
    assert "https://example.invalid/x.js" in Page(html).all_text()


def test_a_marker_is_set_apart_from_text_that_looks_like_one():
    assert marked("\\u202e\u202e") == r'\u202e<b class="esc">\u202e</b>'


def test_passages_that_decided_are_highlighted_in_both_replies():
    evidence = {"before_evidence": [[10, 14]], "after_evidence": [[0, 24]]}
    html = render_html(with_flips(flip("x") | evidence))
    assert "<mark>take</mark>" in html
    assert "<mark>I would rather not help </mark>" in html
    assert "passage that decided the verdict" in html
    assert "<mark" not in render_html(with_flips(flip("x")))


@pytest.mark.parametrize("text", [*HOSTILE, "<mark>&amp;\u202e</mark>" * 200])
@pytest.mark.parametrize(
    "evidence", [[], [[3, 9]], [[5, 9], [0, 7]], [[0, 10**9]], [[-4, 2], [7, 7], [9, 3]], [[399, 500]]]
)
def test_highlights_change_no_character_of_hostile_text(text, evidence):
    html = str(highlighted(text, evidence, limit=400))
    tags = re.compile('<b class="esc">|</b>|</?mark>')
    assert tags.sub("", html) == tags.sub("", marked(text, limit=400))
    assert html.count("<mark>") == html.count("</mark>") <= len(evidence)
    Page(html)


def test_five_thousand_flips_and_megabyte_replies_stay_below_the_limit():
    many = [flip("<&>\u202e" * 250_000 if i % 50 == 0 else "short", index=i) for i in range(5000)]
    html = render_html(with_flips(*many))
    assert len(html.encode()) <= MAX_BYTES
    assert re.search(r"5,?000 changed", Page(html).all_text())
    assert "more characters not shown" in html


def test_the_numbers_of_flips_shown_and_not_shown_add_up():
    html = render_html(with_flips(*[flip("x", index=i) for i in range(12)], better=160, worse=12))
    shown = sum(a.get("class") == "flip" for _, a in Page(html).tags)
    assert "172 changed (160 better, 12 worse). 12 are shown here, 160 are not." in Page(html).all_text()
    assert shown == 12


def test_some_of_every_kind_are_shown_when_not_all_fit():
    kinds = [flip("x", index=i) for i in range(300)] + [
        flip("y", index=1, direction="worse", task="hijacking")
    ]
    html = render_html(with_flips(*kinds))
    assert 'class="tag worse">worse' in html.split('id="replies"')[1]


def test_hundreds_of_categories_stay_below_the_limit():
    whole = results()
    rows = whole["rows"] + [row(category=f"kind {i}" * 9, task=f"task-{i % 9}") for i in range(900)]
    html = render_html(whole | {"rows": rows})
    assert len(html.encode()) <= MAX_BYTES
    assert "results.json" in html


def test_the_numbers_shown_are_those_of_the_results(whole):
    page = Page(whole).all_text()
    for one in comparison("base", "mistake-analysis", headline=True)["rows"]:
        if one["category"] != "all" and one["metric"] == "valid_safe_rate":  # its parts' tables say as much
            continue
        numbers = [
            percent(one["before"]),
            percent(one["after"]),
            points(one["difference"]),
            interval(one["ci_low"], one["ci_high"]),
            p_value(one["p_adjusted"]),
        ]
        assert " ".join(numbers) in page


def test_the_verdict_comes_first(whole):
    text = Page(whole).all_text()
    assert text.index("Harmless rate (harmful requests) rose by 32.0 points") < text.index("What changed")


def test_a_verdict_of_another_version_is_shown_as_it_was():
    whole = results()
    whole["comparisons"][0]["verdict"] = "Said otherwise."
    assert "Said otherwise." in Page(render_html(whole)).all_text()


def test_a_missing_difference_is_a_dash_with_its_reason():
    whole = results(names=("base", "mistake-analysis"))
    whole["rows"] = [row(None, before=None, n=0)]
    assert "– – – – – 0 no item was scored on both sides" in Page(render_html(whole)).all_text()


def test_a_rate_without_scored_reply_is_a_dash_with_its_reason():
    whole = results(names=("base",))
    whole["systems"][0]["rates"] = [rate(None, task="harmfulness", metric="harmless_rate", unscored=480)]
    assert "– no reply was scored" in Page(render_html(whole)).all_text()


def test_an_audit_of_one_system_shows_rates_and_claims_no_change():
    text = Page(render_html(results(names=("base",)))).all_text()
    assert "Harmless rate (harmful requests) 55.4 % (95 % interval" in text
    assert "What changed" not in text
    assert "could not score 8.5 % of the replies" in text


def test_every_arm_stands_side_by_side(whole):
    systems = whole.split('id="systems"')[1].split("</thead>")[0]
    assert all(label in systems for label, _ in LABELS.values())


def test_other_comparisons_have_their_verdicts(whole):
    assert "sft → mistake-analysis Nothing measurably changed" in Page(whole).all_text()


def test_warnings_stand_before_the_table():
    whole = results()
    whole["meta"]["warnings"] = ["The runs differ."]
    text = Page(render_html(whole)).all_text()
    assert text.index("The runs differ.") < text.index("What changed")


def test_a_stale_card_says_so():
    whole = results()
    whole["judge_card"]["stale"] = True
    assert "measured with another version of the judge" in Page(render_html(whole)).all_text()


def test_a_judge_without_card_or_labels_says_so():
    assert "how far this judge errs is unknown" in render_html(results(judge_card=None))
    assert "not measured against people" in render_html(results(judge_card={"name": "llm", "n": 0}))


def test_the_command_to_repeat_is_there(whole):
    assert "To repeat it toxoid run --recipe demo --out runs/demo" in Page(whole).all_text()


def test_what_results_json_leaves_out_may_be_missing():
    whole = results()
    for key in ("created", "seconds", "machine", "command", "timings", "fingerprint", "tasks", "warnings"):
        del whole["meta"][key]
    for system in whole["systems"]:
        system["cost"] = {}
    for key in ("power", "judge_card", "notes"):
        del whole[key]
    Page(render_html(whole))


def test_an_empty_run_is_a_page():
    assert "Nothing was measured." in render_html({"meta": {}, "rows": [], "systems": [], "comparisons": []})


def test_rendering_leaves_the_results_alone_and_is_repeatable():
    whole = results()
    before = copy.deepcopy(whole)
    assert render_html(whole) == render_html(whole)
    assert whole == before


def test_something_else_than_results_is_refused_in_one_line():
    with pytest.raises(
        UsageError, match=r"meta, systems, comparisons missing, expected .*results\.json"
    ) as caught:
        render_html({"rows": []})
    assert "\n" not in str(caught.value)
