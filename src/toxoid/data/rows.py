"""Files into rows: CSV, TSV, JSON, JSON lines and plain text, gzipped or not, each row with its place."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from toxoid.errors import UsageError

MAX_FIELD = 131_072
"""Longest text taken as one field, in characters: more is a broken quote or a wrong file, not a request."""
MAX_BYTES = 2**30
"""Largest file read, in bytes after decompression."""
_COLUMNS = ("prompt", "goal", "instruction", "question", "text", "messages")


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a file: lower-case column names to values, and where it stands."""

    where: str
    values: Mapping[str, Any]

    def fail(self, what: str) -> NoReturn:
        """Raise a UsageError that begins with the place of the row."""
        raise UsageError(" ".join(f"{self.where}: {what}".split()))  # column names may hold line ends

    def text(self, column: str) -> str:
        """Return a column that has to hold text.

        Raises:
            UsageError: The column is missing, is not text, is empty or is longer than ``MAX_FIELD``.
        """
        if column not in self.values:
            found = ", ".join(self.values)
            self.fail(
                f'column "{column}" is missing (found: {found}). Give every row the columns of the first.'
            )
        value = self.values[column]
        if not isinstance(value, str):
            self.fail(f'column "{column}" holds {type(value).__name__}; expected text.')
        if len(value) > MAX_FIELD:
            self.fail(
                f'column "{column}" holds {len(value)} characters; expected at most {MAX_FIELD}. Split it.'
            )
        if not value.strip():
            self.fail(f'column "{column}" is empty. Fill it or remove the row.')
        if not value.isascii() and not _encodable(value):
            self.fail(f'column "{column}" holds half of a surrogate pair. Write the character itself.')
        return value.strip()

    def optional(self, column: str) -> str | None:
        """Return a column's text, or None where the column is missing, null or empty."""
        value = self.values.get(column)
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        return str(value) if isinstance(value, int | float) else self.text(column)

    def flag(self, column: str) -> bool | None:
        """Return a column as true or false, None where it is missing; CSV spells it as text."""
        value = self.values.get(column)
        if value is None or isinstance(value, bool):
            return value
        spelled = str(value).strip().lower()
        if spelled not in {"true", "false", "1", "0"}:
            self.fail(f'column "{column}" holds {spelled[:40]!r}; expected true or false.')
        return spelled in {"true", "1"}


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one file and the digest of its bytes as they lie on disk."""

    rows: list[Row]
    sha256: str


def read_table(path: Path) -> Table:
    """Read a request file, told by its suffix: ``.csv .tsv .json .jsonl .ndjson .txt``, with ``.gz`` or not.

    Raises:
        UsageError: Missing, a folder, unreadable, empty, too large, not UTF-8, or malformed; with the line.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    zipped = bool(suffixes) and suffixes[-1] == ".gz"
    kind = (suffixes[:-1] if zipped else suffixes)[-1:] or [""]
    if kind[0] not in _READERS and path.exists() and not path.is_dir():
        raise UsageError(
            f"{path.name}: the file type {kind[0]!r} is not known; expected {', '.join(_READERS)} (or .gz)."
        )
    raw = _read_bytes(path)
    text = _decode(path.name, _unzip(path.name, raw) if zipped else raw)
    if not text.strip():
        raise UsageError(f"{path.name}: the file is empty; expected at least one request.")
    rows = list(_READERS[kind[0]](path.name, text))
    if not rows:
        raise UsageError(f"{path.name}: no rows below the header; expected at least one request.")
    return Table(rows, hashlib.sha256(raw).hexdigest())


def _read_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise UsageError(f"{path} is a folder; expected one file of requests. Name the file inside it.")
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(
            f"{path}: no such file. Check the path, or see `toxoid ls datasets` for names."
        ) from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    return _bounded(path.name, raw)


def _unzip(name: str, raw: bytes) -> bytes:
    try:
        with gzip.open(io.BytesIO(raw)) as stream:
            return _bounded(name, stream.read(MAX_BYTES + 1))
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{name}: not a complete gzip file ({error}). Fetch or compress it again.") from None


def _bounded(name: str, raw: bytes) -> bytes:
    if len(raw) > MAX_BYTES:
        raise UsageError(
            f"{name}: more than {MAX_BYTES >> 20} MiB; request files are small. Give a part of it."
        )
    return raw


