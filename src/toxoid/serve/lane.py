"""A lane: the jobs that are asked under the same contexts, decoded together, a step at a time.

Between two steps what has been given up leaves, and what is new joins: its prompts are read apart, in parts if they are
long, and its rows are then put beside the others. The cache is allocated for all that the lane's jobs may need, so that
what has been let in can be finished.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

import torch

from toxoid.engines.base import Completion
from toxoid.engines.decoding import Batch, Continuation, Node, Reading
from toxoid.engines.explain import Explanation, explain
from toxoid.engines.forward import read_prefix
from toxoid.engines.kv_cache import KnownPrefix
from toxoid.engines.local import Asked, Drawn, LocalEngine
from toxoid.engines.prefix_tree import Tokens
from toxoid.errors import ToxoidError
from toxoid.serve.handle import Handle
from toxoid.serve.jobs import Failed, Finished, Job, Piece
from toxoid.serve.logs import LOGGER
from toxoid.serve.pieces import Pieces
from toxoid.serve.prefixes import Prefixes

_SLOTS = 8
_COLUMNS = 64
"""Slots and columns come in multiples of these, and a batch can go on for so many columns before it is moved."""
_STAGING = 32
"""Columns that a cache has beyond a prompt that is being read into it."""


@dataclass(slots=True)
class Counts:
    """What has happened so far; see :class:`toxoid.serve.jobs.Stats`."""

    submitted: int = 0
    refused: int = 0
    finished: int = 0
    cancelled: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    known_tokens: int = 0
    completion_tokens: int = 0
    steps: int = 0
    step_seconds: float = 0.0
    prefill_seconds: float = 0.0


class Run:
    """A job on its way.

    Args:
        job: What was submitted.
        engine: Under whose contexts it is asked.
        asked: Its prompts, and what is to be drawn.
        handle: Where its events go.

    Attributes:
        open: What is not yet drawn to its end.
        deadline: When it fails, in the time of :func:`time.monotonic`; ``None`` for never.
    """

    def __init__(self, job: Job, engine: LocalEngine, asked: Asked, handle: Handle) -> None:
        self.engine = engine
        self.asked = asked
        self.handle = handle
        self.job = job
        self.deadline = None if job.timeout is None else monotonic() + job.timeout
        greedy = job.request.sampling.temperature == 0
        self.open: dict[Continuation, Pieces] = {
            path: Pieces(engine, asked, path, range(job.request.n) if greedy else (index,), job.logprobs)
            for index, path in enumerate(asked.continuations)
        }

    @property
    def prompts(self) -> tuple[Tokens, ...]:
        """Its prompts, one for each context."""
        return (self.asked.prompt,) if self.asked.against is None else (self.asked.prompt, self.asked.against)

    @property
    def longest(self) -> int:
        """Tokens of the longer prompt."""
        return max(map(len, self.prompts))

    def fail(self, failure: Failed) -> None:
        """End it."""
        self.open.clear()
        self.handle.put(failure)


class _Coming:
    """A run whose prompts are being read.

    Attributes:
        known: What is known of each prompt.
        shared: How many of its first tokens are worth remembering.
    """

    def __init__(self, run: Run, known: Sequence[KnownPrefix | None], shared: Sequence[int]) -> None:
        self.run = run
        self.known = list(known)
        self.shared = shared

    @property
    def starts(self) -> list[int]:
        """Tokens of each prompt that need not be read."""
        return [0 if prefix is None else len(prefix.tokens) for prefix in self.known]

    @property
    def left(self) -> int:
        """Tokens that are to be read."""
        return sum(map(len, self.run.prompts)) - sum(self.starts)

    def part(self, budget: int) -> tuple[int, int] | None:
        """Return what must be read apart: in which context, and up to where; ``None`` if nothing must."""
        sides = zip(self.run.prompts, self.starts, self.shared, strict=True)
        for side, (prompt, start, shared) in enumerate(sides):
            end = shared if shared > start else start if self.left <= budget else len(prompt) - 1
            if end > start:
                return side, min(end, start + budget)
        return None


class Lane:
    """The jobs of one engine's contexts.

    Args:
        engine: The model and its contexts.
        prefixes: What is remembered of prompts.
        counts: Where is counted what happens.
        position_bytes: Keys and values of one token; 0 for models that remember more than these: theirs begin together,
            when all before them have ended, and their memory is not counted.
        prefill_tokens: See :class:`toxoid.serve.jobs.Limits`.

    Attributes:
        runs: Its jobs, those included whose prompts are being read.
    """

    def __init__(
        self,
        engine: LocalEngine,
        prefixes: Prefixes,
        counts: Counts,
        *,
        position_bytes: int,
        prefill_tokens: int,
    ) -> None:
        self.engine = engine
        self.runs: list[Run] = []
        self._prefixes = prefixes
        self._counts = counts
        self._position_bytes = position_bytes
        self._prefill_tokens = prefill_tokens
        self._waiting: deque[Run] = deque()
        self._coming: deque[_Coming] = deque()
        self._batch: Batch | None = None
        self._children: list[tuple[int, Node]] = []

    @property
    def rows(self) -> int:
        """Rows of the batch that goes on."""
        return len(self._children) * (1 if self.engine.prompting.negative is None else 2)

    @property
    def held(self) -> int:
        """Bytes of the batch's cache."""
        batch = self._batch
        if batch is None:
            return 0
        slots, columns = batch.source.rows.cache.size
        return slots * columns * self._position_bytes

    def footprint(self, run: Run | None = None) -> int:
        """Return the bytes that its jobs may need, with ``run`` if that joined."""
        runs = [*self.runs, *((run,) if run else ())]
        if not runs:
            return 0
        coming = [*(entry.run for entry in self._coming), *self._waiting, *((run,) if run else ())]
        longest = max((each.longest for each in coming), default=0)
        # A prompt is held twice while it is read, in its own cache and in the prefix that it goes on from.
        staged = sum(2 * len(each.prompts) for each in coming) * (longest + _STAGING)
        slots, columns = _room(runs)
        return max(self.held, slots * columns * self._position_bytes) + staged * self._position_bytes

    def take(self, run: Run) -> None:
        """Let a job in; its prompts are read in the next turns."""
        self.runs.append(run)
        self._waiting.append(run)

    def leave(self, gone: Collection[Run]) -> None:
        """Let jobs go that have been given up or have failed: their rows are free at the next step."""
        self.runs = [run for run in self.runs if run not in gone]
        self._waiting = deque(run for run in self._waiting if run not in gone)
        self._coming = deque(coming for coming in self._coming if coming.run not in gone)
        paths = {path for run in gone for path in run.asked.continuations}
        nodes = [node for _, node in self._children]
        for node in (*nodes, *(self._batch.nodes if self._batch else ())):
            node.continuations = [path for path in node.continuations if path not in paths]
        self._children = [(row, node) for row, node in self._children if node.continuations]

    def turn(self) -> None:
        """Read the last tokens of what runs, let in what is ready, and draw a token for each completion."""
        begun = monotonic()
        if not self._children:
            self._batch = None
        elif self._batch is not None:
            self._batch.forward(self._children)
        read = monotonic()
        self._read()
        joined = monotonic()
        if self._batch is not None:
            self._fit(self._batch)
            self._draw(self._batch)
            self._counts.steps += 1
        self._counts.prefill_seconds += joined - read
        self._counts.step_seconds += monotonic() - joined + read - begun

    def fail(self, runs: Iterable[Run], error: Exception) -> None:
        """Fail jobs of this lane, and let them go; the program's own mistakes are logged."""
        if not isinstance(error, ToxoidError):
            LOGGER.error("model_failed", exc_info=error)
        gone = [run for run in runs if run.open]
        for run in gone:
            run.fail(Failed(_line(error)))
        self._counts.failed += len(gone)
        self.leave(gone)

    def drop(self, error: Exception) -> None:
        """Fail all jobs, since the batch cannot go on."""
        self.fail(list(self.runs), error)
        self._batch, self._children = None, []

    # Reading prompts

    def _read(self) -> None:
        """Read what the turn allows of new prompts, and let those in that are read."""
        if self._batch is not None and not self._position_bytes:
            return
        budget = self._prefill_tokens if self._position_bytes else sys.maxsize
        ready: list[_Coming] = []
        while budget > 0 and (coming := self._next()) is not None:
            try:
                part = coming.part(budget) if self._position_bytes else None
                if part is None:
                    ready.append(self._coming.popleft())
                    budget -= coming.left
                elif ready and coming.left <= self._prefill_tokens:
                    break  # it will fit into the next turn as a whole
                else:
                    budget -= self._read_part(coming, *part)
            except Exception as error:
                self.fail([coming.run], error)
        if ready:
            self._let_in(ready)

    def _next(self) -> _Coming | None:
        """Return the job whose prompts are to be read."""
        if not self._coming and self._waiting:
            run = self._waiting.popleft()
            table = self.engine.prompting.table
            known = [self._known(prompt) for prompt in run.prompts]
            coming = _Coming(run, known, [0] * len(known))
            if self._position_bytes:
                pairs = zip(run.prompts, coming.starts, strict=True)
                coming.shared = [self._prefixes.shared(prompt, table, start) for prompt, start in pairs]
            self._coming.append(coming)
            self._counts.prompt_tokens += len(run.asked.prompt)
            self._counts.known_tokens += sum(coming.starts)
        return self._coming[0] if self._coming else None

    def _known(self, prompt: Tokens) -> KnownPrefix | None:
        own = (*self._reading.known, self._prefixes.find(prompt, self.engine.prompting.table))
        fitting = [
            p for p in own if p and len(p.tokens) < len(prompt) and prompt[: len(p.tokens)] == p.tokens
        ]
        return max(fitting, key=lambda prefix: len(prefix.tokens), default=None)

    @property
    def _reading(self) -> Reading:
        return self.engine.reading or Reading()

    def _read_part(self, coming: _Coming, side: int, end: int) -> int:
        """Read a prompt up to ``end``, and return how many tokens that were."""
        prompt, known, table = coming.run.prompts[side], coming.known[side], self.engine.prompting.table
        start = coming.starts[side]
        given = [known] if known else []
        prefix = read_prefix(self.engine.loaded.model, prompt[:end], table, given)
        if prefix is not None and end == coming.shared[side]:
            self._prefixes.add(prefix, table)
        coming.known[side] = prefix
        return end - start

    def _let_in(self, ready: Sequence[_Coming]) -> None:
        """Read the rest of prompts together, and put their rows beside those that run."""
        known = {prefix.tokens: prefix for coming in ready for prefix in coming.known if prefix}
        reading = replace(self._reading, known=sorted(known.values(), key=lambda each: -len(each.tokens)))
        nodes = [coming.run.asked.node for coming in ready]
        try:
            joining = Batch(self.engine.loaded.model, nodes, None, reading)
        except Exception as error:
            self.fail([coming.run for coming in ready], error)
            return
        if self._batch is None:
            self._batch = joining
        else:
            self._fit(self._batch, joining.source.rows.length)
            self._batch.join(joining)

    def _fit(self, batch: Batch, joining: int = 0) -> None:
        """Give the cache what the jobs may need, and take back columns that no row reaches.

        Args:
            batch: What runs.
            joining: Columns of what is about to join it.
        """
        rows = batch.source.rows
        if not rows.lazy:
            return
        slots, columns = _room(self.runs)
        unused = min(rows.starts)
        length = max(rows.length - unused, joining)
        has_slots, has_columns = rows.cache.size
        if (
            slots > has_slots
            or columns > has_columns
            or 2 * slots * columns < has_slots * has_columns
            or rows.length == has_columns
            or joining > rows.length
            or 2 * unused > max(rows.length, 2 * _COLUMNS)
        ):
            rows.resize(slots, columns, length)

    # Drawing tokens

    def _draw(self, batch: Batch) -> None:
        """Draw a token for each completion, and tell what that gives."""
        while True:
            try:
                self._children = batch.split(self.engine.end_ids)
                break
            except ToxoidError as error:
                lost = self._without_numbers(batch)
                if not lost:
                    raise
                self.fail(lost, error)
        running = {path: node.ids for _, node in self._children for path in node.continuations}
        owners = {path: run for run in self.runs for path in run.open}
        for row, node in enumerate(batch.nodes):
            for path in node.continuations:
                run = owners[path]
                if run.open:
                    try:
                        self._tell(run, path, running.get(path) or path.ids, batch.source.logits[row])
                    except Exception as error:
                        self.fail([run], error)

    def _without_numbers(self, batch: Batch) -> list[Run]:
        """Return the jobs of rows whose logits are not numbers."""
        broken = (batch.source.logits.isnan() | batch.source.logits.isposinf()).any(-1).tolist()
        paths = {
            path for node, bad in zip(batch.nodes, broken, strict=True) if bad for path in node.continuations
        }
        return [run for run in self.runs if not paths.isdisjoint(run.open)]

    def _tell(self, run: Run, path: Continuation, ids: Sequence[int], logits: torch.Tensor) -> None:
        """Tell what the last of ``ids`` adds to a completion, and its end if that is it."""
        self._counts.completion_tokens += 1
        pieces = run.open[path]
        text, scores = pieces.grow(ids[-1], logits)
        if text:
            for index in pieces.indices:
                run.handle.put(Piece(index, text, scores))
        if path.finish is not None:
            for finished in self._ends(run, path):
                run.handle.put(finished)
            del run.open[path]
            if not run.open:
                self.runs.remove(run)
                self._counts.finished += 1

    def _ends(self, run: Run, path: Continuation) -> Iterator[Finished]:
        done = self.engine.completion(run.asked, path)
        explanation = self._explanation(run, done, path.ids) if run.job.explain else None
        for index in run.open[path].indices:
            yield Finished(
                index,
                done.finish_reason,
                done.prompt_tokens,
                done.completion_tokens,
                contrasted=path.contrasted,
                explanation=explanation,
            )

    def _explanation(self, run: Run, done: Completion, ids: list[int]) -> Explanation:
        return explain(self.engine, run.job.request, Drawn(done, ids))


def _room(runs: Sequence[Run]) -> tuple[int, int]:
    """Return the slots and columns that jobs may need together.

    No row is longer than its prompt and what may be drawn after it; what a batch is longer, since its rows end together
    and began at different times, is taken back when the columns run out.
    """
    slots = sum(len(run.prompts) * len(run.open) for run in runs)
    columns = max((run.longest + run.asked.max_tokens for run in runs), default=0)
    return _multiple(slots, _SLOTS), _multiple(columns, _COLUMNS) + _COLUMNS


def _multiple(count: int, of: int) -> int:
    return -(-count // of) * of


def _line(error: Any) -> str:
    if isinstance(error, ToxoidError):
        return str(error)
    return " ".join(f"the model failed: {type(error).__name__}: {error}".split())
