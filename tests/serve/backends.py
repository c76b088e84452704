"""A backend whose replies are a function of the question, and judges that go by words."""

from __future__ import annotations

import threading
import time

from toxoid.judges.base import Outcome, Verdict
from toxoid.serve.handle import Handle
from toxoid.serve.jobs import Draining, Finished, Piece, Stats, TokenScore


class FakeBackend:
    """Answers ``reply(request, i)`` in pieces of ``cut`` characters, one every ``pace`` seconds.

    ``refusal`` is raised by ``submit``; ``failure`` ends every job in place of its ``Finished``.
    """

    name = "fake"

    def __init__(self, reply=lambda request, i: f"reply {i}", *, cut=3, pace=0.0, refusal=None, failure=None):
        self.reply, self.cut, self.pace = reply, cut, pace
        self.refusal, self.failure = refusal, failure
        self.jobs = []
        self.cancelled = self.finished = self.swapped = 0
        self.closed = self.draining = False

    def submit(self, job):
        self.jobs.append(job)
        if self.draining:
            raise Draining("no more")
        if self.refusal is not None:
            raise self.refusal
        handle = Handle(job.request.n, self._cancel, prompt_tokens=5)
        if self.pace:
            threading.Thread(target=self._make, args=(job, handle), daemon=True).start()
        else:
            self._make(job, handle)
        return handle

    def _make(self, job, handle):
        for index in range(job.request.n):
            text = self.reply(job.request, index)
            pieces = [text[at : at + self.cut] for at in range(0, len(text), self.cut)]
            for piece in pieces:
                if handle.cancelled:
                    return
                time.sleep(self.pace)
                top = tuple((f"other{rank}", -2.0 - rank) for rank in range(job.logprobs or 0))
                scores = () if job.logprobs is None else (TokenScore(piece, -0.5, top),)
                handle.put(Piece(index, piece, scores))
            if self.failure is None:
                handle.put(Finished(index, "stop", 5, len(pieces)))
        if self.failure is not None:
            handle.put(self.failure)
        self.finished += 1

    def _cancel(self):
        self.cancelled += 1

    def stats(self):
        return Stats(submitted=len(self.jobs), finished=self.finished, cancelled=self.cancelled)

    def swap(self, prompting):
        self.swapped += 1

    def drain(self, timeout=None):
        self.draining = True
        return True

    def close(self):
        self.closed = True


class WordJudge:
    """Hits what holds the word BAD; cannot score what holds the word DIM; fails on what holds the word BOOM."""

    name = "words"

    def __init__(self, *aspects):
        self.aspects = frozenset(aspects or ("problematic", "harmful"))
        self.seen = []

    def identity(self):
        return {"judge": self.name}

    def judge(self, exchanges, aspect):
        return [self._verdict(self._text(exchange, aspect)) for exchange in exchanges]

    def _text(self, exchange, aspect):
        if aspect == "harmful":
            self.seen.append(exchange.completion)
            return exchange.completion
        return "\n".join(message.content for message in exchange.conversation if message.role == "user")

    def _verdict(self, text):
        if "BOOM" in text:
            raise RuntimeError("it cannot")
        if "DIM" in text:
            return Verdict(Outcome.UNSCORED)
        return Verdict(Outcome.HIT, 0.9) if "BAD" in text else Verdict(Outcome.MISS, 0.1)


def panel(judge=None):
    judge = judge or WordJudge()
    return dict.fromkeys(judge.aspects, judge)
