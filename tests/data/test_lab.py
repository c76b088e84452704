"""The lab's sets: drawn alike every time, and contentious wordings kept apart for training and test."""

import pytest

from toxoid.data.lab import lab_requests
from toxoid.errors import UsageError
from toxoid.lab import grammar

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


def test_an_unknown_set_gets_a_suggestion():
    with pytest.raises(UsageError, match='Did you mean "lab-contentious-new"'):
        lab_requests("lab-contentious-knew")
