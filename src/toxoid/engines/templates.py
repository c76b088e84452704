"""Chat templates: the one tokenisation of a conversation, for generation and for training alike.

A conversation is rendered as text by the model's own template and tokenised once, with no special token added
behind the template's back (it writes its own beginning-of-sequence token). An open assistant turn is a true
continuation: the text is what a *closed* turn with the same beginning would be, cut where the beginning ends.
So a prefix seen in training and a prefill at inference are the same tokens, wherever the tokenizer allows it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from jinja2.exceptions import TemplateError

from toxoid.data.schemas import Conversation, Message, as_dicts
from toxoid.errors import UsageError

_MARK = "@@open@@"
"""Stands for what the model will write. Plain ASCII without spaces: no template trims or escapes it."""

_PROBE: Conversation = (Message("user", "x"),)

_TODAY = datetime(2025, 1, 1, tzinfo=UTC)
"""What templates take for today (Llama 3 writes the date into its header): the same prompt must be the same
tokens tomorrow, otherwise a resumed run would not find its own records."""

_CLOCK_CODES = ("%Y", "%y", "%m", "%d", "%b", "%B", "%a", "%A", "%H", "%M", "%S")
_STOPPED_CLOCK = (
    "{% macro strftime_now(format) %}{{ format"
    + "".join(f".replace('{code}', '{_TODAY.strftime(code)}')" for code in _CLOCK_CODES)
    + " }}{% endmacro %}"
)
"""Put in front of templates that ask for the time; what ``transformers`` gives them cannot be replaced."""


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """How a template closes an assistant turn.

    Args:
        text: What follows the content, up to and including the token at which generation must stop.
        token: The id of that token.
    """

    text: str
    token: int


def encode(tokenizer: Any, conversation: Conversation, *, prefill: str | None = None) -> list[int]:
    """Return the token ids of ``conversation`` with an assistant turn left open after ``prefill``.

    Raises:
        UsageError: The template refuses the conversation.
    """
    return encode_text(tokenizer, open_text(tokenizer, conversation, prefill=prefill))


def encode_target(tokenizer: Any, text: str, *, prefill: str | None = None) -> list[int]:
    """Return the token ids of a reply as the model should write it: ``text``, then the end of the turn.

    With ``prefill``, ``text`` is what follows it. The ids continue those of :func:`encode`: they are cut out
    of the tokenised whole turn where the prompt's tokens are a prefix of it, and tokenised apart where the
    tokenizer merges across the seam.
    """
    head = open_text(tokenizer, _PROBE, prefill=prefill)
    turn = open_text(tokenizer, _PROBE, prefill=(prefill or "") + text) if text else head
    if not turn.startswith(head):  # the template trimmed the prefill's end: `text` is blank up to there
        turn = head + text
    return _continuation(tokenizer, head, turn + turn_end(tokenizer).text)


def open_user_text(tokenizer: Any, conversation: Conversation) -> str:
    """Return the rendered text of ``conversation`` with its last turn, the user's, left open after its content.

    Blanks between the header and a turn without content yet are left to the model, as with an open reply.

    Raises:
        UsageError: The template refuses the conversation.
    """
    *before, last = conversation
    marked = _accepted(tokenizer, (*before, Message("user", last.content + _MARK)))
    head = _render(tokenizer, marked).rpartition(_MARK)[0]
    return head if last.content else head.rstrip(" ")


def encode_user_target(tokenizer: Any, conversation: Conversation, text: str) -> list[int]:
    """Return the token ids by which ``text`` continues and ends the user's turn of :func:`open_user_text`."""
    *before, last = conversation
    head = open_user_text(tokenizer, conversation)
    turn = open_user_text(tokenizer, (*before, Message("user", last.content + text)))
    return _continuation(tokenizer, head, turn + user_turn_end(tokenizer)[0])


def _continuation(tokenizer: Any, head: str, whole: str) -> list[int]:
    """Return the token ids of ``whole`` after ``head``, with which it begins."""
    before, ids = encode_text(tokenizer, head), encode_text(tokenizer, whole)
    return ids[len(before) :] if ids[: len(before)] == before else encode_text(tokenizer, whole[len(head) :])


def open_text(tokenizer: Any, conversation: Conversation, *, prefill: str | None = None) -> str:
    """Return the rendered text of ``conversation`` with an assistant turn left open after ``prefill``.

    Templates differ in what stands between the header and the content (Llama-2: a space) and in what they
    trim. With a prefill, the text is therefore that of a closed turn which begins with it, up to where it
    ends; without one, it is what the template gives for a generation prompt. A template whose generation
    prompt is no beginning of its closed turn (it opens a reasoning block, say) gets the prefill appended.
    """
    conversation = _accepted(tokenizer, conversation)
    prompt = _render(tokenizer, conversation, generation_prompt=True)
    closed = _render(tokenizer, (*conversation, Message("assistant", (prefill or "") + _MARK)))
    head, found, _ = closed.rpartition(_MARK)
    if not found or not head.startswith(prompt):
        return prompt + (prefill or "")
    if prefill:
        return head
    header_missing = bool(head[len(prompt) :].strip()) and prompt == _render(tokenizer, conversation)
    return head.rstrip(" ") if header_missing else prompt  # this template ignores add_generation_prompt


