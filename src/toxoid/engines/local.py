"""Local engine: a model in this process, decoded in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from toxoid.engines.base import Completion, GenerationRequest, OnDone, Sampling
from toxoid.engines.decoding import Row, decode, uniforms
from toxoid.engines.loading import LoadedModel
from toxoid.engines.templates import encode, end_of_turn_ids, turn_seam
from toxoid.errors import UsageError

GRANULE = 256
"""Enough requests to fill batches of like lengths, few enough that a kill loses seconds."""

_SEAM_TOKENS = 8
"""Tokens of the prompt that are decoded with a continuation, so that blanks at the seam come out right."""


@dataclass(slots=True)
class _Job:
    """One request of a group: its prompt, and its rows once they exist."""

    request: GenerationRequest
    prompt: tuple[int, ...]
    max_tokens: int
    rows: list[Row]


class LocalEngine:
    """Generates with a loaded model.

    The requests of a group are sorted by length and cut into left-padded batches. Completion ``i`` of a
    request draws from the random stream of ``(seed, i)``, so the batch it lands in does not matter beyond the
    last bits of the logits; in groups of the same requests not even those change.

    Args:
        loaded: The model.
        max_batch: Most rows (continuations) decoded at once.
        max_batch_tokens: Most positions held at once, rows x (longest prompt + tokens to come); bounds the
            memory of the key-value cache. A single row may exceed it.
    """

    granule = GRANULE

    def __init__(self, loaded: LoadedModel, *, max_batch_tokens: int = 65_536, max_batch: int = 128) -> None:
        """Take the model as it is; nothing is copied."""
        self.loaded = loaded
        self.max_batch_tokens = max_batch_tokens
        self.max_batch = max_batch
        self.name = Path(loaded.source).name or loaded.source
        self._end_ids = frozenset(end_of_turn_ids(loaded.tokenizer, loaded.model))
        self._seam = turn_seam(loaded.tokenizer)
        self._context = _context_window(loaded.model)

    def identity(self) -> dict[str, Any]:
        """Return the identity of the loaded model; batch limits are no part of it."""
        return dict(self.loaded.identity)

    def close(self) -> None:
        """Do nothing: there is nothing but memory to let go of."""

    def generate(
        self, requests: Sequence[GenerationRequest], on_done: OnDone | None = None
    ) -> list[list[Completion]]:
        """Return ``n`` completions per request, in the order of ``requests``.

        ``completion_tokens`` counts the tokens drawn, the one that ends the turn included. A prompt that
        leaves no room in the context window gives empty completions with finish reason ``length`` and
        ``metadata["error"]``.

        Raises:
            UsageError: A request cannot be drawn (a temperature below 0, say) or the chat template refuses
                its conversation.
        """
        for request in requests:
            _check(request)
        results: list[list[Completion]] = []
        for start in range(0, len(requests), self.granule):
            finished = self._group(requests[start : start + self.granule])
            results += finished
            if on_done is not None:
                for offset, completions in enumerate(finished):
                    on_done(start + offset, completions)
        return results

    def _group(self, requests: Sequence[GenerationRequest]) -> list[list[Completion]]:
        jobs = [self._job(request) for request in requests]
        waiting = sorted((job for job in jobs if job.rows), key=lambda job: (len(job.prompt), job.prompt))
        for batch in self._batches(waiting):
            self._decode(batch)
        return [self._completions(job) for job in jobs]

    def _job(self, request: GenerationRequest) -> _Job:
        prompt = tuple(encode(self.loaded.tokenizer, request.conversation, prefill=request.prefill))
        sampling = request.sampling
        budget = min(sampling.max_tokens, self._context - len(prompt))
        job = _Job(request, prompt, budget, [])
        if budget > 0:
            # Greedy rows of one request are all the same: one is drawn and shared.
            count = min(request.n, 1) if sampling.temperature == 0 else request.n
            job.rows = [self._row(job, index) for index in range(count)]
        return job

    def _row(self, job: _Job, index: int) -> Row:
        sampling = job.request.sampling
        greedy = sampling.temperature == 0
        return Row(
            prompt=0,
            max_tokens=job.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            draws=np.zeros(0) if greedy else uniforms(job.request.seed, index, job.max_tokens),
            stopped=self._stop_test(job) if sampling.stop else None,
        )

    def _batches(self, jobs: Sequence[_Job]) -> Iterator[list[tuple[tuple[int, ...], Row]]]:
        """Cut the rows of ``jobs``, in order, into batches within the limits."""
        batch: list[tuple[tuple[int, ...], Row]] = []
        longest = 0
        for job in jobs:
            for row in job.rows:
                length = len(job.prompt) + row.max_tokens
                positions = (len(batch) + 1) * max(longest, length)
                if batch and (len(batch) >= self.max_batch or positions > self.max_batch_tokens):
                    yield batch
                    batch, longest = [], 0
                batch.append((job.prompt, row))
                longest = max(longest, length)
        if batch:
            yield batch

    def _decode(self, batch: Sequence[tuple[tuple[int, ...], Row]]) -> None:
        prompts: dict[tuple[int, ...], int] = {}
        for prompt, row in batch:
            row.prompt = prompts.setdefault(prompt, len(prompts))
        decode(self.loaded.model, list(prompts), [row for _, row in batch], end_ids=self._end_ids)

    def _completions(self, job: _Job) -> list[Completion]:
        if job.max_tokens <= 0:
            problem = {"error": "prompt exceeds the context window"}
            return [Completion("", "length", len(job.prompt), 0, problem) for _ in range(job.request.n)]
        drawn = [self._completion(job, row) for row in job.rows]
        return drawn * job.request.n if job.request.sampling.temperature == 0 else drawn

    def _completion(self, job: _Job, row: Row) -> Completion:
        text = _before_stop(self._text(job, row.ids), job.request.sampling.stop)
        return Completion(text, row.finish or "length", len(job.prompt), len(row.ids))

    def _text(self, job: _Job, ids: list[int]) -> str:
        """Return what the tokens add to the reply as a reader sees it."""
        if not job.request.prefill:
            return self._decode_ids(ids).removeprefix(self._seam)
        tail = list(job.prompt[-_SEAM_TOKENS:])
        before, both = self._decode_ids(tail), self._decode_ids(tail + ids)
        return both[len(before) :] if both.startswith(before) else self._decode_ids(ids)

    def _decode_ids(self, ids: list[int]) -> str:
        text = self.loaded.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)

    def _stop_test(self, job: _Job) -> Any:
        """Return a test whether a row's tokens so far contain a stop string.

        Only a tail is decoded at each step: a character is at most 4 tokens (bytes), and a few more cover
        blanks that decoders drop at the start. What the tail shows is confirmed on the whole text.
        """
        stops = job.request.sampling.stop
        window = 4 * max(map(len, stops)) + 4

        def stopped(ids: list[int]) -> bool:
            tail = self._decode_ids(ids[-window:])
            return any(s in tail for s in stops) and any(s in self._text(job, ids) for s in stops)

        return stopped


def _before_stop(text: str, stops: Sequence[str]) -> str:
    """Return ``text`` up to the first stop string in it."""
    cuts = [text.find(stop) for stop in stops if stop in text]
    return text[: min(cuts)] if cuts else text


def _context_window(model: Any) -> int:
    """Return how many positions the model has; without a stated limit, more than any prompt needs."""
    config = model.config.get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or 2**31)


def _check(request: GenerationRequest) -> None:
    sampling: Sampling = request.sampling
    complaints = (
        (not sampling.temperature >= 0, f"temperature {sampling.temperature}: give 0 (greedy) or more"),
        (not 0 < sampling.top_p <= 1, f"top_p {sampling.top_p}: give a number above 0 and at most 1"),
        (sampling.max_tokens < 1, f"max_tokens {sampling.max_tokens}: give 1 or more"),
        (request.n < 1, f"n {request.n}: give 1 or more"),
        ("" in sampling.stop, "an empty stop string: give text, or none"),
        (not request.conversation, "an empty conversation: give at least one message"),
    )
    for wrong, complaint in complaints:
        if wrong:
            raise UsageError(f"cannot generate with {complaint}")
