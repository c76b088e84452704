"""Protection around the model: the request is judged before it is asked, the reply before it is sent."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field

from toxoid.data.schemas import Conversation, Exchange, Message, Request
from toxoid.engines.base import GenerationRequest
from toxoid.judges.base import Aspect, Outcome, Verdict
from toxoid.serve.jobs import Event, Failed, Finished, Piece
from toxoid.serve.judging import REPLY, REQUEST, JudgeThread
from toxoid.serve.metrics import SHARES, Metrics
from toxoid.serve.settings import HoldBackSection, ProtectionSection
from toxoid.serve.spoken import Spoken

_SENTENCE_END = re.compile(r"[.!?][\"'”’)\]]*\s|[。！？]|\n")
_STAGES: dict[Aspect, str] = {REQUEST: "request", REPLY: "reply"}


@dataclass(slots=True)
class _Reply:
    """One completion: the text that was sent, the pieces that wait for the judge, and how many there were in all."""

    sent: str = ""
    waiting: list[Piece] = field(default_factory=list)
    since: float = 0.0
    pieces: int = 0

    @property
    def text(self) -> str:
        return self.sent + self.held

    @property
    def held(self) -> str:
        return "".join(piece.text for piece in self.waiting)

    def hold(self, piece: Piece) -> None:
        if not self.waiting:
            self.since = time.monotonic()
        self.waiting.append(piece)
        self.pieces += 1

    def release(self, event: Piece | Finished) -> list[Event]:
        """Return what may be sent now; ``event``, the last that came, is among it."""
        self.sent, released, self.waiting = self.text, list[Event](self.waiting), []
        return released if isinstance(event, Piece) else [*released, event]


class Guard:
    """Judges one request and the replies to it.

    Attributes:
        request_score: What the judge of requests says, if it has a score.
        reply_scores: The last score of each reply.

    Args:
        request: What the model reads (see :func:`without_refused`); its conversation is all the client's.
        settings: Thresholds, window, what to do with what is unscored.
        judges: Who judges; ``None`` lets everything pass.
        metrics: Where refusals, scores and times are counted.
        spoken: Which of the assistant's turns are the server's own.
        whole: Judge each reply once, at its end, whatever the window: nothing of it is sent before.
    """

    def __init__(
        self,
        request: GenerationRequest,
        settings: ProtectionSection,
        judges: JudgeThread | None,
        metrics: Metrics,
        spoken: Spoken,
        *,
        whole: bool,
    ) -> None:
        self._request, self._settings, self._judges, self._metrics = request, settings, judges, metrics
        self._spoken = spoken
        self._window = HoldBackSection(unit="reply") if whole else settings.hold_back
        self.request_score: float | None = None
        self.reply_scores: dict[int, float] = {}

    async def admits(self) -> bool:
        """Return whether the request may be asked: no text in which it may stand is a hit.

        Raises:
            JudgeFailed: It cannot be judged.
        """
        if self._judges is None or not self._judges.judges(REQUEST):
            return True
        asked = (self._verdict(REQUEST, exchange) for exchange in _requests(self._request, self._spoken))
        found = await asyncio.gather(*asked)
        scores = [verdict.score for verdict in found if verdict.score is not None]
        self.request_score = max(scores, default=None)
        return not self._refused(REQUEST, found)

    async def released(self, events: AsyncIterator[Event]) -> AsyncGenerator[Event, None]:
        """Yield the events of a job as a client may see them: no text before the window it stands in was judged.

        A rejected reply ends with the refusal and the reason ``content_filter``; what the judge has let pass before
        stands. Of a reply that is cut off, pieces are counted as tokens.

        Raises:
            JudgeFailed: A reply cannot be judged.
        """
        judged = self._judges is not None and self._judges.judges(REPLY)
        replies = {index: _Reply() for index in range(self._request.n)}
        async for event in events:
            if isinstance(event, Failed):
                yield event
                return
            reply = replies.get(event.index)
            if reply is None:  # rejected, and still being made
                continue
            if isinstance(event, Piece):
                reply.hold(event)
                if judged and not is_full(self._window, reply.held):
                    continue
            passed = not (judged and reply.waiting) or await self._passes(event, reply)
            for shown in reply.release(event) if passed else self._refusal(event, reply):
                yield shown
            if isinstance(event, Finished) or not passed:
                del replies[event.index]
            if not replies:
                return

    async def _passes(self, event: Piece | Finished, reply: _Reply) -> bool:
        """Return whether what a reply holds may be sent; ``event`` is the last that came."""
        cut = isinstance(event, Piece) or event.reason == "length"
        request = self._request
        exchange = Exchange(
            _asked(request), request.conversation, reply.text, prefill=request.prefill, truncated=cut
        )
        verdict = await self._verdict(REPLY, exchange)
        self._metrics.observe("toxoid_hold_back_seconds", time.monotonic() - reply.since)
        if verdict.score is not None:
            self.reply_scores[event.index] = verdict.score
        return not self._refused(REPLY, [verdict])

    def _refusal(self, event: Piece | Finished, reply: _Reply) -> list[Event]:
        text = f"\n\n{self._settings.refusal}" if reply.sent else self._settings.refusal
        if isinstance(event, Finished):
            end = Finished(event.index, "content_filter", event.prompt_tokens, event.completion_tokens)
        else:
            end = Finished(event.index, "content_filter", 0, reply.pieces)
        return [Piece(event.index, text), end]

    async def _verdict(self, aspect: Aspect, exchange: Exchange) -> Verdict:
        assert self._judges is not None
        start = time.monotonic()
        verdict = await self._judges.verdict(aspect, exchange)
        stage = _STAGES[aspect]
        self._metrics.observe("toxoid_judge_seconds", time.monotonic() - start, stage=stage)
        if verdict.score is not None:
            self._metrics.observe("toxoid_judge_score", verdict.score, SHARES, stage=stage)
        return verdict

    def _refused(self, aspect: Aspect, verdicts: Sequence[Verdict]) -> bool:
        """Return whether any of the verdicts on a request, or on a reply, rejects it."""
        settings, stage = self._settings, _STAGES[aspect]
        threshold = settings.input_threshold if aspect == REQUEST else settings.output_threshold
        unscored = all(verdict.outcome is Outcome.UNSCORED for verdict in verdicts)
        if unscored:
            self._metrics.count("toxoid_unscored_total", stage=stage)
        refused = (unscored and settings.unscored == "refuse") or any(
            _is_hit(verdict, threshold) for verdict in verdicts
        )
        if refused:
            self._metrics.count("toxoid_refusals_total", stage=stage)
        return refused


def without_refused(conversation: Conversation, refusal: str) -> Conversation:
    """Return a conversation without the messages that were answered by ``refusal``, word for word, and without that.

    Who was refused once can so go on with something else. A client that forges a refusal takes its own words from
    what the model reads: nothing reaches the model that is not judged with all the rest. The last turn of the user's
    and what follows it stay.
    """
    last = max((at for at, turn in enumerate(conversation) if turn.role == "user"), default=0)
    kept: list[Message] = []
    for turn in conversation[:last]:
        if turn.role == "assistant" and turn.content.strip() == refusal.strip():
            while kept and kept[-1].role == "user":
                kept.pop()
        else:
            kept.append(turn)
    return (*kept, *conversation[last:])


def is_full(window: HoldBackSection, text: str) -> bool:
    """Return whether ``text`` fills a window."""
    if window.unit == "reply":
        return False
    length = len(text) if window.unit == "characters" else len(_SENTENCE_END.findall(text))
    return length >= window.size


def _is_hit(verdict: Verdict, threshold: float | None) -> bool:
    if threshold is None or verdict.score is None or verdict.outcome is Outcome.UNSCORED:
        return verdict.outcome is Outcome.HIT
    return verdict.score >= threshold


def _asked(request: GenerationRequest) -> Request:
    said = [message.content for message in request.conversation if message.role == "user"]
    return Request("served", said[-1] if said else "")


def _requests(request: GenerationRequest, spoken: Spoken) -> list[Exchange]:
    """Return what the judge of requests reads: the user's last turn; all turns of the user's; all the client wrote.

    Alone, so that what stands before it cannot dilute it; together, so that a request cannot be split over turns.
    System messages, a prefill and assistant's turns that this server has not said are the client's words too: a
    request can hide in them.
    """
    conversation = request.conversation
    users = [turn.content for turn in conversation if turn.role == "user"]
    wrote = [turn.content for turn in conversation if turn.role != "assistant" or turn.content not in spoken]
    texts = (users[-1:], users, [*wrote, *filter(None, (request.prefill,))])
    joined = dict.fromkeys("\n\n".join(parts) for parts in texts)
    return [Exchange(Request("served", text), (Message("user", text),), "") for text in joined]
