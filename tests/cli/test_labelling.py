"""The loop in which a person labels one thing after the other."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from toxoid.cli.labelling import label_all

LABELS = {"y": ("yes", True), "n": ("no", False)}


def labelled(typed):
    """Return what was kept, the count, and what was shown."""
    kept = []

    @click.command()
    def verb():
        done = label_all(
            ["one", "two", "three"],
            lambda thing, place: click.echo(f"<{place} {thing}>"),
            LABELS,
            lambda thing, label: kept.append((thing, label)),
        )
        click.echo(f"done {done}")

    shown = CliRunner().invoke(verb, input=typed)
    assert shown.exit_code == 0, shown.output
    return kept, shown.output


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("y\nn\ny\n", [("one", True), ("two", False), ("three", True)]),
        ("s\ny\nq\n", [("two", True)]),
        ("y\n", [("one", True)]),
        ("", []),
        ("x\nY\nn\nq\n", [("one", False)]),
    ],
    ids=["all", "skip and quit", "the input ends", "no input", "unknown keys are asked again"],
)
def test_what_is_typed_is_kept_until_the_end(typed, kept):
    found, shown = labelled(typed)
    assert found == kept
    assert f"done {len(kept)}" in shown


def test_each_is_shown_with_its_place_and_the_keys():
    _, shown = labelled("y\nq\n")
    assert "<1/3 one>" in shown
    assert "<2/3 two>" in shown
    assert "<3/3" not in shown
    assert "y yes, n no, s skip, q quit" in shown
