"""Disk trouble while tensors are written, told in one line."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from toxoid.store.files import disk_errors, remove_tree

_FULL_BELOW = 1 << 20  # bytes


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Write ``folder`` within the block; if the disk refuses, remove it and say so in one line.

    ``torch.save`` and safetensors hide the error number behind errors of their own: it is read off the text,
    or off the free space (the half-written file is still there, so a full disk is full at that moment).

    Raises:
        UsageError: The disk is full, read-only, or the place may not be written.
    """
    with disk_errors(folder):
        try:
            yield
        except BaseException as error:
            number = _hidden_errno(error, folder)
            remove_tree(folder)
            if number is None:
                raise
            raise OSError(number, str(error), str(folder)) from error


def _hidden_errno(error: BaseException, folder: Path) -> int | None:
    if not isinstance(error, (RuntimeError, SafetensorError)):
        return None
    told = re.search(r"os error (\d+)", str(error))
    if told:
        return int(told[1])
    place = folder if folder.exists() else folder.parent
    return errno.ENOSPC if shutil.disk_usage(place).free < _FULL_BELOW else None