def _decode(name: str, raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{raw[error.start]:02X} at offset {error.start} (line {line})"
        raise UsageError(f"{name}: {byte} is not UTF-8. Save the file as UTF-8.") from None


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # JSON can spell "\\ud800", no tokenizer can read it
        return False
    return True


def _place(name: str, line: int) -> str:
    return f"{name}, line {line}"


def _fold(values: Mapping[str, Any]) -> dict[str, Any]:
    """Lower-case the column names; published copies differ in nothing but case."""
    return {str(column).strip().lower(): value for column, value in values.items()}


def _read_delimited(name: str, text: str, delimiter: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    start = 1
    try:
        for cells in reader:
            place, start = _place(name, start), reader.line_num + 1
            if not cells:
                continue
            if header is None:
                header = _header(place, cells)
            elif len(cells) != len(header):
                raise UsageError(
                    f"{place}: {len(cells)} columns; the header has {len(header)}. Quote cells with commas."
                )
            else:
                yield Row(place, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise UsageError(f"{_place(name, start)}: not valid CSV ({error}). Check the quotes.") from None


def _header(place: str, cells: list[str]) -> list[str]:
    names = [cell.strip().lower() or f"column {number}" for number, cell in enumerate(cells, start=1)]
    twice = next((column for column in names if names.count(column) > 1), None)
    if twice is not None:
        Row(place, {}).fail(f'column "{twice}" stands twice in the header. Rename one.')
    return names


def _read_csv(name: str, text: str) -> Iterator[Row]:
    return _read_delimited(name, text, ",")


def _read_tsv(name: str, text: str) -> Iterator[Row]:
    return _read_delimited(name, text, "\t")


def _read_lines(name: str, text: str) -> Iterator[Row]:
    # split at "\n" only: str.splitlines also breaks at characters that JSON strings and prompts may hold
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield Row(_place(name, number), {"prompt": line.strip()})


def _read_jsonl(name: str, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _record(_place(name, number), _parse_json(name, line, number))


def _parse_json(name: str, text: str, line: int | None = None) -> Any:
    """Parse a whole file, or its line number ``line``."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        hint = (
            " One object per line is JSON lines: name it .jsonl."
            if line is None and error.msg == "Extra data"
            else ""
        )
        place = _place(name, line or error.lineno)
        raise UsageError(f"{place}: not valid JSON ({error.msg}, column {error.colno}).{hint}") from None
    except (RecursionError, ValueError) as error:  # endless nesting, numbers of thousands of digits
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UsageError(f"{_place(name, line or 1)}: JSON that cannot be read ({reason}).") from None


def _record(where: str, value: Any) -> Row:
    if isinstance(value, str):
        return Row(where, {"prompt": value})
    if not isinstance(value, dict):
        raise UsageError(
            f"{where}: holds {type(value).__name__}; expected an object with named columns, or a text."
        )
    return Row(where, _fold(value))


def _read_json(name: str, text: str) -> Iterator[Row]:
    for number, (record, extra) in enumerate(_records(name, _parse_json(name, text)), start=1):
        row = _record(f"{name}, item {number}", record)
        yield Row(row.where, {**extra, **row.values})


def _records(name: str, value: Any) -> Iterator[tuple[Any, dict[str, str]]]:
    """Yield (record, columns given by its surroundings) from the ways in which JSON files hold a list."""
    if isinstance(value, list):
        yield from ((record, {}) for record in value)
    elif isinstance(value, dict) and isinstance(value.get("instructions"), list):
        yield from ((record, {}) for record in _instructions(name, value))
    elif isinstance(value, dict) and any(isinstance(value.get(column), list) for column in _COLUMNS):
        yield from ((record, {}) for record in _columns(name, value))
    elif isinstance(value, dict) and isinstance(value.get("instances"), list):
        yield from ((record, {}) for record in value["instances"])
    elif isinstance(value, dict):
        yield from _nested(name, value, ())
    else:
        raise UsageError(f"{name}: holds {type(value).__name__}; expected a list of records.")


def _columns(name: str, value: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the records of a file that holds one list per column."""
    lengths = {column: len(cells) for column, cells in value.items() if isinstance(cells, list)}
    if len(lengths) != len(value) or len(set(lengths.values())) != 1:
        raise UsageError(
            f"{name}: one list per column was found, but not of the same length; expected as many cells."
        )
    for cells in zip(*value.values(), strict=True):
        yield dict(zip(value, cells, strict=True))


def _instructions(name: str, value: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the records of ``{instructions: [...], inputs: [...]}``, whose other lists may be empty."""
    instructions = value["instructions"]
    inputs = value.get("inputs") or [""] * len(instructions)
    yield from _columns(name, {"instruction": instructions, "input": inputs})


def _nested(
    name: str, value: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[Any, dict[str, str]]]:
    """Yield the leaves of ``{category: {subcategory: [texts]}}`` at any depth."""
    for label, below in value.items():
        here = (*path, str(label))
        if isinstance(below, dict):
            yield from _nested(name, below, here)
        elif isinstance(below, list) and all(isinstance(text, str) for text in below):
            extra = {"category": here[0]} | ({"subcategory": " / ".join(here[1:])} if here[1:] else {})
            yield from ((text, extra) for text in below)
        else:
            raise UsageError(
                f'{name}: "{" / ".join(here)}" holds {type(below).__name__}; '
                "expected a list of records, or categories with lists of texts."
            )


_READERS: dict[str, Callable[[str, str], Iterator[Row]]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".txt": _read_lines,
}
