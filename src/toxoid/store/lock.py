"""The lock of a run directory: one live process at a time, released by the system when it dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from toxoid.errors import UsageError


class RunLock:
    """An exclusive lock on a file, held until :meth:`release` or the death of the process.

    It is advisory (``flock``), so a leftover lock file of a killed process locks nobody out.
    """

    def __init__(self, path: Path) -> None:
        """Take the lock, creating the file if needed.

        Raises:
            UsageError: Another live process, or another part of this one, holds it.
            OSError: The file cannot be made, or its file system has no locks.
        """
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._descriptor, 20).decode("ascii", errors="replace").strip()
            os.close(self._descriptor)
            raise UsageError(
                f"{path.parent}: a run is in progress here{f' (process {holder})' if holder else ''}: "
                "wait for it to end, or give another directory"
            ) from error
        except BaseException:
            os.close(self._descriptor)
            raise
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode("ascii"), 0)

    def release(self) -> None:
        """Let others in; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
