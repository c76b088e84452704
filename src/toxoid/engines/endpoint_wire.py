"""The wire format of OpenAI-compatible chat completions: pure functions from and to JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit, urlunsplit

from toxoid.config.prompt_files import prompt
from toxoid.data.schemas import Message, as_dicts
from toxoid.engines.base import Completion, FinishReason, GenerationRequest
from toxoid.errors import UsageError

PREFILL_NOTE = "endpoint_prefill"

PrefillMode: TypeAlias = Literal["auto", "continue", "fallback", "refuse"]
_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "length": "length",
    "max_tokens": "length",
    "content_filter": "content_filter",
}


class BadReply(Exception):
    """A successful answer that is not a chat completion."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a server was found to understand.

    Args:
        prefill: ``continue`` (an open assistant turn) or ``fallback`` (a note in the user's turn).
        proven: Whether the server has accepted an open assistant turn.
        many: Whether ``n`` above 1 is sent.
        limit: The name of the token limit.
    """

    prefill: Literal["continue", "fallback"] = "continue"
    proven: bool = False
    many: bool = True
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"


def derived_seed(seed: int, first: int) -> int:
    """Return the seed to send, in [0, 2^31), for completions ``first`` and following of a request."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{first}".encode()).digest()[:4], "big") >> 1


def payload(
    model: str, request: GenerationRequest, dialect: Dialect, *, n: int, first: int
) -> dict[str, Any]:
    """Return the body that asks for ``n`` completions, the first of them number ``first`` of the request."""
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": model,
        "messages": as_dicts(request.conversation),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        dialect.limit: sampling.max_tokens,
        "seed": derived_seed(request.seed, first),
        "stream": False,
    }
    if n > 1 and dialect.many:
        body["n"] = n
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if not request.prefill:
        return body
    if dialect.prefill == "continue":
        messages = as_dicts((*request.conversation, Message("assistant", request.prefill)))
        return {**body, "messages": messages, "continue_final_message": True, "add_generation_prompt": False}
    return {**body, "messages": _with_note(body["messages"], request.prefill)}


def _with_note(messages: Sequence[dict[str, str]], prefill: str) -> list[dict[str, str]]:
    note = str(prompt(PREFILL_NOTE)["note"]).replace("{prefill}", prefill)
    last = messages[-1]
    if last["role"] != "user":
        return [*messages, {"role": "user", "content": note}]
    return [*messages[:-1], {**last, "content": f"{last['content']}\n\n{note}"}]


def alternatives(
    dialect: Dialect, request: GenerationRequest, *, n: int, mode: PrefillMode, message: str
) -> Iterator[Dialect]:
    """Yield other dialects worth trying after the server has refused ``request`` with ``message``."""
    if "max_completion_tokens" in message and dialect.limit == "max_tokens":
        dialect = replace(dialect, limit="max_completion_tokens")
        yield dialect
    single = n > 1 and dialect.many
    if single:
        yield replace(dialect, many=False)
    if request.prefill and mode == "auto" and dialect.prefill == "continue" and not dialect.proven:
        yield replace(dialect, prefill="fallback")
        if single:
            yield replace(dialect, prefill="fallback", many=False)


def completions_of(body: Any, request: GenerationRequest, dialect: Dialect) -> list[Completion]:
    """Return the completions in a server's answer, in the order of their ``index``.

    The answer's ``completion_tokens`` cover all its choices; they are shared out evenly, so that sums stay
    exact.

    Raises:
        BadReply: The body is not a chat completion, or has no choices.
    """
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices:
        raise BadReply(f"the answer has no choices{_error_suffix(body)}")
    if not all(isinstance(choice, dict) and isinstance(choice.get("message"), dict) for choice in choices):
        raise BadReply("a choice of the answer has no message")
    choices = sorted(choices, key=lambda choice: _count(choice.get("index")))
    usage = body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    shares = _shares(_count(usage.get("completion_tokens")), len(choices))
    asked = _count(usage.get("prompt_tokens"))
    return [_completion(c, request, dialect, asked, share) for c, share in zip(choices, shares, strict=True)]


