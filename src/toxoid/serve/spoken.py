"""What a server has said: so its own words in a history are told from a client's inventions."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from hashlib import blake2b

_MOST = 2**16
"""Replies that are remembered, about 10 MB of hashes; those that came up least recently are dropped first."""


class Spoken:
    """The replies that were given, as hashes under a key that nobody knows.

    A reply that has been dropped, or was given by another process, counts as the client's own words.

    Args:
        most: So many are remembered.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def add(self, reply: str) -> None:
        """Remember a reply."""
        said = self._hash(reply)
        self._known[said] = None
        self._known.move_to_end(said)
        if len(self._known) > self._most:
            self._known.popitem(last=False)

    def __contains__(self, turn: str) -> bool:
        found = self._hash(turn)
        if found not in self._known:
            return False
        self._known.move_to_end(found)
        return True

    def _hash(self, text: str) -> bytes:
        return blake2b(text.strip().encode("utf-8", "surrogatepass"), digest_size=16, key=self._key).digest()
