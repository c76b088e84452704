from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toxoid.errors import UsageError
from toxoid.store import records as module
from toxoid.store.records import Records


@pytest.fixture
def store(tmp_path):
    with Records(tmp_path / "records.sqlite") as opened:
        yield opened


def rows(start, stop, kind="generation"):
    return [(f"key{number}", kind, {"number": number}) for number in range(start, stop)]


def test_what_was_put_is_found_after_reopening(tmp_path):
    with Records(tmp_path / "r") as store:
        store.put_many([("a", "verdict", {"score": 0.5, "reason": "é\ud800"}), ("b", "verdict", [1, None])])
    with Records(tmp_path / "r") as store:
        assert store.get_many(["b", "x", "a"]) == {"b": [1, None], "a": {"score": 0.5, "reason": "é\ud800"}}


def test_answer_follows_the_order_of_the_keys(store):
    store.put_many(rows(0, 5))
    assert list(store.get_many(["key3", "key0", "missing", "key4"])) == ["key3", "key0", "key4"]


def test_more_keys_than_variables_of_a_statement(store):
    store.put_many(rows(0, 2500))
    assert len(store.get_many([f"key{number}" for number in range(3000)])) == 2500


def test_first_payload_of_a_key_stays(store):
    store.put_many([("a", "k", 1), ("a", "k", 2)])
    store.put_many([("a", "k", 3)])
    assert store.get_many(["a"]) == {"a": 1}
    assert store.count() == 1


def test_batch_with_an_unstorable_payload_stores_nothing(store):
    with pytest.raises(TypeError):
        store.put_many([*rows(0, 3), ("bad", "k", object())])
    with pytest.raises(ValueError):
        store.put_many([*rows(0, 3), ("bad", "k", float("nan"))])
    assert store.count() == 0


def test_failure_inside_a_transaction_rolls_back(store):
    with pytest.raises(sqlite3.Error):
        store.put_many([*rows(0, 3), (None, "k", 1)])
    store.put_many(rows(3, 4))
    assert list(store.get_many([f"key{number}" for number in range(9)])) == ["key3"]


def test_count_and_kinds(store):
    store.put_many(rows(0, 3, "generation"))
    store.put_many(rows(3, 5, "verdict"))
    assert (store.count(), store.count("verdict"), store.count("none")) == (5, 2, 0)
    assert store.kinds() == {"generation": 3, "verdict": 2}


@settings(max_examples=25, deadline=None)
@given(kinds=st.lists(st.sampled_from("ab"), max_size=20))
def test_iterate_gives_one_kind_in_order_of_insertion(kinds, tmp_path_factory):
    with Records(tmp_path_factory.mktemp("records") / "r") as store:
        store.put_many([(f"k{number}", kind, number) for number, kind in enumerate(kinds)])
        assert list(store.iterate("a")) == [(f"k{n}", n) for n, kind in enumerate(kinds) if kind == "a"]


def test_iterate_crosses_pages_and_sees_rows_written_meanwhile(store, monkeypatch):
    store.put_many(rows(0, 600))
    seen = []
    for key, _ in store.iterate("generation"):
        if not seen:
            store.put_many(rows(600, 601))
        seen.append(key)
    assert seen == [f"key{number}" for number in range(601)]


def test_threads_may_write_and_read_at_once(store):
    def work(start):
        store.put_many(rows(start, start + 20))
        return len(store.get_many([f"key{number}" for number in range(start, start + 20)]))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(0, 400, 10))) == [20] * 40
    assert store.count() == 410


def test_full_disk_is_one_line_and_prior_commits_stay(store):
    store.put_many(rows(0, 10))
    store._connection.execute("PRAGMA max_page_count = 20")
    with pytest.raises(UsageError, match="the disk is full"):
        store.put_many([(f"big{number}", "k", "x" * 4000) for number in range(100)])
    assert store.count() == 10
    store._connection.execute("PRAGMA max_page_count = 100000")
    store.put_many(rows(10, 11))
    assert store.count() == 11


@pytest.mark.parametrize("content", [b"no database at all, but long enough to be read as one" * 20, b"short"])
def test_foreign_file_is_refused_and_untouched(tmp_path, content):
    (tmp_path / "r").write_bytes(content)
    with pytest.raises(UsageError, match="not a toxoid store"):
        Records(tmp_path / "r")
    assert (tmp_path / "r").read_bytes() == content


def test_another_programs_database_is_refused_and_untouched(tmp_path):
    connection = sqlite3.connect(tmp_path / "r")
    connection.execute("CREATE TABLE theirs(a)")
    connection.close()
    before = (tmp_path / "r").read_bytes()
    with pytest.raises(UsageError, match="not a toxoid store"):
        Records(tmp_path / "r")
    assert (tmp_path / "r").read_bytes() == before


def test_newer_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_SCHEMA", (*module._SCHEMA[:-1], "PRAGMA user_version = 7"))
    Records(tmp_path / "r").close()
    with pytest.raises(UsageError, match=r"newer toxoid \(store version 7, this one reads up to 1\)"):
        Records(tmp_path / "r")


def test_place_that_cannot_be_opened_is_one_line(tmp_path):
    with pytest.raises(UsageError, match="cannot be opened"):
        Records(tmp_path / "absent" / "r")


def test_store_that_another_process_writes_is_one_line(store, monkeypatch):
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.01)
    store._connection.execute("BEGIN IMMEDIATE")
    with Records(store.path) as second, pytest.raises(UsageError, match="another process is writing"):
        second.put_many(rows(0, 1))
    store._connection.execute("ROLLBACK")


def test_reading_only_beside_a_writer_and_after_it(tmp_path):
    with Records(tmp_path / "r") as store:
        store.put_many(rows(0, 3))
        with Records(tmp_path / "r", read_only=True) as reader:
            assert reader.count() == 3
            with pytest.raises(RuntimeError, match="reading only"):
                reader.put_many(rows(3, 4))
    with Records(tmp_path / "r", read_only=True) as reader:
        assert reader.count() == 3


def test_reading_only_creates_nothing(tmp_path):
    with pytest.raises(UsageError, match="no records"):
        Records(tmp_path / "r", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_closing_leaves_one_file(tmp_path):
    with Records(tmp_path / "r") as store:
        store.put_many(rows(0, 3))
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_closing_twice_is_fine(tmp_path):
    store = Records(tmp_path / "r")
    store.close()
    store.close()


WRITER = """
import sys
from toxoid.store.records import Records
store = Records(sys.argv[1])
for batch in range(100000):
    store.put_many([(f"{batch}/{row}", "k", "x" * 500) for row in range(50)])
    print(batch, flush=True)
"""


def test_killed_writer_leaves_whole_transactions_and_all_that_it_confirmed(tmp_path):
    path = tmp_path / "r"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    for line in process.stdout:
        if int(line) >= 20:
            break
    os.kill(process.pid, signal.SIGKILL)
    confirmed = max((int(line) for line in process.stdout.read().split()), default=20)
    process.wait()
    process.stdout.close()
    watchdog.cancel()
    with Records(path) as store:
        counts = {}
        for key, _ in store.iterate("k"):
            counts[key.split("/")[0]] = counts.get(key.split("/")[0], 0) + 1
    assert set(counts.values()) == {50}
    assert len(counts) >= confirmed + 1
