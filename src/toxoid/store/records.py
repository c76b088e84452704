"""Records: every generation and verdict of a run, keyed by content, in one SQLite file."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from toxoid.errors import UsageError
from toxoid.store.files import disk_errors
from toxoid.store.keys import canonical_json

APPLICATION_ID = 0x746F786F  # "toxo": tells our files from other SQLite files
SCHEMA_VERSION = 1
BUSY_SECONDS = 30.0
_CHUNK = 900  # below SQLite's old limit of 999 variables per statement
_PAGE = 256  # rows held in memory while iterating

_SCHEMA = (
    # position is the rowid: the order of insertion, at no cost.
    """CREATE TABLE IF NOT EXISTS records(
         position INTEGER PRIMARY KEY,
         key TEXT NOT NULL UNIQUE,
         kind TEXT NOT NULL,
         payload TEXT NOT NULL
       ) STRICT""",
    "CREATE INDEX IF NOT EXISTS records_by_kind ON records(kind, position)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


class Records:
    """A map from content key to JSON payload that grows and never changes.

    Durability: the file is in WAL mode with ``synchronous=NORMAL``. A killed process loses nothing that
    :meth:`put_many` has returned for, because the operating system holds it. A power loss may take the last
    transactions but leaves the file sound; as a record is keyed by what it was computed from, the next run
    makes the lost ones again, which is cheaper than a disk flush per batch. :meth:`close` flushes to disk.

    Use from several threads is safe: one connection, one lock.
    """

    def __init__(self, path: str | Path, *, read_only: bool = False) -> None:
        """Open the store at ``path``, or create it (not with ``read_only``).

        Raises:
            UsageError: The file is not a toxoid store, was made by a newer version, is damaged, or the place
                cannot be read or written.
        """
        self.path = Path(path)
        self.read_only = read_only
        self._lock = threading.RLock()
        with disk_errors(self.path):
            self._connection = _read_only(self.path) if read_only else _connect(self.path)
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def get_many(self, keys: Sequence[str]) -> dict[str, Any]:
        """Return the payloads of those ``keys`` that are stored, in the order of ``keys``."""
        found: dict[str, str] = {}
        for start in range(0, len(keys), _CHUNK):
            chunk = keys[start : start + _CHUNK]
            marks = ",".join("?" * len(chunk))
            found.update(self._fetch(f"SELECT key, payload FROM records WHERE key IN ({marks})", chunk))
        return {key: json.loads(found[key]) for key in keys if key in found}

    def put_many(self, rows: Sequence[tuple[str, str, Any]]) -> None:
        """Store ``(key, kind, payload)`` rows, all or none; a key already there keeps its first payload.

        Raises:
            TypeError: A payload is not JSON.
            ValueError: A payload holds NaN or an infinity.
            UsageError: The disk is full or refuses; what was stored before stays readable.
        """
        if self.read_only:
            raise RuntimeError(f"{self.path} was opened for reading only")
        texts = [(key, kind, canonical_json(payload)) for key, kind, payload in rows]
        with self._lock, disk_errors(self.path), _transaction(self._connection) as connection:
            connection.executemany(
                "INSERT INTO records(key, kind, payload) VALUES (?, ?, ?) ON CONFLICT(key) DO NOTHING", texts
            )

    def count(self, kind: str | None = None) -> int:
        """Return the number of records, or of those of one kind."""
        where, values = ("", ()) if kind is None else (" WHERE kind = ?", (kind,))
        return int(self._fetch(f"SELECT count(*) FROM records{where}", values)[0][0])

    def kinds(self) -> Mapping[str, int]:
        """Return the number of records of each kind."""
        return dict(self._fetch("SELECT kind, count(*) FROM records GROUP BY kind ORDER BY kind", ()))

    def iterate(self, kind: str) -> Iterator[tuple[str, Any]]:
        """Yield ``(key, payload)`` of one kind in order of insertion, in constant memory.

        Writing meanwhile is allowed; rows written behind the current one are seen.
        """
        last = 0
        query = (
            "SELECT position, key, payload FROM records WHERE kind = ? AND position > ? "
            f"ORDER BY position LIMIT {_PAGE}"
        )
        while page := self._fetch(query, (kind, last)):
            for _, key, payload in page:
                yield key, json.loads(payload)
            last = page[-1][0]

    def close(self) -> None:
        """Flush to disk and close; a second call does nothing."""
        with self._lock, disk_errors(self.path):
            self._connection.close()  # the last connection copies the write-ahead log into the file, synced

    def _fetch(self, query: str, values: Sequence[Any]) -> list[Any]:
        with self._lock, disk_errors(self.path):
            return self._connection.execute(query, values).fetchall()

    def _prepare(self) -> None:
        """Check that the file is ours and readable by this version; create the table in an empty one."""
        (application,) = self._connection.execute("PRAGMA application_id").fetchone()
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        fresh = application == 0 and tables == 0
        if application != APPLICATION_ID and (not fresh or self.read_only):
            raise UsageError(f"{self.path}: this is not a toxoid store: give another directory")
        if version > SCHEMA_VERSION:
            raise UsageError(
                f"{self.path}: made by a newer toxoid (store version {version}, this one reads up to "
                f"{SCHEMA_VERSION}): upgrade toxoid, or give another directory"
            )
        if not self.read_only:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            if fresh:
                self._create()

    def _create(self) -> None:
        with _transaction(self._connection) as connection:
            for statement in _SCHEMA:
                connection.execute(statement)


def _connect(path: Path) -> sqlite3.Connection:
    if sqlite3.sqlite_version_info < (3, 37):
        raise UsageError(
            f"SQLite is {sqlite3.sqlite_version}, 3.37 or newer is needed: use a newer build of Python"
        )
    # isolation_level None: transactions are opened by us and by nobody else.
    return sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)


def _read_only(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        raise UsageError(f"{path}: there are no records here: give the directory of a toxoid run")
    uri = path.absolute().as_uri() + "?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, check_same_thread=False)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.OperationalError:
        connection.close()
        if path.with_name(f"{path.name}-wal").exists():
            raise
        # On a read-only medium WAL's side files cannot be made; without a log the file alone is complete.
        return sqlite3.connect(f"{uri}&immutable=1", uri=True, check_same_thread=False)
    return connection


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite has already rolled back after some errors
            connection.execute("ROLLBACK")
        raise
