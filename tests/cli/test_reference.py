"""The page of commands is the program's own help."""

from __future__ import annotations

import subprocess
import sys

from tests.helpers.documents import DOCS
from toxoid.cli.app import VERBS
from toxoid.cli.reference import commands_page


def test_committed_page_is_current():
    """In a process of its own: click keeps the help option that a command got when it was first called."""
    made = subprocess.run(
        [sys.executable, "-m", "toxoid.cli.reference"], capture_output=True, check=True, encoding="utf-8"
    )
    assert (DOCS / "commands.md").read_text("utf-8") == made.stdout, (
        "run `python -m toxoid.cli.reference > docs/commands.md`"
    )


def test_every_verb_and_what_is_in_a_group_has_a_section():
    page = commands_page()
    assert all(f"\n### toxoid {verb}\n" in page for verb in VERBS)
    assert "\n### toxoid judge train\n" in page


def test_page_does_not_depend_on_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    page = commands_page()
    monkeypatch.setenv("COLUMNS", "200")
    assert commands_page() == page
