"""What a judge learns and is measured on: no prompt on both sides, and labels of one question."""

from __future__ import annotations

import pytest

from tests.loop.judges import LAB, prompts, recipe, replies, write
from toxoid.errors import UsageError
from toxoid.loop.judge_data import load_prompts
from toxoid.methods.adversarial_tuning.prompts import keys_of


@pytest.fixture
def own(tmp_path):
    return write(tmp_path / "own.csv", prompts())


def loaded(data, **holdout):
    return load_prompts(recipe(data=data, holdout=holdout))


def learnt(data):
    return keys_of([*data.seeds, *data.negatives]) | {row.key for row in data.known}


def test_nothing_held_out_is_learnt():
    found = load_prompts(recipe(holdout={"unseen": ["lab-jailbreak"]}))
    assert not learnt(found) & keys_of([*found.held_out, *found.unseen, *found.people])
    assert found.held_out
    assert found.unseen


def test_the_seeds_are_half_and_half_and_the_rest_is_not_among_them():
    found = load_prompts(recipe())
    assert [sum(row.problematic is side for row in found.seeds) for side in (True, False)] == [8, 8]
    assert not keys_of(found.seeds) & keys_of(found.known)
    assert not any(row.problematic for row in found.negatives)


def test_a_file_is_split_by_its_prompts(own):
    found = loaded({"labelled": [own]})
    assert len(found.seeds) + len(found.held_out) == len(prompts())
    assert {row.problematic for row in found.held_out} == {True, False}
    assert loaded({"labelled": [own]}).held_out == found.held_out


def test_excluded_prompts_are_left_out_and_counted(tmp_path, own):
    harmful = [row for row in prompts() if row["label"] == "problematic"]
    other = write(tmp_path / "other.csv", [{"prompt": row["prompt"].upper()} for row in harmful[:8]])
    without, found = loaded({"labelled": [own]}), loaded({"labelled": [own], "exclude": [other]})
    gone = [row for row in without.seeds if row.text in [each["prompt"] for each in harmful[:8]]]
    assert gone
    assert len(found.seeds) == len(without.seeds) - len(gone)
    assert found.left_out == without.left_out + len(gone)


def test_what_is_nearly_an_excluded_prompt_is_left_out_too(tmp_path, own):
    first = prompts()[0]["prompt"]
    task = first.rpartition(" at ")[0]
    other = write(tmp_path / "other.csv", [{"prompt": first}])
    assert any(row.text.startswith(task) for row in loaded({"labelled": [own]}).seeds)
    found = loaded({"labelled": [own], "exclude": [other]}).seeds
    assert found
    assert not any(row.text.startswith(task) for row in found)


def test_people_s_labels_are_not_learnt(tmp_path, own):
    asked = write(tmp_path / "people.csv", prompts()[::5])
    found = loaded({"labelled": [own]}, people=[asked])
    assert len(found.people) == len(prompts()[::5])
    assert not learnt(found) & keys_of(found.people)


def test_attacks_on_the_held_out_prompts_are_a_slice_of_their_own(own):
    found = loaded({"labelled": [own]}, unseen_attacks=["persona"])
    assert len(found.unseen) == len(found.held_out)
    assert all(row.text != held.text for row, held in zip(found.unseen, found.held_out, strict=True))
    assert [row.problematic for row in found.unseen] == [row.problematic for row in found.held_out]


def test_the_sources_have_name_hash_and_licence(own):
    for found in (loaded({"labelled": [own]}), load_prompts(recipe())):
        assert all({"name", "sha256", "licence"} == source.keys() for source in found.sources)


def test_a_set_that_is_held_out_whole_leaves_nothing_to_learn(own):
    with pytest.raises(UsageError, match="0 problematic and 0 harmless prompts to learn from"):
        loaded({"labelled": [own]}, people=[own])


def test_labels_of_refusal_are_none_of_harm(tmp_path):
    with pytest.raises(UsageError, match="which replies decline"):
        loaded({"labelled": [write(tmp_path / "replies.csv", replies())]})


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.csv", None, "no such file"),
        ("empty.csv", b"", "empty"),
        ("binary.csv", b"\xff\xfe\x00prompt,label\n", "UTF-8"),
        ("word.csv", b"prompt,label\nHow?,maybe\n", "maybe"),
        ("unlabelled.csv", b"prompt,number\nHow?,2\n", "label"),
        ("one.csv", b"prompt,label\nHow?,safe\nWho?,safe\n", "hits and misses"),
        ("blank.csv", b"prompt,label\n,safe\nWho?,unsafe\n", "empty"),
    ],
)
def test_a_file_that_cannot_work_is_told_in_a_line(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=said) as error:
        loaded({"labelled": [str(tmp_path / name)]})
    assert "\n" not in str(error.value)


def test_an_unknown_set_is_told():
    with pytest.raises(UsageError, match="lab-harmfull"):
        loaded({**LAB["data"], "problematic": ["lab-harmfull"]})
