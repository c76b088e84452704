"""Files that are whole or absent: atomic writes, atomic folders, and disk trouble told in one line."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from toxoid.errors import UsageError
from toxoid.store.keys import plain_json

_BY_ERRNO = {
    errno.ENOSPC: "the disk is full: free some space and run the same command again; what was stored is kept",
    errno.EDQUOT: "the disk quota is used up: free some space and run the same command again",
    errno.EROFS: "the place is read-only: give a directory that can be written",
    errno.EACCES: "no permission: give a directory that you may write",
    errno.EPERM: "no permission: give a directory that you may write",
    errno.ENOTDIR: "a part of this path is a file, not a directory: give another path",
    errno.EISDIR: "this is a directory, a file was expected: give another path",
    errno.ENOLCK: "its file system has no locks: give a directory on a local disk",
    errno.EOPNOTSUPP: "its file system has no locks: give a directory on a local disk",
    errno.ENAMETOOLONG: "the name is too long: give a shorter path",
}
_BY_SQLITE = {
    sqlite3.SQLITE_FULL: _BY_ERRNO[errno.ENOSPC],
    sqlite3.SQLITE_READONLY: _BY_ERRNO[errno.EROFS],
    sqlite3.SQLITE_PERM: _BY_ERRNO[errno.EACCES],
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened: give a directory that exists and can be written",
    sqlite3.SQLITE_BUSY: "another process is writing to it: wait for it to end, or give another directory",
    sqlite3.SQLITE_IOERR: "the disk reports an input/output error: check the disk and run the command again",
    sqlite3.SQLITE_NOTADB: "this is not a toxoid store: give another directory",
    sqlite3.SQLITE_CORRUPT: "the store is damaged: restore it from a copy, or delete the run directory",
}


def explain_disk_error(error: BaseException) -> str | None:
    """Return one line that says what a disk or SQLite error means and what to do; ``None`` if unknown.

    The path is part of the line where the error carries one.
    """
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        return None if code is None else _BY_SQLITE.get(code & 0xFF)  # the low byte is the primary code
    if isinstance(error, OSError) and error.errno in _BY_ERRNO:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{_BY_ERRNO[error.errno]}"
    return None


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the disk refuses inside the block into one line that names ``path``.

    Raises:
        UsageError: For a full or read-only disk, missing permission, a locked or damaged store.
    """
    try:
        yield
    except sqlite3.Error as error:
        text = explain_disk_error(error)
        if text is None:
            raise
        raise UsageError(f"{path}: {text}") from error
    except OSError as error:
        if error.errno not in _BY_ERRNO:
            raise
        raise UsageError(f"{path}: {_BY_ERRNO[error.errno]}") from error


def write_text_atomic(path: str | Path, text: str) -> None:
    """Write a file that is, at any moment and after any crash, the old text or the new one.

    A neighbour file is written, forced to disk and renamed. UTF-8; what UTF-8 cannot hold (a lone
    surrogate) is written as its visible escape.

    Raises:
        UsageError: The disk is full, read-only, or the place may not be written; the old text is kept.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    with disk_errors(target):
        try:
            with temporary.open("wb") as stream:
                stream.write(text.encode("utf-8", errors="backslashreplace"))
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(target)
            sync_folder(target.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_json_atomic(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON, keys in the given order; atomic as :func:`write_text_atomic`.

    Raises:
        TypeError: ``value`` is not JSON.
        ValueError: ``value`` holds NaN or an infinity.
        UsageError: The disk refuses.
    """
    write_text_atomic(path, json.dumps(plain_json(value), indent=2, allow_nan=False) + "\n")


def sync_folder(folder: Path) -> None:
    """Force the names in ``folder`` to disk, so that a rename survives a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems cannot; they need not
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Force every file and name below ``folder`` to disk."""
    for root, _, names in os.walk(folder):
        for name in names:
            with (Path(root) / name).open("rb") as stream:
                os.fsync(stream.fileno())
        sync_folder(Path(root))


def publish_folder(built: Path, final: Path) -> None:
    """Give a finished folder its final name; ``final`` is never seen half-written.

    An older ``final`` is moved aside first and removed afterwards. A crash between the two renames
    leaves no ``final``, which means: build again.
    """
    old = final.with_name(f"{final.name}.replaced")
    remove_tree(old)
    sync_tree(built)
    if final.exists():
        final.rename(old)
    built.rename(final)
    sync_folder(final.parent)
    remove_tree(old)


def remove_tree(folder: Path) -> None:
    """Remove a folder and all it holds; nothing happens if it is absent."""
    if folder.exists():
        shutil.rmtree(folder)
