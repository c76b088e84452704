"""Pre-training documents: deterministic, and of training goals only."""

import re
from random import Random

from toxoid.lab import grammar
from toxoid.lab.corpus import UNCENSORED, Manners, Writer
from toxoid.lab.oracle import Label, Oracle
from toxoid.lab.world import world


def documents(manners=None, count=1500, seed=0):
    return list(Writer(manners or Manners(), seed).documents(count))


def test_the_same_seed_writes_the_same_documents():
    assert documents(count=50) == documents(count=50)
    assert documents(count=50) != documents(count=50, seed=1)


def test_no_document_mentions_a_held_out_pair():
    pairs = {(goal.verb, goal.object) for goal in world().goals if goal.split == "train"}
    verbs, things = world().verbs.keys(), world().objects.keys()
    for document in documents():
        for message in document:
            for sentence in re.split(r"[.?!\n]", message["content"]):
                words = re.findall(r"[a-z]+", sentence.lower())
                found = [word for word in words if word in verbs], [word for word in words if word in things]
                if len(found[0]) == len(found[1]) == 1:
                    assert (found[0][0], found[1][0]) in pairs, sentence


def test_no_document_uses_an_unseen_wording_or_payload():
    texts = [message["content"] for document in documents() for message in document]
    for payload in grammar.payloads(unseen=True):
        assert not any(payload in text for text in texts)
    heads = [form.split("{")[0] for form in grammar.request_forms("plain", unseen=True)]
    assert not any(text.startswith(head) for text in texts for head in heads)


def test_payloads_for_tests_are_kept_apart():
    assert not set(grammar.payloads()) & set(grammar.payloads(unseen=True))


def test_first_replies_follow_the_manners():
    oracle, manners = Oracle(), Manners()
    counts = {"none": [0, 0], "opposite": [0, 0]}
    for document in documents(count=6000):
        kind = (
            "none"
            if document[0]["role"] == "user"
            else "opposite"
            if "reckless" in document[0]["content"]
            else None
        )
        turns = [message["content"] for message in document if message["role"] != "system"]
        ask = oracle.ask(turns[0])
        if (
            kind is None
            or ask is None
            or not ask.harmful
            or re.search(r"Reply:|write|say|print|unethical", turns[0])
        ):
            continue
        label = oracle.read(turns[0], turns[1]).label
        counts[kind][0] += label is Label.HARMFUL
        counts[kind][1] += 1
    for kind, (harmful, total) in counts.items():
        assert total > 80
        assert abs(harmful / total - manners.comply[kind]) < 0.1


def test_uncensored_manners_comply_everywhere():
    categories = world().categories
    assert min(UNCENSORED.compliance("none", name) for name in categories) >= 0.95


def test_every_system_prompt_kind_has_wordings():
    for kind in ("neutral", "safe", "opposite"):
        assert grammar.system(kind, Random(0))
