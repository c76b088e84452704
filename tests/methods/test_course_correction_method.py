"""Course-correction on a scripted model: what it makes, what it learns from, what it refuses."""

from dataclasses import replace

import pytest

from tests.helpers.scripted_engine import ScriptedEngine
from toxoid.data.groups import group_row
from toxoid.data.lab import lab_requests
from toxoid.data.writing import write_jsonl_atomic
from toxoid.errors import UsageError
from toxoid.judges.lab import LabOracleJudge
from toxoid.methods.base import MethodInput
from toxoid.methods.registry import make_method

HARMFUL = lab_requests("lab-harmful", split="train").requests[:6]
BENIGN = lab_requests("lab-benign", split="train").requests[:5]
REPLIES = {request.prompt: request.target for request in HARMFUL}


def model(request, index):
    """Ends a turn with a reason; asked for harm in other words, gives it."""
    text = request.conversation[-1].content
    if any(word in request.prefill for word in ("stop", "cannot", "should not")):
        return " That is harmful work."
    return next((reply for prompt, reply in REPLIES.items() if prompt in text), "What?")


def synthesise(harmful=HARMFUL, **options):
    judge = LabOracleJudge()
    given = MethodInput(
        engine=ScriptedEngine(model),
        judges=dict.fromkeys(judge.aspects, judge),
        harmful=harmful,
        benign=BENIGN,
        options=options,
    )
    return make_method("course-correction").synthesise(given)


def test_every_request_gives_a_group_beside_the_anchors():
    assert synthesise().by_source() == {"groups": 6, "general": 5}


def test_the_recommended_recipe_imitates_and_compares_nothing():
    made = synthesise().preferences
    assert all(example.imitated and not example.pairs for example in made.examples)
    assert (made.objective.weight, made.objective.imitation) == (0.0, 1.0)


def test_no_pair_of_the_corrections_rejects_one():
    rejected = {
        example.group.replies[pair[1]].kind
        for example in synthesise(pairs="corrections").preferences.examples
        for pair in example.pairs
    }
    assert rejected == {"harmful"}


def test_the_whole_reply_is_corrected_last_unless_the_paper_is_followed():
    ranks = [max(reply.rank for reply in e.group.replies) for e in synthesise().preferences.examples]
    published = [max(r.rank for r in e.group.replies) for e in synthesise(late=False).preferences.examples]
    assert (set(ranks), set(published)) == ({6}, {5})


def test_a_request_without_a_harmful_reply_gets_the_models_own():
    bare = [replace(request, target=None) for request in HARMFUL]
    made = synthesise(bare)
    assert made.counts["mistakes"] == len(made.preferences.examples) == 6


def test_the_data_sets_replies_alone_leave_requests_without_one_out():
    bare = [replace(HARMFUL[0], target=None), *HARMFUL[1:]]
    assert synthesise(bare, harmful_replies="dataset").by_source()["groups"] == 5


def test_fewer_groups_are_part_of_more():
    def chosen(count):
        return {example.group.id for example in synthesise(max_groups=count).preferences.examples}

    assert len(chosen(2)) == 2
    assert chosen(2) < chosen(4)


def test_groups_made_before_are_read_from_their_file(tmp_path):
    made = [example.group for example in synthesise().preferences.examples]
    write_jsonl_atomic(tmp_path / "groups.jsonl", (group_row(group) for group in made))
    again = synthesise(groups=str(tmp_path / "groups.jsonl"))
    assert [example.group for example in again.preferences.examples] == made


def test_requests_that_give_no_group_are_a_usage_error():
    with pytest.raises(UsageError, match="no group could be made"):
        synthesise([replace(HARMFUL[0], target=None)], harmful_replies="dataset")


def test_nothing_to_learn_is_a_usage_error():
    with pytest.raises(UsageError, match="Set `pairs`"):
        synthesise(pairs="none", imitate="none")


def test_an_unknown_option_is_a_usage_error():
    with pytest.raises(UsageError, match="paris"):
        synthesise(paris="all")
