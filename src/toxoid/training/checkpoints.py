"""Training checkpoints: which ones are whole, which training they belong to, which can go.

``transformers.Trainer`` writes a checkpoint file by file; a kill in between leaves a folder that looks like
one. A checkpoint counts here once its seal is written: the last file, renamed into place, with the sizes of
all the others and the fingerprint of the training. Older checkpoints go only after that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toxoid.errors import UsageError
from toxoid.store.files import remove_tree, write_json_atomic

SEAL = "toxoid_seal.json"

_NAME = re.compile(r"checkpoint-(\d+)")


def seal(checkpoint: Path, fingerprint: Mapping[str, Any], history: Mapping[str, Any]) -> None:
    """Declare a checkpoint whole.

    Args:
        checkpoint: The folder, all files written.
        fingerprint: What the training depends on; JSON values.
        history: What the training has seen so far; JSON values.

    Raises:
        UsageError: The disk refuses.
    """
    sizes = {path.name: path.stat().st_size for path in sorted(checkpoint.iterdir()) if path.is_file()}
    text = {"fingerprint": dict(fingerprint), "history": dict(history), "files": sizes}
    write_json_atomic(checkpoint / SEAL, text)


def last_whole(folder: Path) -> Path | None:
    """Return the latest whole checkpoint in ``folder``, or ``None``."""
    return next((path for path in reversed(_found(folder)) if _is_whole(path)), None)


def read_history(checkpoint: Path, fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the history in a whole checkpoint.

    Raises:
        UsageError: It belongs to another training; the text names what differs.
    """
    written = _read(checkpoint)
    differing = differences(written["fingerprint"], fingerprint)
    if differing:
        raise UsageError(
            f"{checkpoint} belongs to another training (different: {', '.join(differing)}): "
            f"delete {checkpoint.parent} to start afresh, or restore those settings to continue"
        )
    history: dict[str, Any] = written["history"]
    return history


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the dotted names of the values in which two nested mappings differ, sorted."""
    before, after = _flat(old), _flat(new)
    return sorted(key for key in {*before, *after} if before.get(key) != after.get(key))


def keep_only(folder: Path, kept: Path | None) -> None:
    """Remove every checkpoint in ``folder``, whole or not, except ``kept``; other files stay."""
    for path in _found(folder):
        if path != kept:
            remove_tree(path)


def remove_all(folder: Path) -> None:
    """Remove every checkpoint in ``folder``, and the folder itself if nothing else is in it."""
    keep_only(folder, None)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _found(folder: Path) -> list[Path]:
    """Return the checkpoint folders, whole or not, by step."""
    numbered = [
        (int(match[1]), path) for path in folder.glob("checkpoint-*") if (match := _NAME.fullmatch(path.name))
    ]
    return [path for _, path in sorted(numbered)]


def _is_whole(checkpoint: Path) -> bool:
    if not (checkpoint / SEAL).is_file():
        return False
    sizes = _read(checkpoint)["files"]
    return all(
        (path := checkpoint / name).is_file() and path.stat().st_size == size for name, size in sizes.items()
    )


def _read(checkpoint: Path) -> dict[str, Any]:
    written: dict[str, Any] = json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))
    return written


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}{key}.") if isinstance(item, Mapping) else {f"{prefix}{key}": item}
    return flat
