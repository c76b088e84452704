"""Reading files: every format, and one clear line for everything that can be wrong with them."""

from __future__ import annotations

import gzip

import pytest

from toxoid.data.rows import MAX_FIELD, Row, read_table
from toxoid.errors import UsageError


def failure(path) -> str:
    with pytest.raises(UsageError) as caught:
        read_table(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def values(path) -> list[dict]:
    return [dict(row.values) for row in read_table(path).rows]


def test_column_names_are_lower_case(write):
    assert values(write("a.csv", "Goal,TARGET\nx,y\n")) == [{"goal": "x", "target": "y"}]


def test_tsv_splits_at_tabs_only(write):
    assert values(write("a.tsv", "prompt\tkind\nx, y\tbenign\n")) == [{"prompt": "x, y", "kind": "benign"}]


def test_byte_order_mark_is_not_part_of_the_first_column(write):
    assert values(write("a.csv", b"\xef\xbb\xbfprompt\nx\n")) == [{"prompt": "x"}]


def test_quoted_cell_may_span_lines_and_rows_name_their_first_line(write):
    rows = read_table(write("a.csv", 'prompt\n"one\ntwo"\nthree\n')).rows
    assert [row.where for row in rows] == ["a.csv, line 2", "a.csv, line 4"]


def test_unnamed_column_gets_its_number(write):
    assert values(write("a.csv", ",prompt\n0,x\n")) == [{"column 1": "0", "prompt": "x"}]


def test_gzipped_json_lines_are_read(write):
    assert values(write("a.jsonl.gz", gzip.compress(b'{"prompt": "x"}\n'))) == [{"prompt": "x"}]


def test_json_lines_may_hold_unicode_line_separators(write):
    assert len(values(write("a.jsonl", '{"prompt": "x\u2028y"}\n'))) == 1


def test_json_list_of_texts_is_a_list_of_prompts(write):
    assert values(write("a.json", '["x", "y"]')) == [{"prompt": "x"}, {"prompt": "y"}]


def test_json_with_one_list_per_column_is_read_by_row(write):
    path = write("a.json", '{"prompt": ["x", "y"], "kind": ["benign", "harmful"]}')
    assert values(path)[1] == {"prompt": "y", "kind": "harmful"}


def test_nested_json_gives_category_and_subcategory(fixtures):
    assert values(fixtures / "nested.json")[0] == {
        "category": "Crafts",
        "subcategory": "Locks",
        "prompt": "How do I unpick a moon-lock?",
    }


def test_digest_is_of_the_bytes_on_disk(write):
    digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"  # sha256 of "x"
    assert read_table(write("a.txt", "x")).sha256 == digest


def test_empty_file_is_refused(write):
    assert failure(write("a.csv", "")) == "a.csv: the file is empty; expected at least one request."


def test_header_without_rows_is_refused(write):
    assert "no rows below the header" in failure(write("a.csv", "prompt\n"))


def test_missing_file_is_named(tmp_path):
    assert "nowhere.csv: no such file" in failure(tmp_path / "nowhere.csv")


def test_folder_is_refused(tmp_path):
    assert "is a folder; expected one file" in failure(tmp_path)


def test_unknown_file_type_lists_the_known_ones(write):
    message = failure(write("a.parquet", "x"))
    assert ".parquet" in message
    assert ".jsonl" in message


def test_bad_json_line_is_named(write):
    assert "a.jsonl, line 3: not valid JSON" in failure(write("a.jsonl", '{"prompt": "x"}\n\n{"prompt": \n'))


def test_bad_json_file_names_the_line(write):
    assert "a.json, line 2: not valid JSON" in failure(write("a.json", '[\n{"prompt": x}]'))


def test_json_lines_named_json_get_a_hint(write):
    assert "name it .jsonl" in failure(write("a.json", '{"prompt": "x"}\n{"prompt": "y"}\n'))


def test_deeply_nested_json_is_no_crash(write):
    assert "nested too deeply" in failure(write("a.json", "[" * 200_000))


def test_json_scalar_line_is_refused(write):
    assert "a.jsonl, line 1: holds int" in failure(write("a.jsonl", "5\n"))


def test_json_of_a_single_value_is_refused(write):
    assert "holds int; expected a list of records" in failure(write("a.json", "5"))


def test_json_columns_of_unequal_length_are_refused(write):
    assert "not of the same length" in failure(write("a.json", '{"prompt": ["x", "y"], "kind": ["benign"]}'))


def test_csv_row_with_missing_columns_is_named(write):
    assert "a.csv, line 3: 1 columns; the header has 2" in failure(write("a.csv", "goal,target\nx,y\nz\n"))


def test_csv_with_an_open_quote_is_refused(write):
    assert "not valid CSV" in failure(write("a.csv", 'prompt\n"x\ny\n'))


def test_csv_with_a_column_twice_is_refused(write):
    assert 'column "prompt" stands twice' in failure(write("a.csv", "prompt,Prompt\nx,y\n"))


def test_wrong_encoding_names_the_byte(write):
    message = failure(write("a.csv", b"prompt\ncaf\xe9\n"))
    assert "byte 0xE9 at offset 10 (line 2) is not UTF-8" in message


def test_truncated_gzip_is_refused(write):
    whole = gzip.compress(b'{"prompt": "x"}\n' * 50)
    assert "not a complete gzip file" in failure(write("a.jsonl.gz", whole[:-12]))


def test_plain_file_named_gz_is_refused(write):
    assert "not a complete gzip file" in failure(write("a.jsonl.gz", '{"prompt": "x"}\n'))


def test_huge_csv_field_is_refused(write):
    assert "a.csv, line 2: " in failure(write("a.csv", "prompt\n" + "x" * (MAX_FIELD + 1) + "\n"))


def test_huge_text_is_refused():
    with pytest.raises(UsageError, match=r"f, line 1: .* 131073 characters"):
        Row("f, line 1", {"prompt": "x" * (MAX_FIELD + 1)}).text("prompt")


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(UsageError, match="surrogate"):
        Row("f, line 1", {"prompt": "\ud800"}).text("prompt")


def test_text_of_another_type_is_refused():
    with pytest.raises(UsageError, match='column "prompt" holds int; expected text'):
        Row("f, line 1", {"prompt": 5}).text("prompt")


@pytest.mark.parametrize(
    ("given", "expected"), [("True", True), ("0", False), (True, True), (None, None), (1, True)]
)
def test_flag_reads_every_spelling(given, expected):
    assert Row("f, line 1", {"safe": given}).flag("safe") is expected


def test_flag_refuses_another_word():
    with pytest.raises(UsageError, match="expected true or false"):
        Row("f, line 1", {"safe": "perhaps"}).flag("safe")
