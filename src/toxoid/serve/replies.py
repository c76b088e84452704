"""What clients get: chat completions, completions, their streams, and errors, in OpenAI's shapes."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel
from starlette.responses import JSONResponse

from toxoid.engines.base import FinishReason
from toxoid.serve.jobs import TokenScore

Json: TypeAlias = dict[str, Any]


class JsonAnswer(JSONResponse):
    """JSON in ASCII: whatever text a model or client makes, it can be sent."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return json.dumps(content).encode("ascii")


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every answer that is no success."""

    error: ErrorDetail


class Usage(BaseModel):
    """Token counts of a whole answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ReplyMessage(BaseModel):
    """What the assistant says."""

    role: Literal["assistant"]
    content: str


class ChatChoice(BaseModel):
    """One reply."""

    index: int
    message: ReplyMessage
    finish_reason: FinishReason
    logprobs: Json | None


class TextChoice(BaseModel):
    """One reply."""

    index: int
    text: str
    finish_reason: FinishReason
    logprobs: Json | None


class ChatCompletion(BaseModel):
    """A whole answer of ``/v1/chat/completions``."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class TextCompletion(BaseModel):
    """A whole answer of ``/v1/completions``."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage


@dataclass(slots=True)
class Choice:
    """One reply as far as it is known.

    Args:
        text: What the client may see of it.
        scores: Of its tokens, if they were asked for.
        finish: Why it ended; ``None`` before that.
    """

    text: str = ""
    scores: list[TokenScore] = field(default_factory=list)
    finish: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """How the answers of one route look.

    Args:
        model: The served model's name.
        scored: Whether tokens come with their probabilities.
        id: Of the answer.
        created: Seconds since 1970.
    """

    model: str
    scored: bool = False
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    prefix: ClassVar[str]
    whole_name: ClassVar[str]
    chunk_name: ClassVar[str]

    def whole(self, choices: Sequence[Choice], usage: Json, told: Json) -> Json:
        """Return an answer.

        Args:
            choices: The replies, in order.
            usage: Token counts.
            told: Further fields.
        """
        shown = [
            {
                "index": index,
                **self.reply(choice.text),
                "finish_reason": choice.finish,
                "logprobs": self.logprobs(choice.scores),
            }
            for index, choice in enumerate(choices)
        ]
        return {**self._head(self.whole_name), "choices": shown, "usage": usage, **told}

    def piece(self, index: int, text: str, scores: Sequence[TokenScore], offset: int) -> Json:
        """Return a chunk of a stream that adds ``text``, ``offset`` characters after the reply's beginning."""
        logprobs = self.logprobs(scores, offset)
        return self._chunk({"index": index, **self.delta(text), "finish_reason": None, "logprobs": logprobs})

    def end(self, index: int, finish: FinishReason) -> Json:
        """Return the last chunk of a reply."""
        return self._chunk({"index": index, **self.delta(""), "finish_reason": finish, "logprobs": None})

    def beginning(self, index: int) -> Json | None:
        """Return the chunk with which a reply begins, if there is one."""
        return None

    def tail(self, **told: Any) -> Json:
        """Return a chunk without choices: usage and the like."""
        return {**self._head(self.chunk_name), "choices": [], **told}

    def reply(self, text: str) -> Json:
        """Return the field of a choice that holds its text."""
        raise NotImplementedError

    def delta(self, text: str) -> Json:
        """Return the field of a streamed choice that holds what is added."""
        raise NotImplementedError

    def logprobs(self, scores: Sequence[TokenScore], offset: int = 0) -> Json | None:
        """Return the probabilities of tokens, ``None`` if they were not asked for."""
        raise NotImplementedError

    def _chunk(self, choice: Json) -> Json:
        return {**self._head(self.chunk_name), "choices": [choice]}

    def _head(self, name: str) -> Json:
        return {
            "id": f"{self.prefix}-{self.id}",
            "object": name,
            "created": self.created,
            "model": self.model,
        }


class ChatShape(Shape):
    """The shape of ``/v1/chat/completions``."""

    prefix, whole_name, chunk_name = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def reply(self, text: str) -> Json:
        """See :meth:`Shape.reply`."""
        return {"message": {"role": "assistant", "content": text}}

    def delta(self, text: str) -> Json:
        """See :meth:`Shape.delta`."""
        return {"delta": {"content": text} if text else {}}

    def beginning(self, index: int) -> Json | None:
        """See :meth:`Shape.beginning`."""
        first = {"delta": {"role": "assistant", "content": ""}, "finish_reason": None, "logprobs": None}
        return self._chunk({"index": index, **first})

    def logprobs(self, scores: Sequence[TokenScore], offset: int = 0) -> Json | None:
        """See :meth:`Shape.logprobs`."""
        if not self.scored:
            return None
        return {
            "content": [
                {
                    **_token(score.text, score.logprob),
                    "top_logprobs": [_token(text, logprob) for text, logprob in score.top],
                }
                for score in scores
            ]
        }


class TextShape(Shape):
    """The shape of ``/v1/completions``."""

    prefix, whole_name, chunk_name = "cmpl", "text_completion", "text_completion"

    def reply(self, text: str) -> Json:
        """See :meth:`Shape.reply`."""
        return {"text": text}

    def delta(self, text: str) -> Json:
        """See :meth:`Shape.delta`."""
        return {"text": text}

    def logprobs(self, scores: Sequence[TokenScore], offset: int = 0) -> Json | None:
        """See :meth:`Shape.logprobs`."""
        if not self.scored:
            return None
        offsets = []
        for score in scores:
            offsets.append(offset)
            offset += len(score.text)
        return {
            "tokens": [score.text for score in scores],
            "token_logprobs": [score.logprob for score in scores],
            "top_logprobs": [dict(score.top) for score in scores],
            "text_offset": offsets,
        }


def usage_of(prompt_tokens: int, completion_tokens: int) -> Json:
    """Return token counts as answers have them."""
    total = prompt_tokens + completion_tokens
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total}


def error_body(status: int, message: str, *, param: str | None = None, code: str | None = None) -> Json:
    """Return the body of an answer that is no success."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


_TYPES: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    502: "upstream_error",
    504: "timeout_error",
}


def _token(text: str, logprob: float) -> Json:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode("utf-8", "replace"))}
