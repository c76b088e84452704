"""The scheduler: one thread that owns a model and answers many clients at once, joined and left between steps."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import asdict
from pathlib import Path
from threading import Condition, Thread
from time import monotonic

import torch

from toxoid.engines.forward import read_prefix
from toxoid.engines.loading import LoadedModel
from toxoid.engines.local import LocalEngine, check_request
from toxoid.engines.prompting import Bare, Prompting
from toxoid.errors import UsageError
from toxoid.serve.handle import Handle
from toxoid.serve.jobs import Draining, Failed, Full, Job, Limits, Stats, TooLong
from toxoid.serve.lane import Counts, Lane, Run
from toxoid.serve.prefixes import Prefixes

_ENGINES = 8
"""Contexts whose own prefixes are kept, those used least recently dropped first."""
_LONGEST_RETRY = 60.0


class Scheduler:
    """Answers jobs with a loaded model; see :class:`toxoid.serve.jobs.Backend`.

    Jobs begin in the order in which they came, as soon as there are rows and memory for them. Jobs under the same
    contexts are decoded together; those of different ones take turns, a step each. A completion is the one that
    :class:`toxoid.engines.local.LocalEngine` would draw, whatever else runs, up to the last bits of the logits.

    Args:
        loaded: The model; nobody else uses it until :meth:`close`.
        prompting: Under which contexts it is asked; as the conversation is if ``None``.
        limits: How much is taken on.

    Attributes:
        name: What people call the model.

    Raises:
        UsageError: The model cannot be decoded in batches.
    """

    def __init__(
        self, loaded: LoadedModel, prompting: Prompting | None = None, limits: Limits | None = None
    ) -> None:
        self.loaded = loaded
        self.limits = limits or Limits()
        self.name = Path(loaded.source).name or loaded.source
        self._prompting = prompting or Prompting(Bare(loaded.tokenizer))
        self._engines: OrderedDict[int, LocalEngine] = OrderedDict()
        self._prefixes = Prefixes(self.limits.prefix_bytes)
        self._counts = Counts()
        self._position_bytes = _position_bytes(loaded)
        self._changed = Condition()
        self._queue: deque[Run] = deque()
        self._lanes: dict[LocalEngine, Lane] = {}
        self._ends: deque[float] = deque(maxlen=32)
        self._draining = self._closing = False
        self._thread = Thread(target=self._work, name="toxoid-scheduler", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> Handle:
        """See :class:`toxoid.serve.jobs.Backend`."""
        try:
            with self._changed:
                self._check_open()
            run = self._prepared(job)
            with self._changed:
                self._check_open()
                self._queue.append(run)
                self._counts.submitted += 1
                self._changed.notify_all()
        except (Full, Draining, UsageError):
            with self._changed:
                self._counts.refused += 1
            raise
        return run.handle

    def stats(self) -> Stats:
        """See :class:`toxoid.serve.jobs.Backend`."""
        with self._changed:
            lanes = list(self._lanes.values())
            queued = len(self._queue)
        return Stats(
            queued=queued,
            running=sum(len(lane.runs) for lane in lanes),
            rows=sum(lane.rows for lane in lanes),
            cache_bytes=sum(lane.held for lane in lanes) + self._prefixes.size,
            prefix_bytes=self._prefixes.size,
            **asdict(self._counts),
        )

    def swap(self, prompting: Prompting) -> None:
        """See :class:`toxoid.serve.jobs.Backend`."""
        self._prompting = prompting

    def drain(self, timeout: float | None = None) -> bool:
        """See :class:`toxoid.serve.jobs.Backend`."""
        with self._changed:
            self._draining = True
            return self._changed.wait_for(self._idle, timeout)

    def close(self) -> None:
        """See :class:`toxoid.serve.jobs.Backend`."""
        with self._changed:
            self._draining = self._closing = True
            self._changed.notify_all()
        self._thread.join()

    # In the thread of who submits

    def _check_open(self) -> None:
        if self._draining:
            raise Draining("the server is shutting down and takes no more requests")
        if len(self._queue) >= self.limits.queue:
            raise Full(f"{len(self._queue)} requests wait already: try again later", self._retry_after())

    def _retry_after(self) -> float:
        """Return about how long the queue as it stands will take, at the pace of the last jobs."""
        if not self._ends:
            return 1.0
        pace = (monotonic() - self._ends[0]) / len(self._ends)
        return min(max(pace * len(self._queue), 1.0), _LONGEST_RETRY)

    def _prepared(self, job: Job) -> Run:
        """Return a job with its prompts, checked."""
        check_request(job.request)
        if job.logprobs is not None and job.logprobs < 0:
            raise UsageError(f"cannot tell {job.logprobs} alternatives of each token: give 0 or more")
        if job.request.n > self.limits.rows:
            raise UsageError(
                f"{job.request.n} completions are more than the server decodes at once: give n up to {self.limits.rows}"
            )
        engine = self._engine(job.prompting or self._prompting)
        asked = engine.prepare(job.request)
        if not asked.continuations:
            window = max(len(asked.prompt), len(asked.against or ())) + asked.max_tokens
            raise TooLong(
                f"the prompt has {len(asked.prompt)} tokens and the model's context window {window}: shorten it"
            )
        handle = Handle(job.request.n, self._wake, prompt_tokens=len(asked.prompt))
        run = Run(job, engine, asked, handle)
        needed, given = self._lane(engine).footprint(run), self._memory
        if needed > given:
            raise TooLong(
                f"the request may need {_mib(needed)} of cache and the server has {_mib(given)}: "
                "shorten the prompt, or lower max_tokens or n"
            )
        return run

    def _engine(self, prompting: Prompting) -> LocalEngine:
        with self._changed:
            engine = self._engines.get(id(prompting))
            if engine is None:
                engine = self._engines[id(prompting)] = LocalEngine(self.loaded, prompting)
            self._engines.move_to_end(id(prompting))
            if len(self._engines) > _ENGINES:
                self._engines.popitem(last=False)
        return engine

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    # In the scheduler's thread

    def _work(self) -> None:
        try:
            with torch.inference_mode():
                while self._wait():
                    self._sweep()
                    self._admit()
                    for lane in list(self._lanes.values()):
                        self._turn(lane)
        finally:
            self._stop()

    def _turn(self, lane: Lane) -> None:
        done = self._counts.finished
        try:
            lane.turn()
        except Exception as error:
            lane.drop(error)
        self._ends.extend([monotonic()] * (self._counts.finished - done))

    def _wait(self) -> bool:
        """Wait for something to do, and return whether to go on."""
        with self._changed:
            self._lanes = {engine: lane for engine, lane in self._lanes.items() if lane.runs}
            if self._idle():
                self._changed.notify_all()
            self._changed.wait_for(lambda: self._closing or not self._idle())
            return not self._closing

    def _idle(self) -> bool:
        return not self._queue and not self._lanes

    def _sweep(self) -> None:
        """Let go of jobs that were cancelled or whose time is over."""
        now = monotonic()
        with self._changed:
            runs = [*self._queue, *(run for lane in self._lanes.values() for run in lane.runs)]
            late = [run for run in runs if run.deadline is not None and run.deadline < now]
            for run in late:
                run.fail(Failed(f"the request was not finished within {run.job.timeout:g} s", "timeout"))
            gone = [run for run in runs if run.handle.done]
            if not gone:
                return
            cancelled = sum(run.handle.cancelled for run in gone)
            self._counts.cancelled += cancelled
            self._counts.failed += len(gone) - cancelled
            self._queue = deque(run for run in self._queue if run not in gone)
            for lane in self._lanes.values():
                lane.leave(gone)

    def _admit(self) -> None:
        """Let in what there is room for, in the order of submission."""
        with self._changed:
            while self._queue and self._has_room(self._queue[0]):
                run = self._queue.popleft()
                lane = self._lanes.setdefault(run.engine, self._lane(run.engine))
                lane.take(run)

    def _has_room(self, run: Run) -> bool:
        lanes = self._lanes.values()
        rows = sum(len(each.open) for lane in lanes for each in lane.runs)
        if rows + len(run.open) > self.limits.rows:
            return False
        own = self._lanes.get(run.engine) or self._lane(run.engine)
        others = sum(lane.footprint() for lane in lanes if lane is not own)
        return others + own.footprint(run) <= self._memory

    @property
    def _memory(self) -> int:
        return self.limits.cache_bytes - self.limits.prefix_bytes

    def _lane(self, engine: LocalEngine) -> Lane:
        return Lane(
            engine,
            self._prefixes,
            self._counts,
            position_bytes=self._position_bytes,
            prefill_tokens=self.limits.prefill_tokens,
        )

    def _stop(self) -> None:
        """Fail what is not done."""
        with self._changed:
            runs = [*self._queue, *(run for lane in self._lanes.values() for run in lane.runs)]
            self._draining = True
            self._queue.clear()
            self._lanes.clear()
            self._counts.failed += len(runs)
            self._changed.notify_all()
        for run in runs:
            run.fail(Failed("the server has stopped", "stopped"))


def _position_bytes(loaded: LoadedModel) -> int:
    """Return the bytes of one token's keys and values; 0 for models that remember more than these."""
    prefix = read_prefix(loaded.model, (0,))
    return sum(states.nbytes for layer in prefix.layers for states in layer) if prefix else 0


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
