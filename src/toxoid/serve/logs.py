"""The server's log: a JSON object per line on standard error, without prompts unless the operator asks for them."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

LOGGER = logging.getLogger("toxoid.serve")
_LIBRARIES = ("uvicorn.error", "asyncio")


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object: time, level, event, and the fields it was given."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. ASCII only, so that no text can forge another line or reach a terminal's controls."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log(event: str, level: int = logging.INFO, **fields: Any) -> None:
    """Write one line.

    Args:
        event: What happened, in a word or two.
        level: Of :mod:`logging`.
        **fields: JSON values.
    """
    LOGGER.log(level, event, extra={"fields": fields})


def start_logging() -> None:
    """Let this log and those of the libraries below write to standard error; the libraries' warnings only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name, level in ((LOGGER.name, logging.INFO), *((name, logging.WARNING) for name in _LIBRARIES)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
