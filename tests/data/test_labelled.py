"""Texts with human labels, from files and from registered sets."""

from __future__ import annotations

import json

import pytest

from toxoid.data.labelled import NEGATIVE, WORDS, read_labelled
from toxoid.errors import UsageError

SPELLINGS = [
    (spelling, label)
    for labels in WORDS.values()
    for label, spellings in labels.items()
    for spelling in spellings
]


def test_reads_prompt_reply_label_and_group(write):
    path = write("f.csv", "prompt,reply,label,category\nHow so?,Thus.,0,maths\nAnd then?,No.,1,history\n")
    first, second = read_labelled(path)
    assert first.exchange.request.prompt == first.exchange.conversation[-1].content == "How so?"
    assert (first.exchange.completion, second.exchange.completion) == ("Thus.", "No.")
    assert (first.human, second.human) == (False, True)
    assert (first.group, second.group, first.source) == ("maths", "history", "f")


def test_texts_without_a_reply_or_group(write):
    items = read_labelled(write("f.csv", "text,label\na b,safe\nc d,unsafe\n"))
    assert [item.exchange.completion for item in items] == ["", ""]
    assert {item.group for item in items} == {"all"}


@pytest.mark.parametrize(("spelling", "label"), SPELLINGS)
@pytest.mark.parametrize("change", [str, str.upper, lambda word: f" {word.replace(' ', '_')} "])
def test_every_spelling_is_known_in_any_dress(write, spelling, label, change):
    others = "no yes" if label in WORDS["truth"] else "compliance refusal"
    others = "safe unsafe" if label in WORDS["harm"] else others
    rows = [change(spelling), *others.split()]
    path = write("f.csv", "text,label\n" + "".join(f"t{i},{word}\n" for i, word in enumerate(rows)))
    item = read_labelled(path)[0]
    assert item.label == label
    assert item.human is (label not in NEGATIVE)


def test_xstest_labels_three_ways(write):
    rows = "a,b,1_full_compliance\na2,b,2_full_refusal\na3,b,3_partial_refusal\n"
    items = read_labelled(write("f.csv", "prompt,completion,final_label\n" + rows))
    assert [item.label for item in items] == ["compliance", "refusal", "partial refusal"]
    assert [item.human for item in items] == [False, True, True]


@pytest.mark.parametrize("values", [(0, 1), (False, True), (0.0, 1.0)])
def test_json_numbers_and_truth_values(write, values):
    path = write("f.jsonl", "\n".join(json.dumps({"text": f"t {v}", "human": v}) for v in values))
    assert [item.human for item in read_labelled(path)] == [False, True]


def test_final_label_goes_before_a_label_of_the_prompt(write):
    path = write("f.csv", "prompt,label,final_label\na,safe,refusal\nb,unsafe,compliance\n")
    assert [item.label for item in read_labelled(path)] == ["refusal", "compliance"]


def test_replies_to_one_prompt_share_its_id_across_files(write):
    one = write("one.csv", "prompt,reply,label\nSo?,a,0\nHow?,b,1\n")
    two = write("two.csv", "prompt,reply,label\nhow,c,0\nWhy?,d,1\n")
    items = read_labelled(one, two)
    assert [item.exchange.request.id for item in items] == ["one/0", "one/1", "one/1", "two/1"]
    assert [item.source for item in items] == ["one", "one", "two", "two"]


def test_a_registered_set_is_labelled_by_kind():
    items = read_labelled("contrast", "contrast-ordinary")
    assert {(item.exchange.request.kind, item.label) for item in items} == {
        ("harmful", "problematic"),
        ("contentious", "harmless"),
        ("benign", "harmless"),
    }


def test_sets_of_one_kind_can_be_given_together_only(write):
    hits, misses = write("a.csv", "text,label\na,toxic\n"), write("b.csv", "text,label\nb,not toxic\n")
    assert len(read_labelled(hits, misses)) == 2
    with pytest.raises(UsageError, match=r"a\.csv: the labels are 1 problematic; .*other label"):
        read_labelled(hits)


def test_a_file_whose_rows_say_their_kind_needs_no_label(write):
    path = write("f.jsonl", '{"prompt": "a", "kind": "benign"}\n{"prompt": "b", "kind": "harmful"}\n')
    assert [item.label for item in read_labelled(path)] == ["harmless", "problematic"]


def test_an_unknown_word_is_refused_with_its_line(write):
    with pytest.raises(UsageError, match=r"f\.csv, line 3: .*'refusel'.*Did you mean \"refusal\""):
        read_labelled(write("f.csv", "text,label\na,compliance\nb,refusel\n"))


def test_an_empty_label_is_refused(write):
    with pytest.raises(UsageError, match="line 2"):
        read_labelled(write("f.csv", "text,label\na,\n"))


def test_a_file_without_labels_is_refused_with_its_columns(write):
    with pytest.raises(
        UsageError, match=r"no label among the columns prompt, mood; expected one of final_label"
    ):
        read_labelled(write("f.csv", "prompt,mood\na,good\n"))


def test_a_file_without_texts_is_refused(write):
    with pytest.raises(UsageError, match='Name the request column "prompt"'):
        read_labelled(write("f.csv", "words,label\na,1\nb,0\n"))


def test_labels_of_two_questions_are_refused(write):
    with pytest.raises(UsageError, match="1 problematic, 1 compliance; expected those of one question"):
        read_labelled(write("f.csv", "text,label\na,unsafe\nb,compliance\n"))
