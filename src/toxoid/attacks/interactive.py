"""The contract of attacks that talk back: they ask, look at the answers, and ask again.

An attack is a generator per request. It yields a batch of questions and is sent their answers; it never sees an engine
or a judge. Who plays it (:func:`toxoid.audit.play.run_campaigns`) asks the questions of many campaigns together,
judges the target's replies, keeps the budget and stops a campaign as soon as a reply lands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from toxoid.attacks.base import Attack
from toxoid.attacks.course_wording import WordingName, wording_for
from toxoid.attacks.wording import Wording, load_wording
from toxoid.data.schemas import Conversation, Request
from toxoid.engines.base import Completion, Sampling
from toxoid.judges.base import Outcome, Verdict

WordingChoice: TypeAlias = WordingName | Literal["auto"]
"""``english``, ``lab`` (words that the lab's models know), or ``auto``: the lab's for the lab's requests."""

_ATTACKER = Sampling(temperature=1.0, top_p=0.9, max_tokens=500)
_FENCED = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```", re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")  # half a pair cannot be sent on


@dataclass(frozen=True, slots=True)
class Ask:
    """A question to the model under attack.

    Args:
        conversation: Closed turns, the last one the user's.
        variant: Which wording; names the attempt in reports.
        prefill: The beginning of the reply.
        setup: The turn only prepares: its reply is no answer to the request, so that it cannot land.
    """

    conversation: Conversation
    variant: str
    prefill: str = ""
    setup: bool = False


@dataclass(frozen=True, slots=True)
class Consult:
    """A question to the model that helps to attack.

    Args:
        conversation: Closed turns, the last one the user's.
        prefill: The beginning of its answer.
        fields: The answer has to be a JSON object with text under these keys; free text if empty.
        sampling: How the answer is drawn; the default is that of Chao et al. 2023.
    """

    conversation: Conversation
    prefill: str = ""
    fields: tuple[str, ...] = ()
    sampling: Sampling = _ATTACKER


Question: TypeAlias = Ask | Consult


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Args:
        completion: The reply.
        verdict: Of the target's replies: whether it lands; ``None`` for setups and for the attacker's.
        refusal: Of the target's replies, for attacks that read refusals.
        fields: Of the attacker's answers, where fields were asked for; ``None`` if it was malformed.
    """

    completion: Completion
    verdict: Verdict | None = None
    refusal: Verdict | None = None
    fields: Mapping[str, str] | None = None

    @property
    def text(self) -> str:
        """The reply's text as it can be sent on: an endpoint may have written half of a surrogate pair."""
        return self.completion.text.encode("utf-8", "replace").decode()

    @property
    def refused(self) -> bool:
        """Whether the reply declines."""
        return self.refusal is not None and self.refusal.outcome is Outcome.HIT


Moves: TypeAlias = Generator[Sequence[Question], Sequence[Answer], None]
"""A campaign from the attack's side: batches of questions out, one answer per question in."""


class InteractiveAttack(Protocol):
    """An attack that goes on from the answers."""

    @property
    def name(self) -> str:
        """The registered name."""

    @property
    def needs_attacker(self) -> bool:
        """Whether it consults a second model."""

    @property
    def reads_refusals(self) -> bool:
        """Whether the target's replies have to be judged for refusal too."""

    def identity(self) -> dict[str, Any]:
        """Return what the questions depend on besides the answers (JSON values)."""

    def play(self, request: Request, *, seed: int) -> Moves:
        """Yield questions about one request; they depend on (seed, request) and the answers only."""


@dataclass(frozen=True, slots=True)
class OneByOne:
    """Plays an attack that is one question as a campaign: its conversations one after another, until one lands.

    ``OneByOne(Direct(), rounds=k)`` is the control beside every attack that has k questions. It is not for attacks
    that change the request that is judged, such as hijacking.

    Args:
        attack: What is asked.
        rounds: How often each conversation is asked; above temperature 0 the replies differ.
    """

    attack: Attack
    rounds: int = 1
    needs_attacker: bool = field(default=False, init=False)
    reads_refusals: bool = field(default=False, init=False)

    @property
    def name(self) -> str:
        """The attack's own."""
        return self.attack.name

    def identity(self) -> dict[str, Any]:
        """Return the attack's identity and the number of rounds."""
        return {"attack": "one_by_one", "inner": self.attack.identity(), "rounds": self.rounds}

    def play(self, request: Request, *, seed: int) -> Moves:
        """Ask conversation after conversation."""
        for _ in range(self.rounds):
            for prompt in self.attack.apply(request, seed=seed):
                yield [Ask(prompt.conversation, prompt.variant, prompt.prefill)]


def worded(file: str, wording: WordingChoice, request: Request) -> Wording:
    """Return an attack's wording for a request: the file's, or the one beside it in the lab's words."""
    name = wording_for([request]) if wording == "auto" else wording
    return load_wording(file if name == "english" else f"{file}_lab")


def read_fields(text: str, names: Sequence[str]) -> dict[str, str] | None:
    """Return the texts under ``names`` in an answer that is one JSON object, alone or in one code fence.

    ``None`` if it is anything else, lacks a name, or has no usable text under it; other keys are left out.
    """
    fenced = _FENCED.fullmatch(text.strip())
    try:
        found = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return None
    given = found if isinstance(found, dict) else {}
    values = {name: given[name].strip() for name in names if isinstance(given.get(name), str)}
    usable = [value for value in values.values() if value and not _SURROGATE.search(value)]
    return values if len(usable) == len(names) else None
