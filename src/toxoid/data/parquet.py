"""Preference groups and their pairs in Parquet files; pyarrow is loaded when one is read or written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from toxoid.data.groups import Group, group_from_row, group_row
from toxoid.data.writing import Preference, atomic_file, preference_row
from toxoid.errors import UsageError
from toxoid.store.keys import content_key, file_sha256

GROUP_FILES = "groups-*.parquet"
PAIR_FILES = "pairs-*.parquet"
"""What a folder of groups calls its parts."""

_ROWS = 4096  # held in memory at once
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def write_groups(path: Path, groups: Iterable[Group]) -> int:
    """Write groups as the columns of :func:`toxoid.data.groups.group_row` and return their number.

    ``metadata`` is a column of JSON texts: its keys may differ from row to row.

    Raises:
        UsageError: The file cannot be written; one of before is then unchanged.
    """
    rows = ({**row, "metadata": json.dumps(row["metadata"])} for row in map(group_row, groups))
    return _write(path, "groups", rows)


def write_pairs(path: Path, groups: Iterable[Group]) -> int:
    """Write every pair of the groups and return their number.

    The layout is TRL's conversational one with an explicit prompt: ``prompt``, ``chosen`` and ``rejected`` are
    lists of messages. Beside them stand ``id`` (unique), ``group``, and kind and rank of both replies. A group's
    trunk begins both replies.

    Raises:
        UsageError: The file cannot be written; one of before is then unchanged.
    """
    return _write(path, "pairs", (row for group in groups for row in pair_rows(group)))


def pair_rows(group: Group) -> Iterator[dict[str, Any]]:
    """Yield the pairs of a group as columns, the best reply's first."""
    for better, worse in group.pairs():
        chosen, rejected = group.replies[better], group.replies[worse]
        extra = {
            "id": f"{group.id}#{better}>{worse}",
            "group": group.id,
            "chosen_kind": chosen.kind,
            "rejected_kind": rejected.kind,
            "chosen_rank": chosen.rank,
            "rejected_rank": rejected.rank,
        }
        pair = Preference(group.conversation, group.trunk + chosen.text, group.trunk + rejected.text, extra)
        yield preference_row(pair)


def read_groups(path: Path) -> Iterator[Group]:
    """Yield the groups of a Parquet or JSON lines file, or of the group files of a folder, in constant memory.

    Raises:
        UsageError: There are none, the synthesis that writes the folder has not ended, or a row is no group; the
            text names file and row.
    """
    for file in _group_files(path):
        rows = read_rows(file) if file.suffix == ".parquet" else _json_rows(file)
        for number, row in enumerate(rows, 1):
            where = f"{file.name}, row {number}"
            yield group_from_row({**row, "metadata": _metadata(row.get("metadata"), where)}, where=where)


def groups_hash(path: Path) -> str:
    """Return the sha256 (hex) of what :func:`read_groups` would read, taken of the files' bytes.

    Raises:
        UsageError: There is nothing to read.
    """
    return content_key([file_sha256(file) for file in _group_files(path)])


def read_rows(path: Path, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file in constant memory.

    Args:
        path: The file.
        columns: Only these; all if None.

    Raises:
        UsageError: There is no such file, or it is no Parquet.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_ROWS, columns=columns):
                yield from batch.to_pylist()
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file") from None
    except (pyarrow.ArrowException, OSError) as error:
        said = " ".join(str(error).split())
        raise UsageError(f"{path}: damaged, or not a Parquet file ({said}): make it again") from None


def _group_files(path: Path) -> list[Path]:
    if not path.exists():
        raise UsageError(
            f"{path}: there is no such file or folder: give groups, or make some with `toxoid synth`"
        )
    if not path.is_dir():
        if path.suffix not in (".parquet", ".jsonl"):
            raise UsageError(
                f"{path}: groups come in .parquet or .jsonl files, or in a folder of `toxoid synth`"
            )
        return [path]
    files = sorted(path.glob(GROUP_FILES))
    if not files:
        raise UsageError(
            f"{path}: no {GROUP_FILES} is in this folder: give one that `toxoid synth` has written"
        )
    if (path / "manifest.json").exists() and not (path / "synthesis.json").exists():
        raise UsageError(f"{path}: its synthesis has not ended: run the same `toxoid synth` command again")
    return files


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", errors="replace") as stream:
        for number, line in enumerate(stream, 1):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                raise UsageError(f"{path.name}, row {number}: not a JSON object; give one group per line")
            yield row


def _metadata(value: Any, where: str) -> Mapping[str, Any]:
    """Return a group's metadata; Parquet files hold them as JSON texts."""
    if isinstance(value, str):
        try:
            value = json.loads(value or "{}")
        except (ValueError, RecursionError):
            raise UsageError(f"{where}: metadata are not JSON") from None
    if not isinstance(value, Mapping | None):
        raise UsageError(f"{where}: metadata are no JSON object")
    return value or {}


def _write(path: Path, layout: str, rows: Iterable[Mapping[str, Any]]) -> int:
    import pyarrow
    from pyarrow import parquet

    schema, count, remaining = _schemas()[layout], 0, iter(rows)
    with atomic_file(path) as stream, parquet.ParquetWriter(stream, schema, compression="zstd") as writer:
        while chunk := [_encodable(row) for row in islice(remaining, _ROWS)]:
            writer.write_table(pyarrow.Table.from_pylist(chunk, schema=schema))
            count += len(chunk)
    return count


@cache
def _schemas() -> dict[str, Any]:
    import pyarrow as pa

    messages = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    text, whole = pa.string(), pa.int32()
    return {
        "groups": pa.schema(
            {
                "id": text,
                "prompt": messages,
                "trunk": text,
                "replies": pa.list_(text),
                "ranks": pa.list_(whole),
                "kinds": pa.list_(text),
                "turns": pa.list_(whole),
                "metadata": text,
            }
        ),
        "pairs": pa.schema(
            {
                **dict.fromkeys(("prompt", "chosen", "rejected"), messages),
                **dict.fromkeys(("id", "group", "chosen_kind", "rejected_kind"), text),
                **dict.fromkeys(("chosen_rank", "rejected_rank"), whole),
            }
        ),
    }


def _encodable(value: Any) -> Any:
    """Return a value without halves of surrogate pairs (an endpoint may send one); no text changes its length."""
    if isinstance(value, str):
        return value if value.isascii() else _LONE_SURROGATE.sub("\ufffd", value)
    if isinstance(value, Mapping):
        return {key: _encodable(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_encodable(part) for part in value]
    return value
