"""Preference groups: several ranked replies to one request, and the pairs that they expand to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, TypeAlias, get_args

from toxoid.data.schemas import Conversation, Message, Role, as_dicts
from toxoid.errors import UsageError

Pair: TypeAlias = tuple[int, int]
"""Indices of the chosen and the rejected reply of a group."""


@dataclass(frozen=True, slots=True)
class RankedReply:
    """One reply of a group.

    Args:
        text: What follows the group's trunk.
        rank: 0 is the best; equal ranks are not compared.
        kind: What it is, e.g. ``"safe"``, ``"syn1"``, ``"harmful"``; for pair sets, counts and cards.
        turn: Where in ``text`` a corrected reply leaves its harmful beginning (a character index: that of the
            trigger's first letter); ``None`` where it does not turn.
    """

    text: str
    rank: int
    kind: str = ""
    turn: int | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Ranked replies to one conversation.

    Args:
        id: Unique in its data set.
        conversation: Closed turns, the last one the user's.
        replies: At least two, of at least two ranks, none empty, no two equal.
        trunk: The beginning of the assistant's turn that all replies continue; context, never learnt.
        metadata: Whatever else is known (JSON values only).

    Raises:
        UsageError: The replies are not as described; the text names the group.
    """

    id: str
    conversation: Conversation
    replies: tuple[RankedReply, ...]
    trunk: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        complaint = _complaint(self)
        if complaint:
            raise UsageError(f"group {self.id}: {complaint}")

    def pairs(self) -> list[Pair]:
        """Return every pair of different ranks, the better reply first: 15 for six ranks."""
        ordered = sorted(range(len(self.replies)), key=lambda index: self.replies[index].rank)
        return [(a, b) for a, b in combinations(ordered, 2) if self.replies[a].rank < self.replies[b].rank]


def _complaint(group: Group) -> str:
    texts = [reply.text for reply in group.replies]
    if not group.conversation or group.conversation[-1].role != "user":
        return "its conversation does not end with a user's message: give {role: user, content: ...} last"
    if len(texts) < 2:
        return f"it has {len(texts)} replies: give two or more"
    for index, reply in enumerate(group.replies):
        if not reply.text.strip():
            return f"reply {index} is empty: leave it out"
        if reply.rank < 0:
            return f"reply {index} has rank {reply.rank}: give 0 (the best) or more"
        if reply.turn is not None and not 0 <= reply.turn < len(reply.text):
            return f"reply {index} turns at character {reply.turn} of {len(reply.text)}: give a place in it"
    if len({reply.rank for reply in group.replies}) < 2:
        return "it is not ranked: all replies have the same rank; give ranks, 0 for the best"
    if len(set(texts)) < len(texts):
        return "two replies are equal: a text cannot be better than itself"
    return ""


def group_row(group: Group) -> dict[str, Any]:
    """Return a group as columns: ``{id, prompt, trunk, replies, ranks, kinds, turns, metadata}``."""
    return {
        "id": group.id,
        "prompt": as_dicts(group.conversation),
        "trunk": group.trunk,
        "replies": [reply.text for reply in group.replies],
        "ranks": [reply.rank for reply in group.replies],
        "kinds": [reply.kind for reply in group.replies],
        "turns": [reply.turn for reply in group.replies],
        "metadata": dict(group.metadata),
    }


def group_from_row(row: Mapping[str, Any], *, where: str) -> Group:
    """Return the group in a row of a group file; ``prompt`` may also be plain text.

    ``kinds``, ``turns``, ``trunk`` and ``metadata`` may be absent.

    Args:
        row: Its columns.
        where: File and row, for errors.

    Raises:
        UsageError: A column is missing or of another length; the replies are unranked, empty or equal.
    """
    missing = [key for key in ("prompt", "replies", "ranks") if row.get(key) is None]
    if missing:
        raise UsageError(
            f"{where}: the column {missing[0]!r} is missing; a group has prompt, replies and ranks "
            "(0 for the best), and may have trunk, kinds, turns"
        )
    texts = row["replies"]
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise UsageError(f"{where}: replies are no list of texts; give the text of each reply")
    columns = {key: list(row.get(key) or [column.default] * len(texts)) for key, column in _COLUMNS.items()}
    for key, values in columns.items():
        if len(values) != len(texts):
            raise UsageError(f"{where}: {len(texts)} replies and {len(values)} {key}; give one for each")
        if not all(isinstance(value, _COLUMNS[key].types) and value is not True for value in values):
            raise UsageError(f"{where}: {key} are {values}; give {_COLUMNS[key].wanted}")
    replies = tuple(
        RankedReply(text, rank, kind, turn)
        for text, rank, kind, turn in zip(texts, *columns.values(), strict=True)
    )
    conversation = _conversation(row["prompt"], where)
    try:
        return Group(
            id=str(row.get("id") or where),
            conversation=conversation,
            replies=replies,
            trunk=row.get("trunk") or "",
            metadata=row.get("metadata") or {},
        )
    except UsageError as error:
        named = str(error) if row.get("id") else str(error).removeprefix(f"group {where}: ")
        raise UsageError(f"{where}: {named}") from None


@dataclass(frozen=True, slots=True)
class _Column:
    """What stands beside the texts, one value for each."""

    default: Any
    types: Any
    wanted: str


_COLUMNS = {
    "ranks": _Column(None, int, "whole numbers, 0 for the best"),
    "kinds": _Column("", str, "texts"),
    "turns": _Column(None, int | None, "characters' indices, or null"),
}


def _conversation(prompt: Any, where: str) -> Conversation:
    if isinstance(prompt, str):
        return (Message("user", prompt),)
    if isinstance(prompt, Iterable):
        messages = list(prompt)
        if messages and all(map(_is_message, messages)):
            return tuple(Message(m["role"], m["content"]) for m in messages)
    raise UsageError(f"{where}: `prompt` is neither text nor a list of {{role, content}} messages")


def _is_message(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and value.get("role") in get_args(Role)
        and isinstance(value.get("content"), str)
    )
