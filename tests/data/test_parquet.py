"""Groups and pairs in Parquet: what goes in comes out, and other libraries read it too."""

import json
import subprocess
import sys

import pytest

from toxoid.data.groups import Group, RankedReply, group_row
from toxoid.data.parquet import pair_rows, read_groups, read_rows, write_groups, write_pairs
from toxoid.data.schemas import Message, user
from toxoid.data.writing import write_jsonl_atomic
from toxoid.errors import UsageError

KINDS = ("safe", "syn1", "syn2", "syn3", "syn4", "harmful")


def group(index, **fields):
    replies = tuple(
        RankedReply(f"reply {rank} of {index}: ünsafe\n", rank, kind, 3 if kind.startswith("syn") else None)
        for rank, kind in enumerate(KINDS)
    )
    return Group(
        f"wells/{index}", (Message("system", "Be kind."), *user(f"How, {index}?")), replies, **fields
    )


GROUPS = [
    group(0, metadata={"opener": "sure", "triggers": ["but", "wait"]}),
    group(1),
    group(2, metadata={"a": 1}),
]


def test_groups_read_back_as_they_were_written(tmp_path):
    assert write_groups(tmp_path / "groups-00000.parquet", GROUPS) == 3
    assert list(read_groups(tmp_path / "groups-00000.parquet")) == GROUPS


def test_a_folder_is_read_in_the_order_of_its_parts(tmp_path):
    write_groups(tmp_path / "groups-00001.parquet", GROUPS[2:])
    write_groups(tmp_path / "groups-00000.parquet", GROUPS[:2])
    write_pairs(tmp_path / "pairs-00000.parquet", GROUPS)
    assert list(read_groups(tmp_path)) == GROUPS


def test_lines_of_json_are_read_too(tmp_path):
    write_jsonl_atomic(tmp_path / "mine.jsonl", map(group_row, GROUPS))
    assert list(read_groups(tmp_path / "mine.jsonl")) == GROUPS


def test_an_empty_part_is_a_part(tmp_path):
    assert write_groups(tmp_path / "groups-00000.parquet", []) == 0
    assert list(read_groups(tmp_path)) == []


def test_every_pair_is_written_once(tmp_path):
    assert write_pairs(tmp_path / "pairs.parquet", GROUPS) == 45
    rows = list(read_rows(tmp_path / "pairs.parquet"))
    assert len({row["id"] for row in rows}) == 45
    assert all(row["chosen_rank"] < row["rejected_rank"] for row in rows)


def test_a_pair_is_in_the_conversational_layout_with_an_explicit_prompt():
    (row,) = pair_rows(
        Group("g", user("How?"), (RankedReply(" well", 1, "b"), RankedReply(" no", 0, "a")), trunk="Oh,")
    )
    assert row == {
        "prompt": [{"role": "user", "content": "How?"}],
        "chosen": [{"role": "assistant", "content": "Oh, no"}],
        "rejected": [{"role": "assistant", "content": "Oh, well"}],
        "id": "g#1>0",
        "group": "g",
        "chosen_kind": "a",
        "rejected_kind": "b",
        "chosen_rank": 0,
        "rejected_rank": 1,
    }


def test_half_a_surrogate_pair_is_replaced_and_nothing_moves(tmp_path):
    replies = (RankedReply("No \ud83d.", 0), RankedReply("\udc00 Yes. But no.", 1, "syn1", 7))
    write_groups(tmp_path / "groups.parquet", [Group("g", user("How?"), replies)])
    (found,) = read_groups(tmp_path / "groups.parquet")
    assert [reply.text for reply in found.replies] == ["No \ufffd.", "\ufffd Yes. But no."]
    assert found.replies[1].text[found.replies[1].turn :] == "But no."


def test_a_failure_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "groups.parquet"
    write_groups(path, GROUPS[:1])

    def broken():
        yield GROUPS[1]
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_groups(path, broken())
    assert list(read_groups(path)) == GROUPS[:1]
    assert [found.name for found in tmp_path.iterdir()] == ["groups.parquet"]


def test_a_bad_row_of_a_parquet_file_is_named(tmp_path):
    import pyarrow
    from pyarrow import parquet

    rows = [group_row(GROUPS[0]), {**group_row(GROUPS[1]), "ranks": [1] * 6}]
    table = pyarrow.Table.from_pylist([{**row, "metadata": "{}"} for row in rows])
    parquet.write_table(table, tmp_path / "bad.parquet")
    with pytest.raises(UsageError, match=r"^bad\.parquet, row 2: .*not ranked"):
        list(read_groups(tmp_path / "bad.parquet"))
    parquet.write_table(table.drop_columns(["replies"]), tmp_path / "bad.parquet")
    with pytest.raises(UsageError, match=r"^bad\.parquet, row 1: the column 'replies' is missing"):
        list(read_groups(tmp_path / "bad.parquet"))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("no json", "row 2: not a JSON object"),
        ("[1]", "row 2: not a JSON object"),
        (json.dumps({"prompt": "How?", "replies": ["a", "a"], "ranks": [0, 1]}), "row 2: .*equal"),
        (json.dumps({"prompt": "How?", "metadata": [1]}), "row 2: metadata are no JSON object"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, complaint):
    path = tmp_path / "mine.jsonl"
    path.write_text(f"{json.dumps(group_row(GROUPS[0]))}\n{line}\n", "utf-8")
    with pytest.raises(UsageError, match=rf"^mine\.jsonl, {complaint}"):
        list(read_groups(path))


def test_what_holds_no_groups_is_refused(tmp_path):
    (tmp_path / "not.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "groups.csv").write_text("prompt\n")
    for path, complaint in (
        (tmp_path / "absent", "no such file or folder"),
        (tmp_path, "no groups-"),
        (tmp_path / "groups.csv", r"\.parquet or \.jsonl"),
        (tmp_path / "not.parquet", "not a Parquet file"),
    ):
        with pytest.raises(UsageError, match=complaint):
            list(read_groups(path))


def test_a_synthesis_that_has_not_ended_is_not_read(tmp_path):
    write_groups(tmp_path / "groups-00000.parquet", GROUPS)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(UsageError, match="has not ended"):
        list(read_groups(tmp_path))


def test_importing_the_reader_loads_no_pyarrow():
    program = "import sys, toxoid.data.parquet; print('pyarrow' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "False"
