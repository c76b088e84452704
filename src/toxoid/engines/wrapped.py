"""What engines around another engine share."""

from __future__ import annotations

from typing import Any

from toxoid.engines.base import Engine


class WrappedEngine:
    """An engine that asks another one; a subclass says how in ``generate``.

    Args:
        engine: Who is asked.
        how: What is done to it, for people and as key in the identity; empty if replies stay what they were.
        words: What is added on the way (JSON values).
    """

    def __init__(self, engine: Engine, how: str = "", words: Any = None) -> None:
        self.engine = engine
        self.name = f"{engine.name} ({how})" if how else engine.name
        self.granule = engine.granule
        self._added = {how: words} if how else {}

    def identity(self) -> dict[str, Any]:
        """Return the inner engine's identity, and what is added."""
        return {**self.engine.identity(), **self._added}

    def close(self) -> None:
        """Close the inner engine."""
        self.engine.close()
