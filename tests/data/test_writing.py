"""Data sets out of toxoid: whole files, exact layouts, honest cards."""

from __future__ import annotations

import errno
import json
import os

import pytest
import yaml

from toxoid.data.loading import load_requests
from toxoid.data.schemas import Request, user
from toxoid.data.writing import (
    Preference,
    data_card,
    preference_row,
    write_jsonl_atomic,
    write_messages,
    write_preferences,
    write_requests,
)
from toxoid.errors import ToxoidError, UsageError

PAIR = Preference(
    user("How do I curse a well?"), "Leave it alone.", "Drop a tin coin.", {"origin": "invented"}
)
CARD = {
    "name": "Wells",
    "licence": "Apache-2.0",
    "generator": "toxoid 0.1, model X",
    "seeds": {"sampling": 7},
    "filters": ["empty replies"],
    "counts": {"train": 12},
}


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_rows_are_written_one_per_line(tmp_path):
    path = tmp_path / "new/rows.jsonl"
    assert write_jsonl_atomic(path, [{"a": "é\n"}, {"a": 2}]) == 2
    assert lines(path) == [{"a": "é\n"}, {"a": 2}]


def test_failure_in_the_middle_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_jsonl_atomic(path, [{"a": 1}])

    def rows():
        yield {"a": 2}
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_jsonl_atomic(path, rows())
    assert lines(path) == [{"a": 1}]
    assert os.listdir(tmp_path) == ["rows.jsonl"]


def test_full_disk_is_one_clear_line_and_loses_nothing(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    write_jsonl_atomic(path, [{"a": 1}])

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match=r"No space left on device; nothing was changed. Free some space"):
        write_jsonl_atomic(path, [{"a": 2}])
    assert lines(path) == [{"a": 1}]
    assert os.listdir(tmp_path) == ["rows.jsonl"]


@pytest.mark.parametrize("value", [float("nan"), object(), "\ud800"])
def test_row_that_json_cannot_say_is_named(tmp_path, value):
    with pytest.raises(ToxoidError, match=r"rows.jsonl, row 2: cannot be written as JSON"):
        write_jsonl_atomic(tmp_path / "rows.jsonl", [{"a": 1}, {"a": value}])


def test_preferences_have_an_explicit_prompt(tmp_path):
    write_preferences(tmp_path / "pairs.jsonl", [PAIR])
    assert lines(tmp_path / "pairs.jsonl") == [
        {
            "prompt": [{"role": "user", "content": "How do I curse a well?"}],
            "chosen": [{"role": "assistant", "content": "Leave it alone."}],
            "rejected": [{"role": "assistant", "content": "Drop a tin coin."}],
            "origin": "invented",
        }
    ]


def test_extra_column_may_not_overwrite_the_layout():
    with pytest.raises(ToxoidError, match="'chosen'"):
        preference_row(Preference(user("x"), "a", "b", {"chosen": "c"}))


def test_preferences_are_read_back(tmp_path):
    write_preferences(tmp_path / "pairs.jsonl", [PAIR])
    request = load_requests(tmp_path / "pairs.jsonl").requests[0]
    assert (request.prompt, request.reference, request.target) == (
        "How do I curse a well?",
        "Leave it alone.",
        "Drop a tin coin.",
    )


def test_messages_keep_every_turn(tmp_path):
    write_messages(tmp_path / "chat.jsonl", [user("Hello", system="Be brief.")])
    assert lines(tmp_path / "chat.jsonl") == [
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]}
    ]


def test_requests_are_read_back(tmp_path):
    written = Request("a/1", "x", "contentious", "wells", "bad", "good", {"payload": "p"})
    write_requests(tmp_path / "requests.jsonl", [written])
    read = load_requests(tmp_path / "requests.jsonl").requests[0]
    assert (read.prompt, read.kind, read.category, read.target, read.reference) == (
        "x",
        "contentious",
        "wells",
        "bad",
        "good",
    )
    assert dict(read.metadata) == {"payload": "p", "source_id": "a/1"}


def test_card_begins_with_the_metadata_of_the_hub():
    _, header, _ = data_card(**CARD).split("---\n", 2)
    assert yaml.safe_load(header)["license"] == "apache-2.0"


def test_card_of_another_licence_names_it():
    _, header, _ = data_card(**CARD | {"licence": "as the sources'"}).split("---\n", 2)
    assert yaml.safe_load(header) | {"license": "other", "license_name": "as the sources'"} == yaml.safe_load(
        header
    )


def test_card_states_seeds_filters_counts_and_sources():
    card = data_card(**CARD, sources={"advbench": "ab12"}, notes=["small"])
    for expected in (
        "| sampling | 7 |",
        "- empty replies",
        "| train | 12 |",
        "| advbench | ab12 |",
        "- small",
    ):
        assert expected in card


def test_card_leaves_out_what_there_is_not():
    assert "## Sources" not in data_card(**CARD)


def test_card_keeps_hostile_text_in_its_cell():
    assert "| a \\| b c | 1 |" in data_card(**CARD | {"counts": {"a | b\nc": 1}})