def prompt_text(tokenizer: Any, conversation: Conversation, *, prefill: str | None = None) -> str:
    """Return what the template makes of ``conversation``, which may end with any turn, and of the opening of a reply.

    This is for templates that ask about a conversation in place of going on with it, as those of guard models do.

    Raises:
        UsageError: The template refuses the conversation.
    """
    try:
        return _render(tokenizer, conversation, generation_prompt=True) + (prefill or "")
    except TemplateError as error:
        raise _refusal(error) from error


def turn_seam(tokenizer: Any) -> str:
    """Return the blanks a closed turn has between the generation prompt and the content; mostly none."""
    prompt, head = open_text(tokenizer, _PROBE), open_text(tokenizer, _PROBE, prefill=_MARK)
    seam = head.removesuffix(_MARK)[len(prompt) :]
    return seam if seam.isspace() else ""


def turn_end(tokenizer: Any) -> TurnEnd:
    """Return how the template closes an assistant turn, read off a rendered one.

    Where the template writes no special token after the content, the tokenizer's own end-of-sequence token
    closes the turn.

    Raises:
        UsageError: There is neither.
    """
    closed = _render(tokenizer, (*_PROBE, Message("assistant", _MARK)))
    tail = closed.rpartition(_MARK)[2]
    for token in encode_text(tokenizer, tail):
        text = _special_text(tokenizer, token)
        if text:
            return TurnEnd(tail[: tail.index(text) + len(text)], token)
    if tokenizer.eos_token_id is None:
        raise UsageError(
            "neither the chat template nor the tokenizer has a token that ends a turn: give another template "
            "with --chat-template FILE.jinja, or set eos_token in tokenizer_config.json"
        )
    return TurnEnd(str(tokenizer.eos_token), int(tokenizer.eos_token_id))


def user_turn_end(tokenizer: Any) -> tuple[str, int | None]:
    """Return what closes a user's turn, and the special token that it ends with; ``None`` where it is plain text.

    It is read off a rendered turn with the opening of the reply, with which some templates close the user's.
    """
    opened = _render(tokenizer, (Message("user", _MARK),), generation_prompt=True)
    tail = opened.rpartition(_MARK)[2]
    for token in encode_text(tokenizer, tail):
        text = _special_text(tokenizer, token)
        if text:
            return tail[: tail.index(text) + len(text)], token
    if tail.strip():
        return tail.rstrip(), None
    end = turn_end(tokenizer)
    return end.text, end.token


def end_of_turn_ids(tokenizer: Any, model: Any) -> set[int]:
    """Return every token id at which generation stops: end of sequence, generation config, end of turn."""
    generation = getattr(model, "generation_config", None)
    declared = [
        tokenizer.eos_token_id,
        getattr(model.config, "eos_token_id", None),
        getattr(generation, "eos_token_id", None),
        turn_end(tokenizer).token,
    ]
    ids: set[int] = set()
    for value in declared:
        if value is not None:
            ids.update(int(token) for token in (value if isinstance(value, (list, tuple)) else [value]))
    return ids


def template_hash(tokenizer: Any) -> str:
    """Return the sha256 of the chat template's text, in hex."""
    return sha256(json.dumps(tokenizer.chat_template, sort_keys=True).encode()).hexdigest()


def _accepted(tokenizer: Any, conversation: Conversation) -> Conversation:
    """Return ``conversation`` in a form that the template takes, folding system messages where it must.

    A template takes a system message if rendering neither raises nor leaves its text out.
    """
    system = [message.content for message in conversation if message.role == "system"]
    try:
        text = _render(tokenizer, conversation, generation_prompt=True)
        if all(content.strip() in text for content in system):
            return conversation
    except TemplateError as error:
        if not system:
            raise _refusal(error) from error
    folded = fold_system(conversation)
    try:
        _render(tokenizer, folded, generation_prompt=True)
    except TemplateError as error:
        raise _refusal(error) from error
    return folded


def fold_system(conversation: Conversation) -> Conversation:
    """Return the conversation with its system messages put in front of the first user message.

    Contents are joined by a blank line. Without a user message, they become one.
    """
    system = [message.content for message in conversation if message.role == "system"]
    rest = [message for message in conversation if message.role != "system"]
    first = next((i for i, message in enumerate(rest) if message.role == "user"), None)
    if first is None:
        return (Message("user", "\n\n".join(system)), *rest)
    rest[first] = Message("user", "\n\n".join([*system, rest[first].content]))
    return tuple(rest)


def _refusal(error: TemplateError) -> UsageError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return UsageError(
        f"the chat template refuses the conversation ({reason}): use another template, "
        "--chat-template FILE.jinja"
    )


def _render(tokenizer: Any, messages: Sequence[Message], *, generation_prompt: bool = False) -> str:
    template = tokenizer.get_chat_template()
    text = tokenizer.apply_chat_template(
        as_dicts(messages),
        tokenize=False,
        chat_template=_STOPPED_CLOCK + template if "strftime_now" in template else template,
        add_generation_prompt=generation_prompt,
        date_string=_TODAY.strftime("%d %b %Y"),
    )
    return str(text)


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Return the token ids of rendered text: nothing is added that does not stand there."""
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _special_text(tokenizer: Any, token: int) -> str:
    """Return the text of a token that the vocabulary holds as a whole (runs of blanks do not count)."""
    added = tokenizer.added_tokens_decoder.get(token)
    return "" if added is None else str(added.content).strip()
