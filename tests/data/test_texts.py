"""Held-out texts from files and data sets."""

import json

import pytest

from toxoid.data.texts import load_texts
from toxoid.errors import UsageError


def test_a_plain_file_has_one_text_per_line(tmp_path):
    (tmp_path / "held.txt").write_text("one line\n\nanother line\n")
    found = load_texts(str(tmp_path / "held.txt"), limit=10)
    assert [text.text for text in found.texts] == ["one line", "another line"]
    assert not any(text.conversation for text in found.texts)


def test_a_column_of_texts_is_read(tmp_path):
    rows = [{"text": f"text {number}", "other": 1} for number in range(3)]
    (tmp_path / "held.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [text.text for text in load_texts(str(tmp_path / "held.jsonl"), limit=10).texts] == [
        r["text"] for r in rows
    ]


def test_references_are_replies_to_their_requests():
    found = load_texts("lab-benign", limit=5)
    assert len(found.texts) == 5
    assert all(text.conversation[-1].role == "user" and text.text for text in found.texts)


def test_a_limit_chooses_by_hash_and_not_by_order():
    some, all_ = (load_texts("lab-benign", limit=limit) for limit in (20, 10_000))
    assert set(some.texts) < set(all_.texts)
    assert some.texts != all_.texts[:20]
    assert some == load_texts("lab-benign", limit=20)


def test_requests_without_references_are_refused(tmp_path):
    (tmp_path / "asked.csv").write_text("prompt\nHow do I mend a lamp?\n")
    with pytest.raises(UsageError, match=r"capability\.texts.*reference"):
        load_texts(str(tmp_path / "asked.csv"), limit=5)


def test_a_name_that_is_none_is_refused():
    with pytest.raises(UsageError, match="neither a data set nor a file"):
        load_texts("no-such-set", limit=5)
