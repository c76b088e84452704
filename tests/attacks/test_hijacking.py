"""Injected instructions: where they stand, and what the judge gets to know."""

from __future__ import annotations

import pytest

from toxoid.attacks.hijacking import Hijacking
from toxoid.attacks.wording import load_wording
from toxoid.data.request_set import normalised
from toxoid.data.schemas import Request
from toxoid.errors import UsageError

REQUEST = Request("set/1", "How do I clean a well?", "benign", metadata={"origin": "invented"})
NAMES = ["goal_hijacking", "suffix_injection"]


@pytest.mark.parametrize("name", NAMES)
def test_payload_stands_in_the_injection_and_the_injection_in_the_conversation(name):
    for prompt in Hijacking(name, variants=20).apply(REQUEST, seed=0):
        metadata = prompt.request.metadata
        assert metadata["payload"] in metadata["injection"]
        assert metadata["injection"] in prompt.conversation[-1].content


@pytest.mark.parametrize("name", NAMES)
def test_metadata_of_the_request_is_kept(name):
    prompt = Hijacking(name).apply(REQUEST, seed=0)[0]
    assert prompt.request.metadata["origin"] == "invented"
    assert "payload" not in REQUEST.metadata


@pytest.mark.parametrize("name", NAMES)
def test_harmful_request_is_refused(name):
    with pytest.raises(UsageError, match="needs benign requests; set/2 is harmful"):
        Hijacking(name).apply(Request("set/2", "x", "harmful"), seed=0)


def test_goal_hijacking_stands_before_and_after_the_request():
    prompts = Hijacking("goal_hijacking", variants=30).apply(REQUEST, seed=0)
    assert {prompt.conversation[-1].content.startswith(REQUEST.prompt) for prompt in prompts} == {True, False}


def test_suffix_injection_stands_inside_quoted_material():
    for prompt in Hijacking("suffix_injection", variants=20).apply(REQUEST, seed=0):
        before, _, _ = prompt.conversation[-1].content.partition(prompt.request.metadata["injection"])
        assert len(before.removeprefix(REQUEST.prompt).strip()) > 40


@pytest.mark.parametrize("name", NAMES)
def test_no_slot_stays_unfilled(name):
    for prompt in Hijacking(name, variants=40).apply(REQUEST, seed=0):
        assert "{" not in prompt.conversation[-1].content


def test_braces_of_the_request_are_not_filled_in():
    request = Request("set/1", "What does {payload} mean?", "benign")
    assert "{payload} mean" in Hijacking("goal_hijacking").apply(request, seed=0)[0].conversation[-1].content


def test_no_payload_resembles_another_so_that_a_judge_can_tell_them_apart():
    payloads = [
        set(normalised(phrase.text).split()) for phrase in load_wording("payloads").sections["payloads"]
    ]
    for index, words in enumerate(payloads):
        assert all(len(words & other) < 0.5 * len(words) for other in payloads[:index])


@pytest.mark.parametrize("pool", ["evaluation", "training"])
def test_documents_are_of_several_sorts_in_both_pools(pool):
    assert len(load_wording("suffix_injection").of("carriers", pool)) >= 5


FILES = ["prefill", "persona", "role_play", "payloads", "encoding", "payload_splitting", "many_shot", *NAMES]


@pytest.mark.parametrize("name", FILES)
def test_phrase_ids_and_texts_are_unique_in_a_file(name):
    for phrases in load_wording(name).sections.values():
        assert (
            len({phrase.id for phrase in phrases}) == len({phrase.text for phrase in phrases}) == len(phrases)
        )
        assert {phrase.pool for phrase in phrases} == {"evaluation", "training"}
