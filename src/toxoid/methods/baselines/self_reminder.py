"""Self-reminder: the user's message stands between two reminders, under a system line that says the same.

Source: Xie et al. 2023, "Defending ChatGPT against jailbreak attack via self-reminders" (Nature Machine Intelligence
5). The words are this project's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from toxoid.config.loading import Section, validate
from toxoid.config.prompt_files import prompt
from toxoid.data.schemas import Conversation
from toxoid.engines.base import Engine
from toxoid.engines.guided import with_guidance
from toxoid.engines.reworded import RewordedEngine
from toxoid.methods.base import MethodInput, System, TrainingSet
from toxoid.methods.baselines.untreated import Untreated


class SelfReminderOptions(Section):
    """Options of an arm with ``method: self-reminder``."""

    wording: Literal["english", "lab"] = "english"
    """The reminders' language; the lab's models know its own words only."""


class SelfReminder(Untreated):
    """Remind the model of its responsibility around every last message of the user's."""

    name = "self-reminder"

    def synthesise(self, given: MethodInput) -> TrainingSet:
        """Make nothing; options that are wrong are found here."""
        _options(given.options)
        return TrainingSet((), {})

    def engine(self, system: System) -> Engine:
        """Ask the model as it was, with the reminders."""
        words = prompt("self_reminder")[_options(system.options).wording]
        return RewordedEngine(
            super().engine(system), partial(reminded, words=words), name=self.name, words=words
        )


def _options(given: Mapping[str, Any]) -> SelfReminderOptions:
    return validate(SelfReminderOptions, dict(given), source="options of self-reminder")


def reminded(conversation: Conversation, words: Mapping[str, str]) -> Conversation:
    """Return the conversation with the words ``system`` at its head, ``before`` and ``after`` around its last turn."""
    last = conversation[-1]
    wrapped = replace(last, content=f"{words['before']}\n\n{last.content}\n\n{words['after']}")
    return with_guidance((*conversation[:-1], wrapped), words["system"])
