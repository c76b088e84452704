"""Many-shot: the request after many turns in which an assistant did what it was asked.

Source: Anil et al. 2024, "Many-shot jailbreaking" (NeurIPS 2024).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain, islice
from typing import Any, Literal, TypeAlias

from toxoid.attacks.base import AttackedPrompt, Pool, asked, choose
from toxoid.attacks.course_correction import whole_reply
from toxoid.attacks.wording import Phrase, Wording, check_variants, load_wording
from toxoid.config.prompt_files import prompt, prompts_hash
from toxoid.data.request_set import prompt_key
from toxoid.data.schemas import Conversation, Message, Request
from toxoid.errors import UsageError
from toxoid.store.keys import content_key

SHOTS = 32
"""Shots asked for where no number is given."""
FEWEST, MOST = 4, 256
"""The numbers of shots that can be asked for."""

ManyShotName: TypeAlias = Literal["many_shot", "many_shot_inline"]

_SHOTS_FILE = "attacks/shots"


@dataclass(frozen=True, slots=True)
class Shot:
    """One question with the reply of an assistant that complies."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Room:
    """A context window: conversations of at most ``tokens``, as ``count`` counts them, fit."""

    tokens: int
    count: Callable[[Conversation], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyShot:
    """Put invented turns before the request, in which each question is answered.

    ``many_shot`` sends the shots as turns of the conversation, ``many_shot_inline`` as a dialogue inside one message.
    The request that a judge sees says in its metadata how many were sent (``shots``) and asked for
    (``shots_wanted``); they differ where ``room`` has no place for all.

    Args:
        name: Which of the two.
        shots: How many, 4 to 256.
        variants: Frames of the dialogue per request; turns have no frame, and one variant.
        pool: Which own shots and frames to use.
        examples: Requests whose whole replies are the shots, in place of own ones. They belong to no pool; those
            with the prompt or id of the request itself are left out.
        room: What a conversation has to fit; ``None`` for no limit.

    Raises:
        UsageError: A number of shots or variants out of range.
    """

    name: ManyShotName
    shots: int = SHOTS
    variants: int = 1
    pool: Pool = "evaluation"
    examples: tuple[Request, ...] = field(default=(), repr=False)
    room: Room | None = None
    wording: Wording = field(default_factory=lambda: load_wording("many_shot"), repr=False)

    def __post_init__(self) -> None:
        if not FEWEST <= self.shots <= MOST:
            raise UsageError(
                f'Attack "{self.name}" was given {self.shots} shots; expected {FEWEST} to {MOST}, '
                f'as in "{self.name}:64".'
            )
        check_variants(self.name, self.variants, len(self._frames()))

    def identity(self) -> dict[str, Any]:
        """Return the digests of wording and shots, their number, the room, the pool and the number of variants."""
        given = [[example.id, example.prompt, whole_reply(example)] for example in self.examples]
        return {
            "attack": self.name,
            "wording": self.wording.sha256,
            "shots": self.shots,
            "from": content_key(given) if given else prompts_hash([_SHOTS_FILE]),
            "room": self.room.tokens if self.room else None,
            "pool": self.pool,
            "variants": self.variants,
        }

    def apply(self, request: Request, *, seed: int) -> list[AttackedPrompt]:
        """Return one conversation per frame; which shots, and their order, depends on (seed, request.id) only.

        Raises:
            UsageError: Too few examples have a whole reply, or there is no room for the request alone.
        """
        shots = self._draw(request, seed)
        chosen = choose(self._frames(), self.variants, seed=seed, request=request, salt=self.name)
        return [self._attacked(request, shots, frame) for frame in chosen]

    def _frames(self) -> Sequence[Phrase | None]:
        return (None,) if self.name == "many_shot" else self.wording.of("frames", self.pool)

    def _draw(self, request: Request, seed: int) -> list[Shot]:
        """Return the shots, drawn round by round: no own question recurs before all have been asked."""
        rounds = [_shots_of(self.examples, request)] if self.examples else own_shots(self.pool)
        in_order = (
            choose(shots, len(shots), seed=seed, request=request, salt=f"{self.name}/{number}")
            for number, shots in enumerate(rounds)
        )
        drawn = list(islice(chain.from_iterable(in_order), self.shots))
        if len(drawn) < self.shots:
            raise UsageError(
                f'Attack "{self.name}" needs {self.shots} examples with a whole reply beside {request.id}; '
                f"{len(drawn)} were given. Give more, or ask for fewer shots."
            )
        return drawn

    def _attacked(self, request: Request, shots: Sequence[Shot], frame: Phrase | None) -> AttackedPrompt:
        def conversation(count: int) -> Conversation:
            sent = shots[:count]
            return self._inline(request, sent, frame) if frame else _turns(request, sent)

        count = _most_that_fit(len(shots), conversation, self.room, request)
        metadata = {**request.metadata, "shots": count, "shots_wanted": self.shots}
        variant = f"{frame.id if frame else 'turns'}/shots={count}"
        return AttackedPrompt(replace(request, metadata=metadata), conversation(count), self.name, variant)

    def _inline(self, request: Request, shots: Sequence[Shot], frame: Phrase) -> Conversation:
        line = next(line for line in self.wording.sections["lines"] if line.id == frame.id)
        dialogue = "\n\n".join(line.fill(question=shot.question, answer=shot.answer) for shot in shots)
        return asked(request, frame.fill(dialogue=dialogue, request=request.prompt))


@cache
def own_shots(pool: Pool) -> tuple[tuple[Shot, ...], ...]:
    """Return the packaged shots of a pool in rounds, in each of which every question stands once, with one place."""
    packaged = prompt(_SHOTS_FILE)[pool]
    places = packaged["places"]
    return tuple(
        tuple(
            Shot(shot["question"].replace("{place}", places[(index + offset) % len(places)]), shot["answer"])
            for index, shot in enumerate(packaged["shots"])
        )
        for offset in range(len(places))
    )


def _shots_of(examples: Sequence[Request], request: Request) -> list[Shot]:
    """Return the examples with a whole reply that are not the request itself."""
    return [
        Shot(example.prompt, whole_reply(example))
        for example in examples
        if example.id != request.id and prompt_key(example) != prompt_key(request) and whole_reply(example)
    ]


def _turns(request: Request, shots: Sequence[Shot]) -> Conversation:
    *earlier, last = asked(request)
    turns = (
        message
        for shot in shots
        for message in (Message("user", shot.question), Message("assistant", shot.answer))
    )
    return (*earlier, *turns, last)


def _most_that_fit(
    wanted: int, conversation: Callable[[int], Conversation], room: Room | None, request: Request
) -> int:
    """Return the largest number of shots, up to ``wanted``, whose conversation fits."""
    if room is None or room.count(conversation(wanted)) <= room.tokens:
        return wanted
    too_many = bisect_left(
        range(wanted), True, key=lambda count: room.count(conversation(count)) > room.tokens
    )
    if too_many == 0:
        raise UsageError(
            f"{request.id} alone does not fit into {room.tokens} tokens; give a longer context or leave it out."
        )
    return too_many - 1
