"""Groups of ranked replies: what one may be, how it expands to pairs, how it is read from a row."""

import pytest

from toxoid.data.groups import Group, RankedReply, group_from_row, group_row
from toxoid.data.schemas import Message, user
from toxoid.errors import UsageError

ASKED = user("How do I curse a well?")
ROW = {"prompt": "How?", "replies": ["No.", "Take a coin."], "ranks": [0, 1]}


def group(*ranks, texts=None, **fields):
    texts = texts or [f"reply {index}" for index in range(len(ranks))]
    return Group("g", ASKED, tuple(map(RankedReply, texts, ranks)), **fields)


def test_six_ranks_make_fifteen_pairs_the_better_first():
    found = group(3, 0, 5, 1, 4, 2)
    pairs = found.pairs()
    assert len(pairs) == len(set(pairs)) == 15
    assert all(found.replies[a].rank < found.replies[b].rank for a, b in pairs)


def test_equal_ranks_are_not_compared():
    assert group(0, 1, 1).pairs() == [(0, 1), (0, 2)]


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: group(0), "1 replies"),
        (lambda: group(1, 1), "not ranked"),
        (lambda: group(0, -1), "rank -1"),
        (lambda: group(0, 1, texts=["a", " "]), "reply 1 is empty"),
        (lambda: group(0, 1, texts=["a", "a"]), "two replies are equal"),
        (lambda: Group("g", (), (RankedReply("a", 0), RankedReply("b", 1))), "user's message"),
        (
            lambda: Group("g", ASKED, (RankedReply("a", 0), RankedReply("b", 1, turn=1))),
            "turns at character 1",
        ),
    ],
)
def test_what_is_no_group_is_refused_by_name(make, complaint):
    with pytest.raises(UsageError, match=rf"^group g: .*{complaint}"):
        make()


def test_a_row_reads_back_as_the_group():
    replies = (RankedReply("No.", 0, "safe"), RankedReply("Take. But no.", 1, "syn1", 6))
    whole = Group("g", (Message("system", "Be kind."), *ASKED), replies, "Well: ", {"a": [1]})
    assert group_from_row(group_row(whole), where="f, row 1") == whole


def test_a_row_may_have_a_plain_prompt_and_no_more_than_it_needs():
    found = group_from_row(ROW, where="f, row 1")
    assert (found.id, found.conversation, found.trunk) == ("f, row 1", user("How?"), "")
    assert [(reply.rank, reply.kind, reply.turn) for reply in found.replies] == [(0, "", None), (1, "", None)]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"ranks": None}, "column 'ranks' is missing"),
        ({"replies": "No."}, "no list of texts"),
        ({"replies": ["No.", None]}, "no list of texts"),
        ({"ranks": [0]}, "2 replies and 1 ranks"),
        ({"ranks": [0, "1"]}, "whole numbers"),
        ({"ranks": [0, True]}, "whole numbers"),
        ({"ranks": [2, 2]}, "not ranked"),
        ({"kinds": ["a", 1]}, "give texts"),
        ({"turns": ["x", None]}, "characters' indices"),
        ({"replies": ["No.", ""]}, "reply 1 is empty"),
        ({"replies": ["No.", "No."]}, "two replies are equal"),
        ({"prompt": [{"role": "judge", "content": "x"}]}, "`prompt` is neither"),
        ({"prompt": [{"role": "user", "content": None}]}, "`prompt` is neither"),
        ({"prompt": 3}, "`prompt` is neither"),
    ],
)
def test_a_bad_row_is_named(change, complaint):
    with pytest.raises(UsageError, match=rf"^f, row 7: .*{complaint}"):
        group_from_row({**ROW, **change}, where="f, row 7")
