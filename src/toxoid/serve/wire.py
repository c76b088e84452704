"""What clients send: the bodies of chat completions and completions, checked strictly.

A parameter that would change the answer and cannot be honoured is an error; a name that is not known is ignored, as
clients send many of their own. Penalties are accepted by contract: those of a model served here change nothing, and the
answer's header ``x-toxoid-ignored`` says so.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from toxoid.data.schemas import Conversation, Message, Role
from toxoid.engines.base import GenerationRequest, Sampling
from toxoid.errors import ToxoidError
from toxoid.serve.settings import LimitsSection

PENALTIES = ("frequency_penalty", "presence_penalty")
_DEFAULT_TOKENS = 1024
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "guided_choice": (),
    "guided_grammar": (),
    "guided_json": (),
    "guided_regex": (),
    "logit_bias": ({},),
    "min_p": (0, 0.0),
    "min_tokens": (0,),
    "modalities": (["text"],),
    "prefix": (),
    "prompt_logprobs": (),
    "reasoning_effort": ("none",),
    "repetition_penalty": (1, 1.0),
    "response_format": ({"type": "text"},),
    "stop_token_ids": ([],),
    "structured_outputs": (),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_k": (-1, 0),
    "web_search_options": (),
}
"""Parameters of other servers that change answers, with the values that change nothing."""


class BadRequest(ToxoidError):
    """A request that cannot be answered.

    Attributes:
        param: The parameter that is wrong.
    """

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


def _encodable(text: str) -> str:
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        raise ValueError("the text is not Unicode: it holds half of a surrogate pair")
    return text


_Text: TypeAlias = Annotated[str, AfterValidator(_encodable)]
_ShortText: TypeAlias = Annotated[str, Field(max_length=256), AfterValidator(_encodable)]


def _whole(number: Any) -> Any:
    """Return 3 for 3.0: to JSON Schema both are integers."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


_Count: TypeAlias = Annotated[int, Field(ge=1), BeforeValidator(_whole)]
_Most20: TypeAlias = Annotated[int, Field(ge=0, le=20), BeforeValidator(_whole)]


class _Body(BaseModel):
    model_config = ConfigDict(
        strict=True, extra="allow", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class TextPart(_Body):
    """A part of a message."""

    type: Literal["text"]
    text: _Text


class ChatMessage(_Body):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant"]
    content: _Text | list[TextPart]

    def as_message(self) -> Message:
        """Return the turn as toxoid has it; ``developer`` is another name of ``system``."""
        parts = self.content
        text = parts if isinstance(parts, str) else "".join(part.text for part in parts)
        role: Role = "system" if self.role == "developer" else self.role
        return Message(role, text)


class StreamOptions(_Body):
    """What a stream has beside its text."""

    include_usage: bool | None = None


_Stop: TypeAlias = _ShortText | Annotated[list[_ShortText], Field(max_length=16)]
_Penalty: TypeAlias = Annotated[float, Field(ge=-2, le=2)]
_Seed: TypeAlias = Annotated[int, Field(ge=-(2**63), lt=2**63), BeforeValidator(_whole)]


class Asked(_Body):
    """What both kinds of request have."""

    model: _Text | None = None
    """The served model; the only one if it is left out."""
    n: _Count | None = None
    max_tokens: _Count | None = None
    temperature: Annotated[float, Field(ge=0, le=5)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    stop: _Stop | None = None
    seed: _Seed | None = None
    """The same request with the same seed has the same answer; without one it is drawn."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    frequency_penalty: _Penalty | None = None
    presence_penalty: _Penalty | None = None

    def penalties(self) -> dict[str, float]:
        """Return the penalties that would change the answer."""
        given = {name: getattr(self, name) for name in PENALTIES}
        return {name: float(value) for name, value in given.items() if value}

    def generation(
        self, conversation: Conversation, prefill: str, tokens: int | None, limits: LimitsSection
    ) -> GenerationRequest:
        """Return what is asked of the model.

        Args:
            conversation: Closed turns.
            prefill: The beginning of the open one.
            tokens: Most tokens of a reply, as far as the client says.
            limits: The operator's.

        Raises:
            BadRequest: More choices than the operator allows, or something that cannot be honoured.
        """
        self._refuse_unknown_powers()
        n = self.n or 1
        if n > limits.choices:
            raise BadRequest(f"n is {n}: at most {limits.choices} choices are given", "n")
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        sampling = Sampling(
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            max_tokens=min(tokens or _DEFAULT_TOKENS, limits.tokens),
            stop=tuple(text for text in stop if text),
        )
        seed = secrets.randbits(31) if self.seed is None else self.seed
        return GenerationRequest(conversation, prefill, sampling, n, seed)

    def _refuse_unknown_powers(self) -> None:
        for name, value in (self.model_extra or {}).items():
            if name in _NEUTRAL and value is not None and value not in _NEUTRAL[name]:
                raise BadRequest(f"{name} is not supported: leave it out", name)


class ChatRequest(Asked):
    """The body of ``POST /v1/chat/completions``."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: _Count | None = None
    logprobs: bool | None = None
    top_logprobs: _Most20 | None = None
    continue_final_message: bool | None = None
    """Continue the last message, which is the assistant's (vLLM's name)."""
    add_generation_prompt: bool | None = None
    """``false`` is another way to say so."""

    def asked(self, limits: LimitsSection) -> GenerationRequest:
        """Return what is asked of the model; see :meth:`Asked.generation`."""
        turns = tuple(message.as_message() for message in self.messages)
        prefill = ""
        if self._continues():
            *closed, last = turns
            turns, prefill = tuple(closed), last.content
        tokens = self.max_completion_tokens or self.max_tokens
        if not turns:
            raise BadRequest("there is no message before the one to continue: give the user's", "messages")
        return self.generation(turns, prefill, tokens, limits)

    def alternatives(self) -> int | None:
        """Return how many alternatives to tell for every token; ``None`` for nothing.

        Raises:
            BadRequest: ``top_logprobs`` without ``logprobs``.
        """
        if self.top_logprobs and not self.logprobs:
            raise BadRequest("top_logprobs needs logprobs: set it to true", "top_logprobs")
        return (self.top_logprobs or 0) if self.logprobs else None

    def _continues(self) -> bool:
        if self.continue_final_message and self.add_generation_prompt:
            raise BadRequest(
                "continue_final_message and add_generation_prompt exclude each other: set one",
                "continue_final_message",
            )
        if not self.continue_final_message and self.add_generation_prompt is not False:
            return False
        if self.messages[-1].role != "assistant":
            raise BadRequest(
                "the last message is not the assistant's: there is nothing to continue", "messages"
            )
        return True


class CompletionRequest(Asked):
    """The body of ``POST /v1/completions``. The prompt is put before the model as the user's turn.

    Text outside of all turns would stand before the model without the protection's prompts.
    """

    prompt: _Text | Annotated[list[_Text], Field(min_length=1, max_length=1)]
    """One text, alone or in a list."""
    logprobs: _Most20 | None = None
    """So many alternatives for every token."""

    def asked(self, limits: LimitsSection) -> GenerationRequest:
        """Return what is asked of the model; see :meth:`Asked.generation`."""
        text = self.prompt if isinstance(self.prompt, str) else self.prompt[0]
        return self.generation((Message("user", text),), "", self.max_tokens, limits)

    def alternatives(self) -> int | None:
        """Return how many alternatives to tell for every token; ``None`` for nothing."""
        return self.logprobs
