"""In-context defence: harmful requests that were declined stand before every conversation as earlier turns.

Source: Wei, Wang, Li, Mo, Wang 2023, "Jailbreak and guard aligned language models with only few in-context
demonstrations" (arXiv 2310.06387), in-context defence (ICD). The demonstrations are this project's own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import Field

from toxoid.config.loading import Section, validate
from toxoid.config.prompt_files import prompt
from toxoid.data.request_set import hash_fraction
from toxoid.data.schemas import Conversation, Message
from toxoid.engines.base import Engine
from toxoid.engines.reworded import RewordedEngine
from toxoid.errors import UsageError
from toxoid.methods.base import MethodInput, System, TrainingSet
from toxoid.methods.baselines.untreated import Untreated

FILE = "demonstrations.json"

Demonstration: TypeAlias = Mapping[str, str]
"""``request`` and ``reply``."""


class InContextDefenceOptions(Section):
    """Options of an arm with ``method: in-context-defence``."""

    demonstrations: int = Field(1, ge=1)
    """How many."""
    source: Literal["auto", "packaged", "data"] = "auto"
    """Packaged ones in English, training requests with their references, or these if any request has one."""


class InContextDefence(Untreated):
    """Show the model how harmful requests are declined."""

    name = "in-context-defence"

    def synthesise(self, given: MethodInput) -> TrainingSet:
        """Choose the demonstrations.

        Raises:
            UsageError: There are fewer than asked for.
        """
        options = validate(
            InContextDefenceOptions, dict(given.options), source="options of in-context-defence"
        )
        held = [request for request in given.harmful if request.reference]
        ranked = sorted(held, key=lambda request: hash_fraction("demonstrations", given.seed, request.id))
        own = [{"request": request.prompt, "reply": request.reference} for request in ranked]
        data = options.source == "data" or (options.source == "auto" and bool(own))
        there = own if data else prompt("in_context_defence")["demonstrations"]
        if len(there) < options.demonstrations:
            where = "training requests with a reference" if data else "packaged demonstrations"
            raise UsageError(
                f"{options.demonstrations} demonstrations are asked for, and there are {len(there)} {where}: ask for "
                f"fewer, or take another source (options: {{source: {'packaged' if data else 'data'}}})"
            )
        chosen = there[: options.demonstrations]
        return TrainingSet((), {"demonstrations": len(chosen)}, files={FILE: chosen})

    def engine(self, system: System) -> Engine:
        """Ask the model as it was, after the demonstrations.

        Raises:
            UsageError: The demonstrations that were chosen are not there.
        """
        shown = _read(system.artifact / FILE)
        return RewordedEngine(
            super().engine(system), partial(demonstrated, shown=shown), name=self.name, words=shown
        )


def demonstrated(conversation: Conversation, shown: Sequence[Demonstration]) -> Conversation:
    """Return the conversation with demonstrations as earlier turns, after its system message."""
    turns = [
        turn
        for shot in shown
        for turn in (Message("user", shot["request"]), Message("assistant", shot["reply"]))
    ]
    head = 1 if conversation[0].role == "system" else 0
    return (*conversation[:head], *turns, *conversation[head:])


def _read(path: Path) -> list[Demonstration]:
    try:
        found: list[Demonstration] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path}: the demonstrations that were chosen cannot be read ({error}): run the arm again"
        ) from None
    return found
