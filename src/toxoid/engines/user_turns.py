"""An engine that writes what a user says: the user's turn is left open, and the model goes on with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from toxoid.data.schemas import Conversation
from toxoid.engines.base import Completion, GenerationRequest, OnDone
from toxoid.engines.loading import LoadedModel
from toxoid.engines.local import LocalEngine
from toxoid.engines.prefix_tree import Tokens
from toxoid.engines.prompting import Prompting
from toxoid.engines.templates import encode_text, open_user_text, user_turn_end


@dataclass(frozen=True)
class _OpenTurn:
    """The conversation with its last message, the user's, left open."""

    tokenizer: Any
    prefix: Tokens = ()

    def tokens(self, conversation: Conversation, prefill: str = "") -> Tokens:
        """See :class:`toxoid.engines.prompting.Context`; there is no reply that could have begun."""
        return tuple(encode_text(self.tokenizer, open_user_text(self.tokenizer, conversation)))


class UserTurnEngine(LocalEngine):
    """Continues the last message of a conversation, which is the user's, to the end of the turn.

    An empty message asks for a whole turn. The training examples that fit have ``turn="user"``
    (:class:`toxoid.training.examples.Example`).
    """

    def __init__(self, loaded: LoadedModel) -> None:
        """Take the model as it is; nothing is copied."""
        super().__init__(loaded, Prompting(_OpenTurn(loaded.tokenizer), identity={"turn": "user"}))
        text, token = user_turn_end(loaded.tokenizer)
        self._end_ids |= set() if token is None else {token}
        self._stop = (text.strip(),) if token is None else ()

    def generate(
        self, requests: Sequence[GenerationRequest], on_done: OnDone | None = None
    ) -> list[list[Completion]]:
        """Return ``n`` continuations per request, in the order of ``requests``; see the base class."""
        return super().generate([self._closing(request) for request in requests], on_done)

    def _closing(self, request: GenerationRequest) -> GenerationRequest:
        """Return the request so that it stops where a template closes the user's turn with plain text."""
        stop = (*request.sampling.stop, *self._stop)
        return replace(request, sampling=replace(request.sampling, stop=stop))
