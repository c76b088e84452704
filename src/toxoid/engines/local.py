"""Local engine: a model in this process, decoded in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from toxoid.data.schemas import Conversation
from toxoid.engines.base import Completion, FinishReason, GenerationRequest, OnDone, Sampling
from toxoid.engines.contrast import UNCONTRASTED
from toxoid.engines.decoding import Continuation, Node, Reading, decode, steps
from toxoid.engines.forward import read_prefix
from toxoid.engines.loading import LoadedModel
from toxoid.engines.prefix_tree import Tokens, reading_order
from toxoid.engines.prompting import Bare, Prompting
from toxoid.engines.quoting import ASKED_IDENTITY, Quoting
from toxoid.engines.templates import end_of_turn_ids, turn_seam
from toxoid.engines.token_choice import uniforms
from toxoid.errors import UsageError

GRANULE = 256
"""Enough requests to fill batches of like lengths, few enough that a kill loses seconds."""

_SEAM_TOKENS = 8
"""Tokens of the prompt that are decoded with a continuation, so that blanks at the seam come out right."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A completion with its token ids, the one that ended the turn included."""

    completion: Completion
    ids: list[int]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a completion as it is being made: what it adds to completion ``index``; ``finish`` with the last."""

    index: int
    text: str
    finish: FinishReason | None = None


@dataclass(slots=True)
class Asked:
    """One request: its prompt in one context or two, and what is to be drawn after it.

    Args:
        request: What was asked.
        prompt: Its tokens in the positive context.
        against: Its tokens in the negative context, if there is one.
        max_tokens: Tokens that are drawn at most; 0 or less if the prompt leaves no room in the context window.
        continuations: What is to be drawn; none without room, one for all completions if they are greedy.
    """

    request: GenerationRequest
    prompt: Tokens
    against: Tokens | None
    max_tokens: int
    continuations: list[Continuation]

    @property
    def node(self) -> Node:
        """Where its continuations begin."""
        return Node(self.prompt, self.continuations, against=self.against)


@dataclass(slots=True)
class _Branching:
    """How far continuations that began together have parted, in the batches of a group so far."""

    joined: int = 0
    parted: int = 0

    def nodes(self, node: Node) -> float:
        """Return how many nodes ``node`` is expected to become; as long as nothing is known, the most."""
        share = self.parted / self.joined if self.joined else 1.0
        return 1 + share * (len(node.continuations) - 1)

    def learn(self, batch: Sequence[Node], aside: Sequence[Node]) -> None:
        """Take in a decoded batch and what was set aside of it."""
        ends = [{tuple(path.ids) for path in node.continuations if path.finish} for node in batch]
        self.joined += sum(len(node.continuations) - 1 for node in batch)
        self.parted += sum(map(len, ends)) + len(aside) - len(batch)


class LocalEngine:
    """Generates with a loaded model.

    The prompts of a group are put in an order that keeps those together that begin alike, then like lengths,
    and cut into batches. Completion ``i`` of a request draws from the random stream of ``(seed, i)``, so the
    batch it lands in does not matter beyond the last bits of the logits; in groups of the same requests not
    even those change.

    Completions that have drawn the same tokens so far are computed once. How soon they part is not known
    beforehand: batches are filled by how far those before them did, and what becomes too much is set aside
    and decoded later.

    Args:
        loaded: The model.
        prompting: Under which contexts it is asked; as the conversation is if ``None``.
        max_batch: Most rows (texts that differ) decoded at once.
        max_batch_tokens: Most positions held at once, rows x (longest prompt + tokens to come); bounds the
            memory of the key-value cache. A single row may exceed it.

    Attributes:
        seam: Blanks that the template has between an opened turn and its text; no part of a completion.
    """

    granule = GRANULE

    def __init__(
        self,
        loaded: LoadedModel,
        prompting: Prompting | None = None,
        *,
        max_batch_tokens: int = 65_536,
        max_batch: int = 256,
    ) -> None:
        """Take the model as it is; nothing is copied."""
        self.loaded = loaded
        self.prompting = prompting or Prompting(Bare(loaded.tokenizer))
        self.max_batch_tokens = max_batch_tokens
        self.max_batch = max_batch
        self.name = Path(loaded.source).name or loaded.source
        self._end_ids = frozenset(end_of_turn_ids(loaded.tokenizer, loaded.model))
        self.seam = turn_seam(loaded.tokenizer)
        self._quoting = None if loaded.special_tokens else Quoting(loaded.tokenizer)
        self._context = _context_window(loaded.model)
        self._vocabulary = len(loaded.tokenizer)

    @property
    def end_ids(self) -> Set[int]:
        """Return the tokens that end a completion."""
        return self._end_ids

    def identity(self) -> dict[str, Any]:
        """Return the identity of the loaded model and of its contexts; batch limits are no part of it."""
        quoting = ASKED_IDENTITY if self._quoting else {}
        return {**self.loaded.identity, **quoting, **self.prompting.identity}

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
            check_request(request)
        results: list[list[Completion]] = []
        for start in range(0, len(requests), self.granule):
            finished = self._group(requests[start : start + self.granule])
            results += finished
            if on_done is not None:
                for offset, completions in enumerate(finished):
                    on_done(start + offset, completions)
        return results

    def draw(self, request: GenerationRequest) -> list[Drawn]:
        """Return what :meth:`generate` does for one request, with the token ids."""
        check_request(request)
        job = self.prepare(request)
        if job.continuations:
            self._decode([job.node])
        ids = [path.ids for path in job.continuations] or [[]]
        done = self._completions(job)
        return [Drawn(each, ids[min(index, len(ids) - 1)]) for index, each in enumerate(done)]

    def stream(self, request: GenerationRequest) -> Iterator[Piece]:
        """Yield the completions of one request as they are made; together, the texts of :meth:`generate`.

        What may still change is held back: the beginning of a stop string, or of a character.
        """
        check_request(request)
        job = self.prepare(request)
        if not job.continuations:
            yield from (Piece(index, "", "length") for index in range(request.n))
            return
        shown: dict[int, str] = dict.fromkeys(range(len(job.continuations)), "")
        model, reading = self.loaded.model, self.reading
        index_of = {id(path): index for index, path in enumerate(job.continuations)}
        for nodes in steps(model, [job.node], end_ids=self._end_ids, reading=reading):
            yield from self._finished(job, shown)
            for node in nodes:
                text = self._stable(job, node.ids)
                for index in (index_of[id(path)] for path in node.continuations):
                    if len(text) > len(shown[index]) and text.startswith(shown[index]):
                        yield Piece(index, text[len(shown[index]) :])
                        shown[index] = text
        yield from self._finished(job, shown)
        if request.sampling.temperature == 0:
            whole = self.completion(job, job.continuations[0])
            yield from (Piece(index, whole.text, whole.finish_reason) for index in range(1, request.n))

    def prompts(self, conversation: Conversation, prefill: str = "") -> tuple[Tokens, ...]:
        """Return the token ids of a conversation in the positive and, if there is one, in the negative context."""
        contexts = (self.prompting.positive, self.prompting.negative)
        asked = self.asked(conversation, prefill)
        return tuple(context.tokens(*asked) for context in contexts if context)

    def asked(self, conversation: Conversation, prefill: str = "") -> tuple[Conversation, str]:
        """Return a conversation and the beginning of its reply as every context gets them.

        Special tokens that they spell are spelled apart, unless the model was loaded to read them.
        """
        return self._quoting.asked(conversation, prefill) if self._quoting else (conversation, prefill)

    def _finished(self, job: Asked, shown: dict[int, str]) -> Iterator[Piece]:
        """Yield the last pieces of the completions that have ended, which are shown no more."""
        for index in [index for index in shown if job.continuations[index].finish is not None]:
            done = self.completion(job, job.continuations[index])
            yield Piece(index, done.text[len(shown.pop(index)) :], done.finish_reason)

    def _stable(self, job: Asked, ids: list[int]) -> str:
        """Return the text so far that later tokens cannot take back."""
        text = self._text(job, ids).rstrip("\ufffd")
        longest = max(map(len, job.request.sampling.stop), default=1)
        return text[: len(text) - longest + 1]

    def _group(self, requests: Sequence[GenerationRequest]) -> list[list[Completion]]:
        jobs = [self.prepare(request) for request in requests]
        nodes: dict[tuple[Tokens, Tokens | None], Node] = {}
        for job in jobs:
            if job.continuations:
                empty = Node(job.prompt, [], against=job.against)
                nodes.setdefault((job.prompt, job.against), empty).continuations.extend(job.continuations)
        self._decode(list(nodes.values()))
        return [self._completions(job) for job in jobs]

    @cached_property
    def reading(self) -> Reading | None:
        """How nodes are read; the contexts' prefixes are read here, once."""
        given = self.prompting
        if given.contrast == UNCONTRASTED and given.table is None:
            return None
        prefixes = [context.prefix for context in (given.positive, given.negative) if context]
        known = [read_prefix(self.loaded.model, prefix, given.table) for prefix in prefixes if prefix]
        return Reading(given.contrast, given.table, [prefix for prefix in known if prefix])

    def prepare(self, request: GenerationRequest) -> Asked:
        """Return what is to be drawn for a request, which :func:`check_request` has let pass.

        Raises:
            UsageError: The chat template refuses the conversation.
        """
        prompt, *others = self.prompts(request.conversation, request.prefill)
        against = others[0] if others else None
        sampling = request.sampling
        budget = min(sampling.max_tokens, self._context - max(len(prompt), len(against or ())))
        job = Asked(request, prompt, against, budget, [])
        if budget > 0:
            # Greedy continuations of one request are all the same: one is drawn and shared.
            count = min(request.n, 1) if sampling.temperature == 0 else request.n
            stopped = self._stop_test(job) if sampling.stop else None
            job.continuations = [self._continuation(job, index, stopped) for index in range(count)]
        return job

    def _continuation(
        self, job: Asked, index: int, stopped: Callable[[list[int]], bool] | None
    ) -> Continuation:
        sampling = job.request.sampling
        greedy = sampling.temperature == 0
        return Continuation(
            max_tokens=job.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            draws=() if greedy else uniforms(job.request.seed, index, job.max_tokens).tolist(),
            stopped=stopped,
        )

    def _decode(self, waiting: list[Node]) -> None:
        """Draw what stands at the nodes, batch after batch; what is set aside queues up again."""
        branching = _Branching()
        waiting = _in_order(waiting)
        while waiting:
            count, most = self._batch(waiting, branching)
            batch, waiting = waiting[:count], waiting[count:]
            aside = decode(
                self.loaded.model, batch, end_ids=self._end_ids, max_nodes=most, reading=self.reading
            )
            branching.learn(batch, aside)
            if aside:
                waiting = _in_order([*aside, *waiting])

    def _batch(self, waiting: Sequence[Node], branching: _Branching) -> tuple[int, int]:
        """Return how many nodes make the next batch, and how many they may become."""
        longest = to_come = 0
        expected = 0.0
        count, most = 0, 1
        for node in waiting:
            longest = max(longest, node.longest)
            to_come = max(to_come, node.to_come)
            expected += branching.nodes(node)
            rows = 1 if node.against is None else 2
            limit = max(min(self.max_batch, self.max_batch_tokens // (longest + to_come)) // rows, 1)
            if count and expected > limit:
                break
            count, most = count + 1, limit
        return count, most

    def _completions(self, job: Asked) -> list[Completion]:
        if job.max_tokens <= 0:
            problem = {"error": "prompt exceeds the context window"}
            return [Completion("", "length", len(job.prompt), 0, problem) for _ in range(job.request.n)]
        completions = [self.completion(job, drawn) for drawn in job.continuations]
        return completions * job.request.n if job.request.sampling.temperature == 0 else completions

    def completion(self, job: Asked, drawn: Continuation) -> Completion:
        """Return a continuation that has ended as a completion."""
        text = _before_stop(self._text(job, drawn.ids), job.request.sampling.stop)
        told = {} if job.against is None else {"contrasted": drawn.contrasted}
        return Completion(text, drawn.finish or "length", len(job.prompt), len(drawn.ids), told)

    def _text(self, job: Asked, ids: list[int]) -> str:
        """Return what the tokens add to the reply as a reader sees it."""
        if not job.request.prefill:
            return self.decode_ids(ids).removeprefix(self.seam)
        lead = self.lead(job)
        before, both = self.decode_ids(lead), self.decode_ids(lead + ids)
        return both[len(before) :] if both.startswith(before) else self.decode_ids(ids)

    def lead(self, job: Asked) -> list[int]:
        """Return the tokens that must be decoded with what is drawn: the prompt's last ones after a prefill."""
        if not job.request.prefill:
            return []
        return [token for token in job.prompt[-_SEAM_TOKENS:] if token < self._vocabulary]

    def decode_ids(self, ids: list[int]) -> str:
        """Return the text of tokens, without special ones."""
        text = self.loaded.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)

    def _stop_test(self, job: Asked) -> Callable[[list[int]], bool]:
        """Return a test whether the tokens drawn so far contain a stop string.

        Only a tail is decoded at each step: a character is at most 4 tokens (bytes), and a few more cover
        blanks that decoders drop at the start. What the tail shows is confirmed on the whole text.
        """
        stops = job.request.sampling.stop
        window = 4 * max(map(len, stops)) + 4

        def stopped(ids: list[int]) -> bool:
            tail = self.decode_ids(ids[-window:])
            return any(s in tail for s in stops) and any(s in self._text(job, ids) for s in stops)

        return stopped


def _in_order(nodes: Sequence[Node]) -> list[Node]:
    return [nodes[index] for index in reading_order([node.tokens for node in nodes])]


def _before_stop(text: str, stops: Sequence[str]) -> str:
    """Return ``text`` up to the first stop string in it."""
    cuts = [text.find(stop) for stop in stops if stop in text]
    return text[: min(cuts)] if cuts else text


def _context_window(model: Any) -> int:
    """Return how many positions the model has; without a stated limit, more than any prompt needs."""
    config = model.config.get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or 2**31)


def check_request(request: GenerationRequest) -> None:
    """Refuse what cannot be drawn.

    Raises:
        UsageError: Says what is wrong.
    """
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
