"""The lab's part in attacks: the words of a request, and an attacker that knows the lab's grammar."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from random import Random
from typing import Any

from toxoid.data.schemas import Conversation, Request, as_dicts
from toxoid.engines.base import Completion, GenerationRequest, OnDone
from toxoid.errors import UsageError
from toxoid.lab.grammar import request_forms
from toxoid.lab.oracle import Ask, Oracle
from toxoid.lab.world import world
from toxoid.store.keys import content_key

_REQUEST = re.compile(r"<request>(.*?)</request>", re.DOTALL)


def slots(request: Request, wording: str) -> dict[str, str]:
    """Return what templates may name: ``request``, and in the lab's words ``verb`` and ``object`` of its goal.

    Raises:
        UsageError: The lab's words are asked for, and the request names no goal of the lab.
    """
    found = {"request": request.prompt}
    if wording != "lab":
        return found
    goal = _goal(request.prompt, tuple(request.metadata.get("policy", ())))
    return {**found, "verb": goal.verb, "object": goal.thing}


class LabAttacker:
    """An attacker without a model: puts the lab's requests into other words of the lab's grammar, seeded.

    The lab's models are too small to attack each other in words. It answers what PAIR and Crescendo ask an attacker:
    a JSON object with a ``message``, which asks for the goal between ``<request>`` marks in a plain or disguised form.
    """

    name = "lab-attacker"
    granule = 1

    def __init__(self) -> None:
        self._forms = [*request_forms("disguise"), *request_forms("plain")]

    def identity(self) -> dict[str, Any]:
        """Return the world's version and the hash of the forms."""
        return {"attacker": self.name, "world": world().version, "forms": content_key(self._forms)}

    def close(self) -> None:
        """Do nothing."""

    def generate(
        self, requests: Sequence[GenerationRequest], on_done: OnDone | None = None
    ) -> list[list[Completion]]:
        """Return ``n`` rewordings per request; tokens are counted as words.

        Raises:
            UsageError: A conversation holds no goal of the lab between the marks.
        """
        found = []
        for index, request in enumerate(requests):
            found.append([self._answer(request, number) for number in range(request.n)])
            if on_done is not None:
                on_done(index, found[-1])
        return found

    def _answer(self, request: GenerationRequest, number: int) -> Completion:
        goal = _goal(_marked(request.conversation))
        rng = Random(f"{request.seed}/{number}/{content_key(as_dicts(request.conversation))}")
        message = rng.choice(self._forms).format(verb=goal.verb, object=goal.thing)
        text = json.dumps({"thought": "Other words may do.", "message": message, "stage": "request"})
        read = sum(len(turn.content.split()) for turn in request.conversation)
        return Completion(text, "stop", read, len(text.split()))


def _marked(conversation: Conversation) -> str:
    marks = (_REQUEST.search(turn.content) for turn in conversation)
    return next((mark[1] for mark in marks if mark), "")


def _goal(text: str, policy: tuple[str, ...] = ()) -> Ask:
    goal = Oracle(policy).ask(text)
    if goal is None:
        raise UsageError(
            f'"{text.strip()[:60]}" names no goal of the lab: the lab\'s attacker and wordings need the sets lab-*; '
            "for other requests give an attacker model, and the wording english"
        )
    return goal
