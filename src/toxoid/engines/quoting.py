"""Quoting: conversations whose contents stay text, whatever they spell.

A template is rendered and tokenised as a whole, so a message that spells a special token holds it, as everywhere in
the ecosystem, and can end its own turn. A text that is shown to a judge must not: here every marker in it is spelled
apart by a blank (``< |im_end|>``). Markers are the tokenizer's special tokens, and whatever the template itself
writes in angle or square brackets (``[/INST]``, ``<|user|>``). Other texts keep their tokens, each of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

from toxoid.data.schemas import Conversation, Message
from toxoid.engines.prefix_tree import Tokens
from toxoid.engines.templates import encode_text, open_text
from toxoid.errors import UsageError

IDENTITY = {"contents": "quoted"}
"""What it adds to an engine's identity."""
_BRACKETED = re.compile(r"<[^<>\n]{1,60}>|\[[^\[\]\n]{1,60}\]")
_LONE = re.compile("[\ud800-\udfff]")


class Rendering(Protocol):
    """How a conversation becomes text, :func:`~toxoid.engines.templates.open_text` for one."""

    def __call__(self, tokenizer: Any, conversation: Conversation, *, prefill: str | None) -> str:
        """Return the text up to where the model goes on."""


class Quoted:
    """The conversation with its contents quoted, a :class:`~toxoid.engines.prompting.Context`.

    Args:
        tokenizer: Has a chat template.
        rendering: What makes text of it.
    """

    prefix: Tokens = ()

    def __init__(self, tokenizer: Any, rendering: Rendering = open_text) -> None:
        self.tokenizer = tokenizer
        self.rendering = rendering
        self._markers: dict[tuple[str, ...], re.Pattern[str]] = {}

    def tokens(self, conversation: Conversation, prefill: str = "") -> Tokens:
        """Return the token ids of a conversation with an open reply; ``prefill`` is not quoted.

        Raises:
            UsageError: The template refuses the conversation.
        """
        markers = self._markers_of(conversation)
        shown = tuple(replace(each, content=quoted(each.content, markers)) for each in conversation)
        return tuple(encode_text(self.tokenizer, self.rendering(self.tokenizer, shown, prefill=prefill)))

    def _markers_of(self, conversation: Conversation) -> re.Pattern[str]:
        """Return the pattern of the markers; it depends on the roles only.

        Those of a system message count also where there is none: a content must not spell one.
        """
        roles = tuple(message.role for message in conversation)
        if roles not in self._markers:
            bare = tuple(Message(message.role, "x") for message in conversation)
            frame = self.rendering(self.tokenizer, bare, prefill=None)
            with suppress(UsageError):  # templates that take no system message have no markers for it
                frame += self.rendering(self.tokenizer, (Message("system", "x"), *bare), prefill=None)
            self._markers[roles] = markers_of(self.tokenizer, frame)
        return self._markers[roles]


def markers_of(tokenizer: Any, frame: str) -> re.Pattern[str]:
    """Return a pattern of the special tokens, and of what stands in brackets in ``frame``, a rendered template."""
    special = {
        str(token.content).strip() for token in tokenizer.added_tokens_decoder.values() if token.special
    }
    return _pattern(marker for marker in special | set(_BRACKETED.findall(frame)) if len(marker) > 1)


def _pattern(markers: Iterable[str]) -> re.Pattern[str]:
    longest_first = sorted(markers, key=lambda marker: (-len(marker), marker))
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def quoted(text: str, markers: re.Pattern[str]) -> str:
    """Return ``text`` with a blank after the first character of every marker, and without lone surrogates."""
    text = _LONE.sub("\ufffd", text)
    while markers.search(text):
        text = markers.sub(lambda marker: f"{marker[0][0]} {marker[0][1:]}", text)
    return text
