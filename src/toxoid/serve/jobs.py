"""The contract of what answers jobs: what is asked, what comes back piece by piece, limits, and counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from toxoid.engines.base import FinishReason, GenerationRequest
from toxoid.errors import ToxoidError, UsageError

if TYPE_CHECKING:
    from toxoid.engines.explain import Explanation
    from toxoid.engines.prompting import Prompting
    from toxoid.serve.handle import Handle

FailureKind: TypeAlias = Literal["timeout", "internal", "stopped"]
"""The deadline has passed; the model or the program failed; the server stopped before the job was done."""


@dataclass(frozen=True, slots=True)
class Job:
    """One request to a served model.

    Args:
        request: What is asked; ``n`` completions, each a function of ``(seed, index)`` alone.
        logprobs: So many alternatives are told for every token, beside the token itself; ``None`` tells nothing.
        explain: Whether each finished completion comes with its explanation.
        timeout: Seconds from submission after which the job fails; ``None`` for no limit.
        prompting: The contexts to ask under, in place of the backend's own. The operator's choice, never a client's:
            it can switch the protection off. Jobs that give the same object are decoded together.
    """

    request: GenerationRequest
    logprobs: int | None = None
    explain: bool = False
    timeout: float | None = None
    prompting: Prompting | None = None


@dataclass(frozen=True, slots=True)
class TokenScore:
    """A token and how probable it was where it was drawn, at temperature 1: after contrast and mask.

    Args:
        text: What it adds to the text; empty where it ends within a character, which the next one completes.
        logprob: Its logarithmic probability (natural logarithm), always finite.
        top: The most probable tokens in its place with theirs, best first; those that the mask removes are left out.
    """

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """What a step adds to completion ``index``; it is never taken back.

    Args:
        index: Which completion.
        text: The text; held back until no later token can change it (split characters, beginnings of stop strings).
            Never empty.
        scores: Of the tokens that begin in ``text``, if they were asked for.
    """

    index: int
    text: str
    scores: tuple[TokenScore, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of completion ``index``; its text is that of all its pieces.

    Args:
        index: Which completion.
        reason: Why it ended.
        prompt_tokens: Tokens of the positive context, the same for all completions of a job.
        completion_tokens: Tokens drawn, the one that ended the turn included.
        contrasted: How many of them were drawn from a contrasted distribution.
        explanation: Token by token, if it was asked for.
    """

    index: int
    reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    contrasted: int = 0
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The end of a whole job that could not be done; completions that had finished stay finished.

    Args:
        message: One line, fit for a client.
        kind: What happened.
    """

    message: str
    kind: FailureKind = "internal"


Event: TypeAlias = Piece | Finished | Failed


class Full(ToxoidError):
    """No room for another job now.

    Attributes:
        retry_after: Seconds after which there will probably be some.
    """

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Draining(ToxoidError):
    """The backend finishes what runs and takes no more jobs."""


class TooLong(UsageError):
    """The prompt leaves no room in the context window, or the job can never have the memory it may need."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a scheduler takes on.

    Args:
        queue: Most jobs that wait; one more is refused (:class:`Full`).
        rows: Most completions decoded at once. A job needs one for each of its completions, a greedy job one in all.
        cache_bytes: Memory for keys and values: running completions, prompts being read and remembered prefixes. Jobs
            wait for their share, counted as if each of their completions became as long as it may.
        prefix_bytes: How much of it remembered prefixes may take.
        prefill_tokens: Tokens of new prompts that are read between two steps of what runs; longer prompts are read in
            several parts.
    """

    queue: int = 64
    rows: int = 64
    cache_bytes: int = 2**30
    prefix_bytes: int = 2**28
    prefill_tokens: int = 512

    def __post_init__(self) -> None:
        for name in ("queue", "rows", "cache_bytes", "prefill_tokens"):
            if getattr(self, name) < 1:
                raise UsageError(f"the limit {name} is {getattr(self, name)}: give 1 or more")
        if not 0 <= self.prefix_bytes < self.cache_bytes:
            raise UsageError(
                f"the limit prefix_bytes is {self.prefix_bytes}: give 0 or more, and less than cache_bytes "
                f"({self.cache_bytes})"
            )


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts at one moment. The first group says how things stand, the others only grow.

    Args:
        queued: Jobs that wait.
        running: Jobs being read or decoded.
        rows: Rows of the model's batches; under a contrast a completion has two.
        cache_bytes: Keys and values held, remembered prefixes included.
        prefix_bytes: Remembered prefixes.
        submitted: Jobs taken.
        refused: Jobs not taken: no room, too long, wrong, or draining.
        finished: Jobs done.
        cancelled: Jobs given up by those who asked.
        failed: Jobs that failed, deadlines included.
        prompt_tokens: Of the positive contexts of jobs that were begun.
        known_tokens: Prompt tokens, of both contexts, that were not read since they were remembered.
        completion_tokens: Tokens drawn.
        steps: Forward passes that went on with running completions.
        step_seconds: Time they took, in sum: choice of tokens and events included.
        prefill_seconds: Time it took to read prompts, in sum.
    """

    queued: int = 0
    running: int = 0
    rows: int = 0
    cache_bytes: int = 0
    prefix_bytes: int = 0

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


class Backend(Protocol):
    """What answers jobs. All methods may be called from any thread.

    Attributes:
        name: What people call the model.
    """

    name: str

    def submit(self, job: Job) -> Handle:
        """Take a job, and return where its events come.

        Raises:
            Full: There is no room now.
            Draining: No more jobs are taken.
            TooLong: The prompt does not fit.
            UsageError: The job cannot be done: its sampling, or a conversation that the chat template refuses.
        """

    def stats(self) -> Stats:
        """Return the counts."""

    def swap(self, prompting: Prompting) -> None:
        """Ask later jobs under other contexts; those already submitted are finished under theirs."""

    def drain(self, timeout: float | None = None) -> bool:
        """Take no more jobs and wait until all that were taken are done.

        Args:
            timeout: Seconds to wait at most; ``None`` waits for ever.

        Returns:
            Whether all are done.
        """

    def close(self) -> None:
        """Stop now: jobs that are not done fail (``stopped``)."""
