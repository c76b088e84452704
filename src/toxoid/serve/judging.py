"""Judges beside a server: one thread asks them, and what waits together is judged together."""

from __future__ import annotations

import asyncio
import queue
import threading
from contextlib import suppress
from dataclasses import dataclass

from toxoid.data.schemas import Exchange
from toxoid.errors import ToxoidError, UsageError
from toxoid.judges.base import Aspect, Judge, Verdict
from toxoid.judges.panel import Panel

REQUEST: Aspect = "problematic"
REPLY: Aspect = "harmful"
_BATCH = 64


class JudgeFailed(ToxoidError):
    """A judge has not judged. It is no verdict: nothing may pass because of it."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    aspect: Aspect
    exchange: Exchange
    verdict: asyncio.Future[Verdict]


class JudgeThread:
    """Judges requests and replies, away from the event loop.

    Args:
        panel: By aspect; requests are judged if it has ``problematic``, replies if it has ``harmful``.
    """

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="judge", daemon=True)
        self._thread.start()

    def judges(self, aspect: Aspect) -> bool:
        """Return whether there is a judge for ``aspect``."""
        return aspect in self._panel

    async def verdict(self, aspect: Aspect, exchange: Exchange) -> Verdict:
        """Return what the judge says.

        Raises:
            JudgeFailed: It says nothing.
        """
        waiting = _Waiting(aspect, exchange, asyncio.get_running_loop().create_future())
        self._waiting.put(waiting)
        return await waiting.verdict

    def close(self) -> None:
        """End the thread after what waits."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch = [first]
            while len(batch) < _BATCH and not self._waiting.empty():
                following = self._waiting.get()
                if following is None:
                    self._waiting.put(None)
                    break
                batch.append(following)
            for aspect in (REQUEST, REPLY):
                self._judge(aspect, [one for one in batch if one.aspect == aspect])

    def _judge(self, aspect: Aspect, batch: list[_Waiting]) -> None:
        if not batch:
            return
        try:
            verdicts = self._panel[aspect].judge([one.exchange for one in batch], aspect)
        except Exception as error:
            if len(batch) > 1:  # one of them may be all that is wrong
                for one in batch:
                    self._judge(aspect, [one])
                return
            said = " ".join(str(error).split()) or type(error).__name__
            _tell(batch[0], JudgeFailed(f"the judge failed: {said}"))
            return
        for one, verdict in zip(batch, verdicts, strict=True):
            _tell(one, verdict)


def serving_panel(panel: Panel) -> Panel:
    """Return the judges of a panel that a server can use.

    Raises:
        UsageError: There is none. The rules for refusals are no judges of harm: whatever declines nothing would be.
    """
    from toxoid.judges.refusal import RefusalJudge

    def usable(aspect: Aspect, judge: Judge) -> bool:
        return aspect in (REQUEST, REPLY) and not isinstance(judge, RefusalJudge)

    found = {aspect: judge for aspect, judge in panel.items() if usable(aspect, judge)}
    if not found:
        raise UsageError(
            "the judge tells neither problematic requests nor harmful replies: give a classifier's folder, "
            "encoder, guard:MODEL, llm, or for the lab lab-oracle"
        )
    return found


def _tell(waiting: _Waiting, outcome: Verdict | JudgeFailed) -> None:
    def settle() -> None:
        if waiting.verdict.done():  # the client has gone
            return
        if isinstance(outcome, Verdict):
            waiting.verdict.set_result(outcome)
        else:
            waiting.verdict.set_exception(outcome)

    with suppress(RuntimeError):  # its loop is closed: nobody waits
        waiting.verdict.get_loop().call_soon_threadsafe(settle)
