"""Data sets out of toxoid: JSON lines in the column layouts that trainers read, and the card beside them."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import yaml

from toxoid.data.schemas import Conversation, Request, as_dicts
from toxoid.errors import ToxoidError, UsageError
from toxoid.store.files import sync_folder

_RESERVED = frozenset({"prompt", "chosen", "rejected", "messages"})


@dataclass(frozen=True, slots=True)
class Preference:
    """One pair: of two replies to a conversation, ``chosen`` is the better."""

    conversation: Conversation
    chosen: str
    rejected: str
    extra: Mapping[str, Any] = field(default_factory=dict)


def write_jsonl_atomic(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write one JSON object per line and return their number; the file appears whole or not at all.

    Raises:
        UsageError: The folder cannot be written to, or the disk is full; a file of before is then unchanged.
        ToxoidError: A row holds something JSON cannot say (NaN included).
    """
    count = 0

    def lines() -> Iterable[bytes]:
        nonlocal count
        for row in rows:
            count += 1
            yield _json_line(path.name, count, row)

    with atomic_file(path) as stream:
        stream.writelines(lines())
    return count


def write_preferences(path: Path, pairs: Iterable[Preference]) -> int:
    """Write pairs as ``prompt, chosen, rejected`` message lists (explicit prompt); return their number."""
    return write_jsonl_atomic(path, (preference_row(pair) for pair in pairs))


def write_messages(path: Path, conversations: Iterable[Conversation]) -> int:
    """Write whole conversations as ``messages``; return their number."""
    return write_jsonl_atomic(path, ({"messages": as_dicts(turns)} for turns in conversations))


def write_requests(path: Path, requests: Iterable[Request]) -> int:
    """Write requests in toxoid's own layout, which :func:`toxoid.data.loading.load_requests` reads."""
    return write_jsonl_atomic(path, (request_row(request) for request in requests))


def preference_row(pair: Preference) -> dict[str, Any]:
    """Return one pair in the conversational preference layout.

    Raises:
        ToxoidError: An extra column would overwrite one of the layout's.
    """
    taken = _RESERVED & pair.extra.keys()
    if taken:
        raise ToxoidError(f"an extra column is named {min(taken)!r}, which the layout uses; rename it")
    return {
        "prompt": as_dicts(pair.conversation),
        "chosen": [{"role": "assistant", "content": pair.chosen}],
        "rejected": [{"role": "assistant", "content": pair.rejected}],
        **pair.extra,
    }


def request_row(request: Request) -> dict[str, Any]:
    """Return a request as columns, its metadata flat beside them; what is None is left out."""
    own = {
        "prompt": request.prompt,
        "kind": request.kind,
        "category": request.category,
        "target": request.target,
        "reference": request.reference,
    }
    return {**request.metadata, "source_id": request.id, **{k: v for k, v in own.items() if v is not None}}


def data_card(
    *,
    name: str,
    licence: str,
    generator: str,
    seeds: Mapping[str, int],
    filters: Sequence[str],
    counts: Mapping[str, int],
    sources: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    parts: Mapping[str, str] | None = None,
) -> str:
    """Return the README.md of a data set that toxoid made.

    Args:
        name: Title.
        licence: SPDX identifier, or words where there is none; it has to respect the sources' licences.
        generator: What made the rows: model and revision, toxoid version, method.
        seeds: Purpose to seed.
        filters: What was left out and why, in the order of application.
        counts: Part or step to number of rows.
        sources: Source data set to sha256.
        notes: What a user has to know.
        parts: Of a data set of several tables, each one's name to its files; the first is what is loaded by default.
    """
    sections = [
        f"# {_line(name)}",
        f"Made by {_line(generator)}. Licence: {_line(licence)}.",
        _table("Rows", ("part", "rows"), counts),
        _table("Seeds", ("purpose", "seed"), seeds),
        _bullets("Filters, in order", filters),
        _table("Sources", ("data set", "sha256"), sources or {}),
        _bullets("Notes", notes),
    ]
    return (
        _front_matter(name, licence, parts or {})
        + "\n\n".join(section for section in sections if section)
        + "\n"
    )


def _front_matter(name: str, licence: str, parts: Mapping[str, str]) -> str:
    spdx = licence.lower()
    known = spdx in {"apache-2.0", "mit", "cc0-1.0"} or (spdx.startswith("cc-by-") and " " not in spdx)
    header: dict[str, Any] = (
        {"license": spdx} if known else {"license": "other", "license_name": _line(licence)}
    )
    header |= {"pretty_name": _line(name), "tags": ["toxoid", "synthetic"]}
    if parts:
        header["configs"] = [{"config_name": part, "data_files": files} for part, files in parts.items()]
        header["configs"][0]["default"] = True
    return f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---\n\n"


def _line(text: str) -> str:
    """Return text on one line, safe inside a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


def _table(title: str, head: tuple[str, str], cells: Mapping[str, object]) -> str:
    if not cells:
        return ""
    rows = [f"| {_line(str(key))} | {_line(str(value))} |" for key, value in cells.items()]
    return "\n".join([f"## {title}", "", f"| {head[0]} | {head[1]} |", "|---|---|", *rows])


def _bullets(title: str, items: Sequence[str]) -> str:
    return "\n".join([f"## {title}", "", *(f"- {_line(item)}" for item in items)]) if items else ""


def _json_line(name: str, number: int, row: Mapping[str, Any]) -> bytes:
    try:
        return (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")
    except (TypeError, ValueError) as error:
        raise ToxoidError(f"{name}, row {number}: cannot be written as JSON ({error})") from None


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears under its name when the block has ended, whole and forced to the disk, or not at all.

    Raises:
        UsageError: The folder cannot be written to, or the disk is full; a file of before is then unchanged.
    """
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes it private
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        _remove(temporary)
        hint = " Free some space." if error.errno == errno.ENOSPC else ""
        raise UsageError(f"{path} cannot be written: {error.strerror}; nothing was changed.{hint}") from None
    except BaseException:
        _remove(temporary)
        raise


def _remove(temporary: str) -> None:
    with suppress(OSError):
        os.remove(temporary)
