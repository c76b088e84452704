"""Shows a person one thing after the other and asks for a label; what `toxoid judge label` and `review` share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import click

Thing = TypeVar("Thing")
Label = TypeVar("Label")


def label_all(
    waiting: Sequence[Thing],
    show: Callable[[Thing, str], None],
    labels: Mapping[str, tuple[str, Label]],
    record: Callable[[Thing, Label], None],
) -> int:
    """Ask for a label of each, until the person quits or the input ends; return how many were given.

    Args:
        waiting: What to label.
        show: Called with a thing and its place, such as ``"2/9"``.
        labels: By key, the word shown for it and the label; ``s`` and ``q`` are taken, to skip and to quit.
        record: Keeps a label, at once.
    """
    words = {**{key: word for key, (word, _) in labels.items()}, "s": "skip", "q": "quit"}
    asked = ", ".join(f"{key} {word}" for key, word in words.items())
    done = 0
    for number, thing in enumerate(waiting, 1):
        show(thing, f"{number}/{len(waiting)}")
        key = _key(asked, list(words))
        if key == "q":
            break
        if key in labels:
            record(thing, labels[key][1])
            done += 1
    return done


def _key(asked: str, keys: Sequence[str]) -> str:
    try:
        return str(click.prompt(asked, type=click.Choice(keys)))
    except click.Abort:  # the end of the input: what is labelled is kept
        return "q"
