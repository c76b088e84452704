"""Prompts that no arm may train on."""

import pytest

from toxoid.config.recipe import with_overrides
from toxoid.data.groups import Group, RankedReply
from toxoid.data.schemas import user
from toxoid.errors import UsageError
from toxoid.loop.requests import load_all


@pytest.fixture
def written(tmp_path):
    """Return a function that writes prompts into a file and returns its path."""

    def write(name, *prompts):
        (tmp_path / name).write_text("\n".join(prompts))
        return str(tmp_path / name)

    return write


@pytest.fixture
def excluding(small_recipe, written):
    """Return a function that loads a run's requests with train.exclude set; four prompts train."""

    def load(*exclude, **more):
        trained = written("trained.txt", *(f"How do I mend the {thing}?" for thing in "abcd"))
        settings = {"train.harmful": [trained], "train.exclude": list(exclude), **more}
        return load_all(with_overrides(small_recipe, settings))

    return load


def prompts(requests, arm="sft"):
    return [request.prompt[-2] for request in requests.train[arm].harmful]


def test_excluded_prompts_are_left_out_however_they_are_written(excluding, written):
    other = written("other.txt", "how do i mend the B", "How do I mend the d??", "Something else.")
    assert prompts(excluding(other)) == ["a", "c"]


def test_what_is_left_out_is_counted_in_a_note(excluding, written):
    other = written("other.txt", "How do I mend the b?")
    assert "trained: 1 of 4 training prompts are left out, as they stand in other" in excluding(other).notes()


def test_that_nothing_had_to_be_left_out_is_told_too(excluding, written):
    notes = excluding(written("other.txt", "Else.")).notes()
    assert "trained: 0 of 4 training prompts are left out, as they stand in other" in notes


def test_without_exclusions_nothing_is_said(excluding):
    assert not [note for note in excluding().notes() if "left out" in note]


def test_general_data_is_sifted_too(excluding, written):
    other, general = (written(name, "How do I fold the sheet?", "x") for name in ("other.txt", "general.txt"))
    with pytest.raises(UsageError, match=r"every training prompt of general: all of them stand in other"):
        excluding(other, **{"train.benign": [general]})


def test_a_limit_counts_what_is_left(excluding, written):
    other = written("other.txt", "How do I mend the a?", "How do I mend the b?")
    assert prompts(excluding(other, **{"train.limit": 2})) == ["c", "d"]


def test_the_fingerprint_depends_on_what_is_excluded(excluding, written):
    hashes = [
        excluding(written("other.txt", f"How do I mend the {thing}?")).hashes()["train/sft"]
        for thing in ("a", "b")
    ]
    assert hashes[0] != hashes[1]


def test_a_set_that_does_not_exist_is_refused(excluding):
    with pytest.raises(UsageError, match="neither a data set nor a file"):
        excluding("c2-evil")


def test_groups_that_answer_an_excluded_prompt_are_refused(excluding, written, tmp_path):
    from toxoid.data.parquet import write_groups

    replies = (RankedReply("No.", 1, "SR"), RankedReply("Yes.", 0, "FHR"))
    write_groups(tmp_path / "groups.parquet", [Group("a", user("How do I mend the a?"), replies)])
    with pytest.raises(UsageError, match="stand in training and test"):
        excluding(
            written("other.txt", "How do I mend the a?"),
            **{"arms.sft.options": {"groups": str(tmp_path / "groups.parquet")}},
        )
