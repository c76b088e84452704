"""The code in pages of the documentation."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
_FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str = "python") -> list[str]:
    """Return the fenced blocks of a page in one language, in order."""
    text = (DOCS / page).read_text("utf-8")
    return [code for found, code in _FENCED.findall(text) if found == language]
