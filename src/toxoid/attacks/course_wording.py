"""The wordings of course-correction: openers that begin a harmful reply, triggers that turn away from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

from toxoid.attacks.base import Pool
from toxoid.attacks.wording import Phrase
from toxoid.config.prompt_files import prompt, prompts_hash
from toxoid.data.schemas import Request
from toxoid.errors import UsageError, did_you_mean

WordingName: TypeAlias = Literal["english", "lab"]

NAMES: dict[str, str] = {
    "english": "whole English sentences, for any model",
    "lab": "in the words of the lab, whose model knows no others",
}
"""Name to one line."""

_FILE = "course_correction"


@dataclass(frozen=True, slots=True)
class CourseWording:
    """The openers and triggers of one wording, and the digest of the file they came from."""

    name: str
    phrases: Mapping[str, tuple[Phrase, ...]]
    sha256: str

    def openers(self, pool: Pool) -> tuple[Phrase, ...]:
        """Return the openers of a pool."""
        return self._of("openers", pool)

    def triggers(self, pool: Pool) -> tuple[Phrase, ...]:
        """Return the triggers of a pool."""
        return self._of("triggers", pool)

    def _of(self, section: str, pool: Pool) -> tuple[Phrase, ...]:
        return tuple(phrase for phrase in self.phrases[section] if phrase.pool == pool)


@cache
def load_course_wording(name: str) -> CourseWording:
    """Return one of the packaged wordings.

    Raises:
        UsageError: There is no wording of that name.
    """
    if name not in NAMES:
        raise UsageError(
            f'there is no wording "{name}" of course-correction.{did_you_mean(name, NAMES)} Known: {", ".join(NAMES)}'
        )
    phrases = {
        section: tuple(Phrase(**phrase) for phrase in entries)
        for section, entries in prompt(_FILE)[name].items()
    }
    return CourseWording(name, phrases, prompts_hash([_FILE]))


def wording_for(requests: Iterable[Request]) -> WordingName:
    """Return the wording for a set of requests: ``lab`` if all of them (and at least one) are the lab's."""
    of_lab = {request.id.startswith("lab-") for request in requests}
    return "lab" if of_lab == {True} else "english"
