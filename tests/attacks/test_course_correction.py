"""Course-correction: whole replies cut after k words, openers and triggers of their pools, one per request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxoid.attacks.base import Cut
from toxoid.attacks.course_correction import LENGTHS, CourseCorrection, first_words
from toxoid.attacks.course_wording import load_course_wording
from toxoid.data.schemas import Request
from toxoid.errors import UsageError

REPLY = "Take  the lamp.\nThen\tturn it " + "again and " * 50 + "stop."
HARMFUL = Request("set/1", "How?", "harmful", target=REPLY, reference="I will not help.")
BENIGN = Request("set/1", "How?", "benign", target="wrong", reference="Boil the water, and wait.")
texts = st.text(alphabet=st.sampled_from("ab.é \t\n\u00a0\u2003"), max_size=60)


def openers(pool, wording="english"):
    return {phrase.text for phrase in load_course_wording(wording).openers(pool)}


@given(texts, st.integers(1, 12))
def test_first_words_are_those_of_split_with_their_blanks(text, count):
    begun, whole = first_words(text, count)
    assert text.startswith(begun)
    assert begun.split() == text.split()[:count]
    assert begun == begun.rstrip()
    assert whole == (len(text.split()) < count)


def test_prefill_is_opener_and_reply_cut_after_each_length():
    prompts = CourseCorrection().apply(HARMFUL, seed=0)
    assert [prompt.cut for prompt in prompts] == [Cut(k) for k in LENGTHS]
    assert [len(prompt.prefill.split()) for prompt in prompts] == list(LENGTHS)
    assert "Take  the lamp.\nThen\tturn" in prompts[-1].prefill


def test_opener_is_the_same_at_every_length():
    prompts = CourseCorrection().apply(HARMFUL, seed=0)
    assert all(prompts[-1].prefill.startswith(prompt.prefill) for prompt in prompts)


def test_a_text_that_is_too_short_is_used_wholly_and_marked():
    prompts = CourseCorrection(opener=None, lengths=(3, 5, 6)).apply(BENIGN, seed=0)
    assert [prompt.prefill for prompt in prompts] == ["Boil the water,", BENIGN.reference, BENIGN.reference]
    assert [prompt.cut for prompt in prompts] == [Cut(3), Cut(5), Cut(6, whole=True)]


def test_harmful_requests_begin_with_their_target_and_others_with_their_reference():
    attack = CourseCorrection(opener=None, lengths=(2,))
    assert attack.apply(HARMFUL, seed=0)[0].prefill == "Take  the"
    assert attack.apply(BENIGN, seed=0)[0].prefill == "Boil the"


def test_trigger_ends_the_prefill_and_does_not_count_among_its_words():
    prompt = CourseCorrection(opener=None, trigger="evaluation", lengths=(2,)).apply(HARMFUL, seed=0)[0]
    assert prompt.prefill == f"Take  the {prompt.cut.trigger}"
    assert prompt.cut.trigger in {p.text for p in load_course_wording("english").triggers("evaluation")}


@pytest.mark.parametrize("wording", ["english", "lab"])
def test_openers_and_triggers_of_evaluation_are_never_those_of_training(wording):
    known = load_course_wording(wording)
    for pool in (known.openers, known.triggers):
        assert not {p.text for p in pool("training")} & {p.text for p in pool("evaluation")}
    requests = [Request(f"set/{row}", "How?", target=REPLY) for row in range(200)]
    attack = CourseCorrection(lengths=(40,), wording=wording)
    prefills = [attack.apply(request, seed=0)[0].prefill for request in requests]
    for opener in openers("training", wording):
        assert not any(prefill.startswith(f"{opener} Take") for prefill in prefills)


def test_opener_depends_on_seed_and_id_and_not_on_the_row():
    requests = [Request(f"set/{row}", "How?", target=REPLY) for row in range(20)]
    attack = CourseCorrection(lengths=(10,))
    found = [attack.apply(request, seed=0)[0].variant for request in requests]
    assert found[::-1] == [attack.apply(request, seed=0)[0].variant for request in requests[::-1]]
    assert found != [attack.apply(request, seed=1)[0].variant for request in requests]


def test_wording_follows_the_requests_unless_it_is_named():
    lab = Request("lab-harmful/1", "How?", target=REPLY)
    attack = CourseCorrection(lengths=(20,))
    assert any(attack.apply(lab, seed=0)[0].prefill.startswith(text) for text in openers("evaluation", "lab"))
    named = CourseCorrection(lengths=(20,), wording="english").apply(lab, seed=0)[0]
    assert any(named.prefill.startswith(text) for text in openers("evaluation"))


def test_variants_are_different_openers():
    prompts = CourseCorrection(variants=3, lengths=(10, 20)).apply(HARMFUL, seed=0)
    assert len({prompt.variant for prompt in prompts}) == len({prompt.prefill for prompt in prompts}) == 6


def test_more_variants_than_openers_are_refused():
    with pytest.raises(UsageError, match="Ask for 1 to"):
        CourseCorrection(variants=1000)


def test_a_request_without_a_reply_is_refused():
    with pytest.raises(UsageError, match="set/1 has no target"):
        CourseCorrection().apply(Request("set/1", "How?", target="  "), seed=0)


def test_pools_and_lengths_are_in_the_identity():
    identities = [CourseCorrection(), CourseCorrection(opener=None), CourseCorrection(lengths=(10,))]
    assert len({str(attack.identity()) for attack in identities}) == 3
