"""Course-correction: the reply is begun with the first words of a whole one, and the model goes on (C2-Eval)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from toxoid.attacks.base import AttackedPrompt, Cut, Pool, asked, choose
from toxoid.attacks.course_wording import CourseWording, WordingName, load_course_wording, wording_for
from toxoid.attacks.wording import Phrase, check_variants
from toxoid.data.schemas import Request
from toxoid.errors import UsageError

LENGTHS = (10, 20, 30, 40, 50, 60, 70, 80)
"""The words k after which C2-Eval cuts (Xu et al. 2024, section 2)."""

_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True, kw_only=True)
class CourseCorrection:
    """Open the assistant's turn with the first k words of an opener and a whole reply, for each k.

    The reply is the target of a harmful request and the reference of any other; the opener is drawn once per
    request and stands before every length. A text of fewer than k words is used wholly, as in the paper, and
    marked (:class:`~toxoid.attacks.base.Cut`).

    Args:
        variants: Openers per request.
        opener: The pool that openers are drawn from; ``None`` puts none before the reply.
        trigger: The pool of a turn ("However, ...") that is put behind the words; ``None`` for none.
        lengths: Words k of opener and reply together.
        wording: ``english``, ``lab``, or ``auto``: the lab's for the lab's requests.

    Raises:
        UsageError: No or too many variants.
    """

    variants: int = 1
    opener: Pool | None = "evaluation"
    trigger: Pool | None = None
    lengths: tuple[int, ...] = LENGTHS
    wording: WordingName | Literal["auto"] = "auto"
    name: str = "course_correction"

    def __post_init__(self) -> None:
        available = [len(wording.openers(self.opener)) if self.opener else 1 for wording in self._wordings()]
        check_variants(self.name, self.variants, min(available))

    def identity(self) -> dict[str, Any]:
        """Return the wordings' digest, the pools, the lengths and the number of variants."""
        return {
            "attack": self.name,
            "wording": [self.wording, self._wordings()[0].sha256],
            "opener": self.opener,
            "trigger": self.trigger,
            "lengths": list(self.lengths),
            "variants": self.variants,
        }

    def apply(self, request: Request, *, seed: int) -> list[AttackedPrompt]:
        """Return one conversation per opener and length.

        Raises:
            UsageError: The request comes with no whole reply.
        """
        reply = whole_reply(request)
        if not reply:
            lacks = "target" if request.kind == "harmful" else "reference"
            raise UsageError(f'Attack "{self.name}" begins a whole reply, and {request.id} has no {lacks}.')
        wording = load_course_wording(wording_for([request]) if self.wording == "auto" else self.wording)
        trigger = self._trigger(wording, request, seed)
        return [
            self._begun(request, reply, opener, trigger, length)
            for opener in self._openers(wording, request, seed)
            for length in self.lengths
        ]

    def _wordings(self) -> list[CourseWording]:
        """Return the wordings that may be used: which one ``auto`` takes is known with the request only."""
        names = ("english", "lab") if self.wording == "auto" else (self.wording,)
        return [load_course_wording(name) for name in names]

    def _openers(self, wording: CourseWording, request: Request, seed: int) -> list[Phrase | None]:
        if self.opener is None:
            return [None]
        pool = wording.openers(self.opener)
        return [*choose(pool, self.variants, seed=seed, request=request, salt=f"{self.name}/opener")]

    def _trigger(self, wording: CourseWording, request: Request, seed: int) -> Phrase | None:
        if self.trigger is None:
            return None
        pool = wording.triggers(self.trigger)
        return choose(pool, 1, seed=seed, request=request, salt=f"{self.name}/trigger")[0]

    def _begun(
        self, request: Request, reply: str, opener: Phrase | None, trigger: Phrase | None, length: int
    ) -> AttackedPrompt:
        begun, whole = first_words(f"{opener.text} {reply}" if opener else reply, length)
        return AttackedPrompt(
            request,
            asked(request),
            self.name,
            "/".join([*(phrase.id for phrase in (opener, trigger) if phrase), f"k={length}"]),
            prefill=f"{begun} {trigger.text}" if trigger else begun,
            cut=Cut(length, whole, trigger.text if trigger else ""),
        )


def whole_reply(request: Request) -> str:
    """Return the reply that is begun: a harmful request's target, any other's reference; empty if there is none."""
    return ((request.target if request.kind == "harmful" else request.reference) or "").strip()


def first_words(text: str, count: int) -> tuple[str, bool]:
    """Return ``text`` up to the end of its ``count``-th word, and whether it has fewer.

    Words are what ``str.split`` gives; the blanks between them stay as they are. What has fewer is returned up to
    the end of its last word.
    """
    ends = [found.end() for found in islice(_WORD.finditer(text), count)]
    return text[: ends[-1] if ends else 0], len(ends) < count
