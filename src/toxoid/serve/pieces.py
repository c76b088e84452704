"""A completion on its way: from tokens to pieces of text that are never taken back."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import torch

from toxoid.engines.decoding import Continuation
from toxoid.engines.explain import token_text
from toxoid.engines.local import Asked, LocalEngine
from toxoid.serve.jobs import TokenScore

_BROKEN = "\ufffd"


class Pieces:
    """The text of one continuation as it grows; all pieces together are the text of :meth:`LocalEngine.completion`.

    A step decodes the last few tokens only, whatever the length of the reply. Held back are characters that are not
    complete and what may be the beginning of a stop string.

    Args:
        engine: Whose tokens they are.
        asked: What was asked.
        path: The continuation.
        indices: The completions that it is: all of a greedy request.
        alternatives: How many are told for each token; ``None`` tells no probabilities.

    Attributes:
        path: The continuation.
        indices: The completions that it is.
    """

    def __init__(
        self,
        engine: LocalEngine,
        asked: Asked,
        path: Continuation,
        indices: Sequence[int],
        alternatives: int | None = None,
    ) -> None:
        self.path = path
        self.indices = indices
        self._engine = engine
        self._asked = asked
        self._alternatives = alternatives
        self._seam = "" if asked.request.prefill else engine.seam
        self._tokens = engine.lead(asked)
        # Tokens from `_start` on are decoded, so that blanks come out right; the text of those before `_end` is known.
        self._start, self._end = 0, len(self._tokens)
        self._raw = ""
        self._shown = ""
        self._scores: deque[tuple[int, TokenScore]] = deque()

    def grow(self, token: int, logits: torch.Tensor) -> tuple[str, tuple[TokenScore, ...]]:
        """Take in a token, and return what can be told now, maybe nothing: all that is left if it is the last one.

        Args:
            token: The token.
            logits: (vocabulary,), from which it was drawn.
        """
        if self._alternatives is not None and token not in self._engine.end_ids:
            score = _score(self._engine.loaded.tokenizer, self._tokens, token, logits, self._alternatives)
            self._scores.append((len(self._raw), score))
        self._tokens.append(token)
        self._settle()
        if self.path.finish is not None:
            return self._show(self._engine.completion(self._asked, self.path).text)
        text = self._text()
        return self._show(text[: len(text) - _held(text, self._asked.request.sampling.stop)])

    def _settle(self) -> None:
        """Take the text of the last tokens over, if it is that of whole characters."""
        known = self._engine.decode_ids(self._tokens[self._start : self._end])
        text = self._engine.decode_ids(self._tokens[self._start :])
        if len(text) > len(known) and text.startswith(known) and not text.endswith(_BROKEN):
            self._raw += text[len(known) :]
            self._start, self._end = self._end, len(self._tokens)

    def _text(self) -> str:
        if len(self._raw) < len(self._seam) and self._seam.startswith(self._raw):
            return ""
        return self._raw.removeprefix(self._seam)

    def _show(self, text: str) -> tuple[str, tuple[TokenScore, ...]]:
        new, self._shown = text[len(self._shown) :], max(text, self._shown, key=len)
        before = len(self._seam) if self._raw.startswith(self._seam) else 0
        scores = []
        while new and self._scores and self._scores[0][0] < before + len(self._shown):
            scores.append(self._scores.popleft()[1])
        return new, tuple(scores)


def _held(text: str, stops: Sequence[str]) -> int:
    """Return the length of the longest end of ``text`` with which a stop string may begin."""
    lengths = (
        length
        for stop in stops
        for length in range(min(len(stop), len(text)), 0, -1)
        if text.endswith(stop[:length])
    )
    return max(lengths, default=0)


def _score(
    tokenizer: Any, before: Sequence[int], token: int, logits: torch.Tensor, alternatives: int
) -> TokenScore:
    logprobs = logits.float().log_softmax(-1)
    best = logprobs.topk(min(alternatives, len(logprobs)))
    top = [
        (token_text(tokenizer, before, other), value)
        for other, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        if value > -torch.inf
    ]
    return TokenScore(token_text(tokenizer, before, token), float(logprobs[token]), tuple(top))
