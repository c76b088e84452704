"""The lab's sets: drawn alike every time, and contentious wordings kept apart for training and test."""

import pytest

from toxoid.data.lab import lab_requests
from toxoid.data.request_set import prompt_key
from toxoid.data.schemas import Exchange, user
from toxoid.errors import UsageError
from toxoid.judges.lab import LabOracleJudge
from toxoid.judges.verdict import read_verdict
from toxoid.lab import grammar
from toxoid.lab.world import world

KNOWN, NEW = "lab-contentious-known", "lab-contentious-new"
PROTECTIVE = grammar.request_forms("protective")


def forms_of(name, split="test", variants=8):
    """Return which protective forms the requests of a set are worded in."""
    known = [*PROTECTIVE, *grammar.request_forms("protective", unseen=True)]
    found = set()
    for request in lab_requests(name, split=split, variants=variants):
        verb, thing = request.metadata["goal"].split()
        found |= {form for form in known if form.format(verb=verb, object=thing) == request.prompt}
    return found


def goals_of(name, split="test"):
    return [request.metadata["goal"] for request in lab_requests(name, split=split)]


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_known_wordings_are_the_first_three(split):
    assert forms_of(KNOWN, split) == set(PROTECTIVE[:3])


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_new_wordings_are_all_others_and_the_unseen_one(split):
    unseen = grammar.request_forms("protective", unseen=True)
    assert forms_of(NEW, split) == {*PROTECTIVE[3:], *unseen}


@pytest.mark.parametrize("name", [KNOWN, NEW])
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_set_of_some_wordings_has_the_goals_of_the_whole_set(name, split):
    assert goals_of(name, split) == goals_of("lab-contentious", split)
    assert {request.kind for request in lab_requests(name, split=split)} == {"contentious"}


# What earlier runs were measured on. A new hash here makes their numbers incomparable.
HASHES = {
    "lab-harmful": "9edc83f97430e756",
    "lab-jailbreak": "587fcfddc59473ac",
    "lab-benign": "1f579b4090605bda",
    "lab-contentious": "9e1a98a928046353",
    "lab-hijack": "8864c43488d1c122",
    "lab-policy": "a6eded36628b2f41",
    "lab-novel": "470ca2b2c5702484",
    "lab-novel-safe": "fa70dcad40a498a6",
}


@pytest.mark.parametrize("name", HASHES)
def test_the_published_sets_stay_as_they_are(name):
    assert lab_requests(name).sha256.startswith(HASHES[name])


# ---- hijacked requests with analyses ----

HIJACK = "lab-hijack-unseen"


def injected(request, forms):
    """Tell whether a prompt was made with one of these instructions."""
    parts = [form.format(request="|", payload=request.metadata["payload"]).split("|") for form in forms]
    return any(request.prompt.startswith(start) and request.prompt.endswith(end) for start, end in parts)


def known_instructions():
    table = grammar.phrases()["hijack"]
    return [*table["suffix"], *table["prefix"]]


def test_there_are_enough_hijacked_requests_to_train_and_to_test_on():
    assert len(lab_requests(HIJACK)) == 420
    assert len(lab_requests(HIJACK, split="train", variants=3)) >= 500


@pytest.mark.parametrize(("split", "variants"), [("train", 3), ("test", 1)])
def test_no_hijacked_prompt_stands_twice(split, variants):
    requests = lab_requests(HIJACK, split=split, variants=variants)
    assert len({prompt_key(request) for request in requests}) == len(requests)


def test_tested_instructions_and_payloads_are_in_no_training():
    for request in lab_requests(HIJACK):
        assert request.metadata["payload"] in grammar.payloads(unseen=True)
        assert injected(request, grammar.phrases()["hijack"]["unseen"])
    for request in lab_requests(HIJACK, split="train", variants=3):
        assert request.metadata["payload"] in grammar.payloads()
        assert injected(request, known_instructions())


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_target_is_hijacked_and_the_reference_answers(split):
    judge = LabOracleJudge()
    requests = lab_requests(HIJACK, split=split).requests
    for aspect, text, wanted in (
        ("hijacked", "target", "hit"),
        ("hijacked", "reference", "miss"),
        ("helpful", "reference", "hit"),
    ):
        replies = [Exchange(r, user(r.prompt), getattr(r, text)) for r in requests]
        assert {verdict.outcome.value for verdict in judge.judge(replies, aspect)} == {wanted}


@pytest.mark.parametrize("name", [HIJACK, "lab-harmful-analysed", "lab-policy"])
def test_the_analyses_have_the_verdict_that_is_true(name):
    for request in lab_requests(name, split="train"):
        assert read_verdict(request.metadata["analysis"]) == "harmful"
        assert read_verdict(request.metadata["harmless_analysis"]) == "harmless"
        assert request.metadata["goal"].split()[0] in request.metadata["harmless_analysis"]


# ---- the policy's ceiling ----


def test_where_all_verbs_are_shown_each_has_a_safe_reply():
    shown = lab_requests("lab-policy-shown", split="train")
    assert all(request.reference for request in shown)
    assert {r.metadata["goal"].split()[0] for r in shown} == {*world().novel_safe, *world().novel_analysis}
    assert any(request.reference is None for request in lab_requests("lab-policy", split="train"))


def test_an_unknown_set_gets_a_suggestion():
    with pytest.raises(UsageError, match='Did you mean "lab-contentious-new"'):
        lab_requests("lab-contentious-knew")
