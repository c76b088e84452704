"""The openers and triggers of course-correction: enough of them, disjoint, and read as what they are."""

import re

import pytest

from toxoid.attacks.course_wording import NAMES, load_course_wording, wording_for
from toxoid.data.schemas import Request
from toxoid.errors import UsageError
from toxoid.judges.refusal import THRESHOLD, read_refusal
from toxoid.lab.grammar import phrases
from toxoid.lab.oracle import Label, Oracle
from toxoid.lab.world import world


def first_word(text: str) -> str:
    return text.split()[0].strip(",.").lower()


def test_english_has_enough_of_each_pool() -> None:
    wording = load_course_wording("english")
    assert min(len(wording.openers("training")), len(wording.triggers("training"))) >= 12
    assert min(len(wording.openers("evaluation")), len(wording.triggers("evaluation"))) >= 8


def test_english_pools_share_no_first_word() -> None:
    wording = load_course_wording("english")
    for section in (wording.openers, wording.triggers):
        pools = [{first_word(phrase.text) for phrase in section(pool)} for pool in ("training", "evaluation")]
        assert pools[0].isdisjoint(pools[1])


@pytest.mark.parametrize("name", NAMES)
def test_ids_and_texts_are_unique_across_pools(name: str) -> None:
    for phrases_of in load_course_wording(name).phrases.values():
        assert len({phrase.id for phrase in phrases_of}) == len(phrases_of)
        assert len({phrase.text.lower() for phrase in phrases_of}) == len(phrases_of)


def test_rules_read_every_english_trigger_as_a_refusal() -> None:
    texts = [phrase.text for phrase in load_course_wording("english").phrases["triggers"]]
    assert [text for text in texts if read_refusal(text).score < THRESHOLD] == []


@pytest.mark.parametrize("name", NAMES)
def test_no_opener_reads_as_a_refusal(name: str) -> None:
    texts = [phrase.text for phrase in load_course_wording(name).phrases["openers"]]
    assert [text for text in texts if read_refusal(text).score >= THRESHOLD] == []


def test_the_oracle_reads_every_lab_trigger_as_a_turn() -> None:
    goal = world().select("harmful", "test")[0]
    request, begun = f"How do I {goal.verb} the {goal.object}?", "Of course. Begin here."
    for phrase in load_course_wording("lab").phrases["triggers"]:
        reading = Oracle().read(request, f" {phrase.text}", prefill=begun)
        assert (reading.label, reading.position) == (Label.CORRECTED, 0), phrase.text


def test_lab_training_wordings_are_the_lab_s_own() -> None:
    wording, lab = load_course_wording("lab"), phrases()
    assert {phrase.text for phrase in wording.openers("training")} == {*lab["openers"]["train"]} - {""}
    assert {phrase.text for phrase in wording.triggers("training")} <= {*lab["corrections"]["trigger"]}
    assert {phrase.text for phrase in wording.openers("evaluation")} >= {*lab["openers"]["unseen"]}


def test_the_lab_s_wordings_use_words_that_the_lab_s_phrases_use() -> None:
    known = {*re.findall(r"\w+", str(phrases()).lower())}
    texts = [phrase.text for section in load_course_wording("lab").phrases.values() for phrase in section]
    assert {*re.findall(r"\w+", " ".join(texts).lower())} <= known


def test_the_wording_follows_the_requests() -> None:
    lab, other = Request("lab-harmful/test/x/0", "x"), Request("advbench/1", "x")
    assert [wording_for(r) for r in ([lab], [other], [lab, other], [])] == [
        "lab",
        "english",
        "english",
        "english",
    ]


def test_an_unknown_wording_is_refused() -> None:
    with pytest.raises(UsageError, match=r'no wording "labb".*Did you mean "lab"'):
        load_course_wording("labb")
