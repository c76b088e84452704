"""Quoting: conversations whose contents stay text, whatever they spell.

A template is rendered and tokenised as a whole, so a message that spells a special token holds it, as everywhere in
the ecosystem, and can end its own turn. Here every marker in a content is spelled apart by a blank (``< |im_end|>``).
Markers are the tokenizer's special tokens, and whatever the template itself writes in angle or square brackets
(``[/INST]``, ``<|user|>``). Other texts keep their tokens, each of them.

:class:`Quoting` does so for what a model is asked: there, replies keep what is no special token, for blocks of
reasoning are in them by right. :class:`Quoted` does it for texts that are shown to a judge, replies included.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

from jinja2.exceptions import TemplateError

from toxoid.data.schemas import Conversation, Message
from toxoid.engines.prefix_tree import Tokens
from toxoid.engines.templates import encode_text, open_text
from toxoid.errors import UsageError

IDENTITY = {"contents": "quoted"}
"""What :class:`Quoted` adds to an engine's identity."""
ASKED_IDENTITY = {"messages": "quoted"}
"""What :meth:`Quoting.asked` adds to it."""
_BRACKETED = re.compile(r"<[^<>\n]{1,60}>|\[[^\[\]\n]{1,60}\]")
_LONE = re.compile("[\ud800-\udfff]")


class Rendering(Protocol):
    """How a conversation becomes text, :func:`~toxoid.engines.templates.open_text` for one."""

    def __call__(self, tokenizer: Any, conversation: Conversation, *, prefill: str | None) -> str:
        """Return the text up to where the model goes on."""


class Quoting:
    """Spells markers apart in the contents of conversations.

    Args:
        tokenizer: Has a chat template.
        rendering: What makes text of a conversation.
    """

    def __init__(self, tokenizer: Any, rendering: Rendering = open_text) -> None:
        self.tokenizer = tokenizer
        self.rendering = rendering
        self._special = special_markers(tokenizer)
        self._reply = _pattern(self._special)
        self._markers: dict[tuple[str, ...], re.Pattern[str]] = {}

    def asked(self, conversation: Conversation, prefill: str = "") -> tuple[Conversation, str]:
        """Return a conversation and the beginning of its reply as a model is asked with them."""
        told = self._markers_of(conversation)
        shown = (_with(each, self._reply if each.role == "assistant" else told) for each in conversation)
        return tuple(shown), quoted(prefill, self._reply)

    def shown(self, conversation: Conversation) -> Conversation:
        """Return a conversation with all its contents quoted, as a judge sees it."""
        markers = self._markers_of(conversation)
        return tuple(_with(each, markers) for each in conversation)

    def _markers_of(self, conversation: Conversation) -> re.Pattern[str]:
        """Return the pattern of the markers; it depends on the roles only.

        Those of a system message count also where there is none: a content must not spell one.
        """
        roles = tuple(message.role for message in conversation)
        if roles not in self._markers:
            bare = tuple(Message(message.role, "x") for message in conversation)
            frame = ""
            for turns in (bare, (Message("system", "x"), *bare)):
                with suppress(
                    UsageError, TemplateError
                ):  # a template that takes no such turns has no markers for them
                    frame += self.rendering(self.tokenizer, turns, prefill=None)
            self._markers[roles] = _pattern(self._special | set(_BRACKETED.findall(frame)))
        return self._markers[roles]


class Quoted:
    """The conversation with all its contents quoted, a :class:`~toxoid.engines.prompting.Context`.

    Args:
        tokenizer: Has a chat template.
        rendering: What makes text of it.
    """

    prefix: Tokens = ()

    def __init__(self, tokenizer: Any, rendering: Rendering = open_text) -> None:
        self._quoting = Quoting(tokenizer, rendering)

    def tokens(self, conversation: Conversation, prefill: str = "") -> Tokens:
        """Return the token ids of a conversation with an open reply; ``prefill`` is not quoted.

        Raises:
            UsageError: The template refuses the conversation.
        """
        tokenizer, shown = self._quoting.tokenizer, self._quoting.shown(conversation)
        return tuple(encode_text(tokenizer, self._quoting.rendering(tokenizer, shown, prefill=prefill)))


def special_markers(tokenizer: Any) -> frozenset[str]:
    """Return the texts of a tokenizer's special tokens."""
    tokens = tokenizer.added_tokens_decoder.values()
    return frozenset(str(token.content).strip() for token in tokens if token.special)


def markers_of(tokenizer: Any, frame: str) -> re.Pattern[str]:
    """Return a pattern of the special tokens, and of what stands in brackets in ``frame``, a rendered template."""
    return _pattern(special_markers(tokenizer) | set(_BRACKETED.findall(frame)))


def _pattern(markers: Iterable[str]) -> re.Pattern[str]:
    longest_first = sorted((each for each in markers if len(each) > 1), key=lambda each: (-len(each), each))
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _with(message: Message, markers: re.Pattern[str]) -> Message:
    return replace(message, content=quoted(message.content, markers))


def quoted(text: str, markers: re.Pattern[str]) -> str:
    """Return ``text`` with a blank after the first character of every marker, and without lone surrogates."""
    text = _LONE.sub("\ufffd", text)
    while markers.search(text):
        text = markers.sub(lambda marker: f"{marker[0][0]} {marker[0][1:]}", text)
    return text
