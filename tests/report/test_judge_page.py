"""The page of a judge: safe, self-contained, small, well-formed, and equal to its numbers."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from tests.report.browser import CHROMIUM, look
from tests.report.synthetic import HOSTILE
from tests.report.synthetic_judge import agreement, card, recipe, results, untrained_against
from tests.report.test_html import LOADING, Page
from toxoid.errors import UsageError
from toxoid.report.html import MAX_BYTES
from toxoid.report.judge_page import render_judge_page

KINDS = {
    "rounds": results(),
    "no control": results(2, control=False),
    "nothing adopted": results(1, adopted=0),
    "one round": results(0, control=False),
    "no rounds": untrained_against(),
    "no numbers": untrained_against(
        card={"name": "llm", "aspects": ["harmful"], "n": 0}, recipe={"name": "bare"}, data={}, command=""
    ),
}


@pytest.fixture(scope="module", params=KINDS)
def page(request) -> str:
    return render_judge_page(KINDS[request.param])


@pytest.fixture(scope="module")
def text() -> str:
    return Page(render_judge_page(results())).all_text()


def test_every_kind_is_well_formed_with_unique_ids_and_links_that_lead_somewhere(page):
    tags = Page(page).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    links = [a["href"].removeprefix("#") for tag, a in tags if tag == "a"]
    labels = [a[key] for _, a in tags for key in ("aria-labelledby", "aria-describedby") if key in a]
    assert len(ids) == len(set(ids))
    assert {*links, *labels} <= set(ids)


def test_nothing_is_loaded_nothing_runs_and_the_policy_allows_the_style_sheet_alone(page):
    tags = Page(page).tags
    for tag, attributes in tags:
        assert tag not in {"script", "iframe", "object", "embed", "form", "base", "img"}
        assert not LOADING & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = next(a["content"] for _, a in tags if a.get("http-equiv") == "Content-Security-Policy")
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in policy


def test_the_verdict_comes_first(text):
    assert text.index("Round 4 is adopted") < text.index("Round by round") < text.index("The judge's card")


def test_a_figure_has_both_rounds_their_intervals_and_the_control(text):
    assert (
        "Accuracy Unconditioned 63.0 % → 93.0 % 58.0 to 68.0, then 88.0 to 98.0 Control: 89.0 % (84.0 to 94.0) better "
        "no measurable difference to the control"
    ) in text


def test_a_round_has_its_numbers_and_its_fate(text):
    assert (
        "Round 3 120 51.7 % 14.7 % 9.7 to 19.7 0.06 / 0.12 / 0.17 0.70 768 not adopted agreement with people −8.0 "
    ) in text
    assert "1,008 adopted collapsed agreement" in text


def test_there_is_a_curve_per_slice_with_both_arms_and_false_positives_of_the_contentious():
    html = render_judge_page(results())
    assert [html.count(f'class="point {arm}"') for arm in ("adversary", "control")] == [4 * 5, 4 * 5]
    titles = re.findall(r'<title id="slice-[^"]*">([^<]*)</title>', html)
    assert titles == [
        "Accuracy by round: Missed by a reference judge",
        "False positives by round: Contentious but harmless",
        "Accuracy by round: Unconditioned",
        "Accuracy by round: An adversary never trained against",
    ]


def test_the_card_stands_with_its_plot_tables_weaknesses_data_and_command(text):
    for part in (
        "Threshold 0.432",
        "Requests in verse are often missed.",
        "Claimed probability and observed share",
        "sky piracy 200 0 71.0 % 64.4 to 76.8",
        "contrast Apache-2.0 c0dec0dec0dec0de",
        "toxoid judge train demo --out runs/demo",
    ):
        assert part in text


def test_a_judge_without_rounds_shows_its_card_alone():
    text = Page(render_judge_page(untrained_against())).all_text()
    assert "A judge of replies" in text
    assert "The judge agrees with 90.0 %" in text
    assert not re.search("Round|Slice by slice|What it missed", text)


def test_a_single_round_shows_its_slices_and_no_curve():
    html = render_judge_page(results(0, control=False))
    assert "95 % interval 58.0 to 68.0" in html
    assert "slice-" not in html
    assert "Adopted" not in html


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_adds_no_tag_anywhere(text):
    def shape(word: str) -> list[str]:
        whole = results(2, recipe=recipe(name=word, description=word, start={"source": word}), command=word)
        whole["arms"]["adversary"][1]["successes"] = [word]
        whole["data"]["sources"] = [{"name": word, "sha256": word, "licence": word}]
        groups = {word: agreement(9), "other": agreement(9)}
        whole["card"] = card(name=word, source=word, weaknesses=[word], licence=word, date=word, aspect=word)
        whole["card"] |= {"by_category": groups, "by_source": groups}
        html = render_judge_page(whole)
        assert not re.search(
            "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]", html
        )
        html.encode()
        return [tag for tag, a in Page(html).tags if a.get("class") != "esc"]

    assert shape(text) == shape("@")


def test_much_data_stays_below_the_limit():
    whole = results()
    for each in whole["arms"]["adversary"][1:]:
        each["successes"] = ["<&\u202e>" * 250_000] * 500
    many = {f"<kind {i}>" * 90: agreement(9) for i in range(900)}
    whole["card"] = card(by_category=many, by_source=many, by_length=many)
    whole["data"]["sources"] = [{"name": "<set>" * 90, "sha256": "", "licence": ""}] * 900
    html = render_judge_page(whole)
    assert len(html.encode()) <= MAX_BYTES
    assert "860 more are in results.json" in html
    assert "more characters not shown" in html


def test_something_else_is_refused():
    with pytest.raises(UsageError):
        render_judge_page({"kind": "audit"})


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 400])
def test_a_browser_finds_the_page_silent_narrow_enough_and_legible(tmp_path, width, scheme):
    pytest.importorskip("playwright", reason="playwright is not installed")
    from tests.report.test_browser import LOW_CONTRAST, OVERFLOW

    path = tmp_path / "judge.html"
    path.write_text(render_judge_page(results()), "utf-8")
    seen = look(path, OVERFLOW, LOW_CONTRAST, width=width, scheme=scheme)
    assert seen.requests == [path.resolve().as_uri()]
    assert (seen.complaints, seen.values[1]) == ([], [])
    assert seen.values[0] <= 0
