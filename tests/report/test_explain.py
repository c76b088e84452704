"""The page and the table of an explanation: safe, self-contained, readable without colour and without a mouse."""

from __future__ import annotations

import base64
import hashlib
import io
import re

import pytest
from rich.console import Console

from tests.report.browser import CHROMIUM, look
from tests.report.synthetic import HOSTILE
from tests.report.test_html import LOADING, Page
from toxoid.data.schemas import user
from toxoid.engines.base import Completion, GenerationRequest, Sampling
from toxoid.engines.contrast import Contrast
from toxoid.engines.explain import Candidate, Explanation, TokenView
from toxoid.report.explain import explanation_table, named, probability, render_explanation, told


def candidate(text, number=7, combined=3.0, share=0.5):
    return Candidate(number, text, 2.0, 1.0, combined, share / 4, share / 2, share)


def view(text, instead=None, moved=0.0, *, contrasted=True, removed=False):
    chosen = candidate(text)
    bare = chosen if instead is None else candidate(instead, 8, None if removed else 1.0)
    return TokenView(chosen, bare, bare, moved, contrasted, removed)


def explanation(*views, prompt="Ask.", prefill="", model="lab-base"):
    request = GenerationRequest(user(prompt), prefill, Sampling(temperature=0.7))
    completion = Completion("x", "stop", 1, len(views))
    return Explanation(model, request, completion, "sp", "ap", Contrast(), 0.7, views)


VIEWS = (
    view(" No", " Yes", 0.72, removed=True),
    view(",", moved=0.02, contrasted=False),
    view("\n", moved=0.2),
    view("", moved=0.4),
    view("<|end|>"),
)


@pytest.fixture(scope="module")
def html():
    return render_explanation(explanation(*VIEWS, prefill="Sure"))


def test_the_page_is_well_formed_with_unique_ids_and_links_that_lead_somewhere(html):
    tags = Page(html).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    links = [attributes["href"].removeprefix("#") for tag, attributes in tags if tag == "a"]
    assert len(ids) == len(set(ids))
    assert set(links) <= set(ids)


def test_nothing_is_loaded_nothing_runs_and_the_policy_allows_the_style_sheet_alone(html):
    tags = Page(html).tags
    for tag, attributes in tags:
        assert tag not in {"script", "iframe", "object", "embed", "form", "base", "img"}
        assert not LOADING & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = next(a["content"] for _, a in tags if a.get("http-equiv") == "Content-Security-Policy")
    assert f"style-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_every_token_can_be_focused_says_its_numbers_and_leads_to_its_row(html):
    tokens = [a for tag, a in Page(html).tags if tag == "a" and a.get("class", "").startswith("token")]
    assert [a["href"] for a in tokens] == [f"#t{number}" for number in range(1, len(VIEWS) + 1)]
    assert "1. ␣No: undefended 12.5 %, prompt alone 25.0 %, as drawn 50.0 %." in Page(html).all_text()
    assert "The undefended model: ␣Yes (removed by the mask)." in Page(html).all_text()


def test_what_was_moved_is_shown_in_steps_and_a_change_by_more_than_colour(html):
    classes = [a["class"] for tag, a in Page(html).tags if tag == "a" and "token" in a.get("class", "")]
    assert classes == ["token m4 changed", "token m1", "token m2", "token m3", "token m0"]


def test_between_tokens_there_is_no_blank_that_the_model_did_not_write(html):
    reply = re.search(r'<p class="reply".*?</p>', html, re.DOTALL).group(0)
    text = re.sub(r"<[^>]*>", "", re.sub(r'<span class="tip">.*?</span>', "", reply))
    assert text == "Sure No,⏎\n#7&lt;|end|&gt;"


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_adds_no_tag_and_no_hidden_character(text):
    def shape(word):
        page = render_explanation(explanation(view(word, word), prompt=word, prefill=word, model=word))
        return [(tag, sorted(a)) for tag, a in Page(page).tags if tag != "b"], page

    assert shape(text)[0] == shape("@")[0]
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", shape(text)[1]
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_the_terminal_is_not_obeyed_by_a_token(text):
    stream = io.StringIO()
    Console(file=stream, width=300).print(explanation_table(explanation(view(text, text))))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", stream.getvalue())


def test_the_table_has_a_row_per_token_with_its_numbers():
    stream = io.StringIO()
    Console(file=stream, width=200).print(explanation_table(explanation(*VIEWS)))
    first, second = stream.getvalue().splitlines()[1:3]
    cells = ["1", "␣No", "2.00", "1.00", "␣Yes", "2.00", "1.00", "12.5 %", "50.0 %", "72.0 %"]
    assert re.split(" {2,}", first.strip()) == [*cells, "contrasted, undefended's masked"]
    assert "contrasted" not in second
    assert len(stream.getvalue().splitlines()) == len(VIEWS) + 1


def test_the_sentence_counts_and_names_the_token_moved_most():
    assert told(explanation(*VIEWS)) == (
        "1 of 5 tokens are not what the undefended model finds most probable there. 4 were contrasted; contrast and "
        "mask moved 26.8 % of the probability per token, most (72.0 %) at token 1, ␣No."
    )


def test_an_empty_reply_is_said_to_be_one():
    assert told(explanation()) == "The reply has no tokens."
    Page(render_explanation(explanation()))


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0.0 %"), (1e-9, "< 0.1 %"), (0.314, "31.4 %"), (0.9999, "> 99.9 %"), (1, "100.0 %")],
)
def test_a_probability_beside_0_or_1_is_not_rounded_onto_it(share, text):
    assert probability(share) == text


@pytest.mark.parametrize(("text", "shown"), [(" a b", "␣a␣b"), ("\n", "⏎"), ("\t", "⇥"), ("", "#7")])
def test_blanks_are_visible_in_the_name_of_a_token(text, shown):
    assert named(candidate(text)) == shown


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 400])
def test_a_browser_finds_the_page_silent_narrow_enough_and_legible(html, tmp_path, width, scheme):
    pytest.importorskip("playwright", reason="playwright is not installed")
    from tests.report.test_browser import LOW_CONTRAST, OVERFLOW

    page = tmp_path / "explanation.html"
    page.write_text(html, "utf-8")
    seen = look(page, OVERFLOW, LOW_CONTRAST, width=width, scheme=scheme)
    assert seen.requests == [page.resolve().as_uri()]
    assert (seen.complaints, seen.values[1]) == ([], [])
    assert seen.values[0] <= 0
