"""API keys: made at random, kept as hashes, compared in constant time."""

from __future__ import annotations

import hmac
import secrets
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import Field

from toxoid.config.loading import Section, dump_yaml, load_yaml, validate
from toxoid.config.sections import Positive, Text
from toxoid.errors import UsageError
from toxoid.store.files import disk_errors, write_text_atomic

_BYTES = 32
"""Random bytes of a key: so many that a plain hash of it cannot be searched."""


class KeySection(Section):
    """One key, without the key itself."""

    name: Text
    """Whose it is; stands in logs."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """The hash of the key, in hex."""
    per_minute: Positive | None = None
    """Requests per minute, in place of the limit for all."""


class KeysFile(Section):
    """The keys of a server."""

    keys: tuple[KeySection, ...] = Field(min_length=1)
    """One for each client."""


class KeyRing:
    """The keys that open a server.

    Args:
        path: A file of their hashes; without one no key is asked for.

    Raises:
        UsageError: It cannot be read, holds no key, or two keys have one name.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self._path = path
        self._keys: tuple[KeySection, ...] = ()
        self.read()

    def __bool__(self) -> bool:
        return bool(self._keys)

    def read(self) -> None:
        """Read the file again; if that fails, the keys stay as they are.

        Raises:
            UsageError: As above.
        """
        if self._path is not None:
            self._keys = _read(self._path)

    def find(self, authorization: str) -> KeySection | None:
        """Return the key in an ``Authorization`` header (``Bearer KEY``), or ``None`` if it is none of these.

        The time that this takes tells nothing: every hash is compared, and as a whole.
        """
        scheme, _, key = authorization.partition(" ")
        given = _hash(key.strip())
        found = [one for one in self._keys if hmac.compare_digest(one.sha256, given)]
        return found[0] if found and scheme.lower() == "bearer" else None


def add_key(path: str | Path, name: str) -> str:
    """Make a key, put its hash into a file (new or not), and return the key: it can be read nowhere later.

    Raises:
        UsageError: The file cannot be read or written, or has a key of this name.
    """
    path = Path(path)
    keys = list(_read(path)) if path.exists() else []
    if any(key.name == name for key in keys):
        raise UsageError(f'{path} has a key named "{name}": choose another name, or remove it there')
    key = f"tox-{secrets.token_urlsafe(_BYTES)}"
    keys.append(validate(KeySection, {"name": name, "sha256": _hash(key)}, source="--new-key"))
    with disk_errors(path):
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        write_text_atomic(path, dump_yaml({"keys": [one.model_dump(exclude_none=True) for one in keys]}))
    return key


def _read(path: str | Path) -> tuple[KeySection, ...]:
    keys = validate(KeysFile, load_yaml(path), source=str(path)).keys
    names = [key.name for key in keys]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f'{path}: two keys are named "{twice}": remove or rename one')
    return keys


def _hash(key: str) -> str:
    return sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