def _completion(
    choice: Mapping[str, Any], request: GenerationRequest, dialect: Dialect, asked: int, made: int
) -> Completion:
    metadata: dict[str, Any] = {}
    text = _text(choice["message"])
    if request.prefill:
        text, echoed = without_echo(text, request.prefill)
        metadata["prefill"] = dialect.prefill
        if dialect.prefill == "fallback":
            metadata["prefill_repeated"] = echoed
    said = choice.get("finish_reason")
    if said is not None and said not in _FINISH:
        metadata["finish_reason"] = str(said)[:80]
    return Completion(text, _FINISH.get(str(said), "stop"), asked, made, metadata)


def _text(message: Mapping[str, Any]) -> str:
    """Return what the assistant said: a string, parts of text, or the words of a refusal field."""
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(str(p.get("text") or "") for p in content if isinstance(p, dict))
    content = content or message.get("refusal") or ""
    if not isinstance(content, str):
        raise BadReply("the content of a message is not text")
    return content


def without_echo(text: str, prefill: str) -> tuple[str, bool]:
    """Return ``text`` without a repetition of ``prefill`` at its start, and whether there was one."""
    if text.startswith(prefill):
        return text[len(prefill) :], True
    bare = prefill.strip()
    start = text.lstrip()
    if bare and start.startswith(bare):
        rest = start[len(bare) :]
        # A prefill that ends in a space was repeated without it; the space belongs to the prefill.
        return (rest.lstrip(" ") if prefill[-1].isspace() else rest), True
    return text, False


def blocked(request: GenerationRequest, n: int, reason: FinishReason, error: str) -> list[Completion]:
    """Return ``n`` empty completions for a prompt that the server would not process."""
    return [Completion("", reason, 0, 0, {"error": error})] * n


def refusal_of_prompt(status: int, body: Any) -> tuple[FinishReason, str] | None:
    """Return how to record a 400 that concerns this one prompt: filtered, or longer than the context."""
    if status not in (400, 413, 422):
        return None
    error = body.get("error") if isinstance(body, dict) else None
    code = str(error.get("code")) if isinstance(error, dict) else ""
    if code in {"content_filter", "content_policy_violation"}:
        return "content_filter", "the endpoint's content filter rejected the prompt"
    if code == "context_length_exceeded" or "maximum context length" in error_text(body):
        return "length", "prompt exceeds the context window"
    return None


def error_text(body: Any) -> str:
    """Return the message in an error body, whatever its layout, or an empty string."""
    if isinstance(body, dict):
        for key in ("error", "message", "detail"):
            if key in body and (text := error_text(body[key])):
                return text
        return ""
    return body if isinstance(body, str) else ""


def _error_suffix(body: Any) -> str:
    return f": {text}" if (text := error_text(body)) else ""


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def _shares(total: int, parts: int) -> list[int]:
    return [total // parts + (i < total % parts) for i in range(parts)]


def chat_url(base_url: str) -> str:
    """Return the address to post to: ``base_url`` may or may not end in ``/chat/completions``.

    Raises:
        UsageError: It is not an http(s) address.
    """
    try:
        parts = urlsplit(base_url.strip())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(
            f'"{public_url(base_url)}" is no endpoint address: give one like http://127.0.0.1:8000/v1'
        )
    path = parts.path.rstrip("/")
    path = path if path.endswith("/chat/completions") else f"{path}/chat/completions"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def public_url(url: str) -> str:
    """Return ``url`` without user, password, query and fragment, which may hold keys."""
    head, separator, rest = url.strip().partition("://")
    head, rest = (head, rest) if separator else ("", head)
    # Cut at the last "@" of all: a password with a slash in it must not show either.
    shown = rest.rpartition("@")[2].split("?", 1)[0].split("#", 1)[0]
    return f"{head}{separator}{shown}"
