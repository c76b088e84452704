"""Held-out texts, by which it is measured how well a model predicts language: from files and from data sets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from toxoid.data.loading import load_requests
from toxoid.data.request_set import hash_fraction
from toxoid.data.rows import Table, read_table
from toxoid.data.schemas import Conversation, user
from toxoid.errors import UsageError

_COLUMN = "text"


@dataclass(frozen=True, slots=True)
class HeldOutText:
    """A text to predict: by itself, or as the assistant's reply to a conversation."""

    id: str
    text: str
    conversation: Conversation = ()


@dataclass(frozen=True, slots=True)
class TextSet:
    """Texts with their origin; ``sha256`` is that of the file or data set."""

    name: str
    sha256: str
    texts: tuple[HeldOutText, ...]


def load_texts(name_or_path: str, *, limit: int, seed: int = 0) -> TextSet:
    """Load texts: a plain text file (one per line), a file with a column ``text``, or the references of requests.

    Args:
        name_or_path: A file, or the name of a data set.
        limit: At most this many, chosen by hashing (seed, id).
        seed: Of the choice.

    Raises:
        UsageError: It is not there, is malformed, or holds no text to predict.
    """
    path = Path(name_or_path).expanduser()
    table = read_table(path) if path.is_file() else None
    if table and (path.suffix in (".txt", ".gz") or _COLUMN in table.rows[0].values):
        found = _of_table(path, table)
    else:
        requests = load_requests(name_or_path)
        texts = tuple(HeldOutText(r.id, r.reference, user(r.prompt)) for r in requests if r.reference)
        found = TextSet(requests.name, requests.sha256, texts)
    if not found.texts:
        raise UsageError(
            f'capability.texts: none of the requests of "{name_or_path}" has a reference to predict: give a file of '
            f'texts (one per line, or a column "{_COLUMN}"), or a set with references such as alpaca'
        )
    chosen = sorted(found.texts, key=lambda text: hash_fraction(seed, text.id))[:limit]
    return TextSet(found.name, found.sha256, tuple(sorted(chosen, key=lambda text: text.id)))


def _of_table(path: Path, table: Table) -> TextSet:
    column = _COLUMN if _COLUMN in table.rows[0].values else "prompt"
    stem = path.name.split(".")[0]
    texts = tuple(HeldOutText(f"{stem}/{number}", row.text(column)) for number, row in enumerate(table.rows))
    return TextSet(stem, table.sha256, texts)
