"""Distillation of a shield: its replies to anchor instructions, from which one adapter learns what it says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import Field

from toxoid.config.loading import Section, validate
from toxoid.config.prompt_files import prompt
from toxoid.data.request_set import hash_fraction
from toxoid.data.schemas import Request, user
from toxoid.engines.base import Engine
from toxoid.errors import UsageError
from toxoid.methods.base import MethodInput, Student, System, TrainingSet
from toxoid.methods.contrastive_decoding.anchors import anchor_instructions
from toxoid.training.examples import Example
from toxoid.training.soft_prompts.settings import Form


class DistillationOptions(Section):
    """Options of an arm with ``method: shield-distilled``."""

    form: Form = "lora"
    """An adapter of the weights, or one soft prompt before everything."""
    shield: str | None = None
    """The folder of the shield; or the arm's `shield_of` names an earlier arm that makes it."""
    anchors: int = Field(200, ge=1)
    """Instructions per side, harmful and safe."""
    contentious: float = Field(0.5, ge=0, le=1)
    """Share of the safe ones that are contentious, as far as there are any."""
    replies: int = Field(2, ge=1)
    """Replies of the shielded model to each."""
    beginnings: int = Field(1, ge=0)
    """Replies to each harmful instruction that the unshielded model begins under the opposite system prompt, and the
    shielded one goes on with; 0 for none."""
    modules: tuple[str, ...] | None = None
    """Linear layers that the LoRA adapter changes, by the end of their names; by default all but the head."""


class ShieldDistilled:
    """KL(shielded model || student) over the shielded model's own replies; no judge is needed, and no label."""

    name = "shield-distilled"

    def synthesise(self, given: MethodInput) -> TrainingSet:
        """Let the shielded model reply to anchor instructions, and go on with harmful beginnings.

        A reply that is cut off at the token limit is as good as a whole one: what is learnt at a token does not
        depend on those after it.

        Raises:
            UsageError: There is no shield, or no instruction.
        """
        options = _options(given.options)
        teacher = given.teacher
        if teacher is None:
            raise UsageError(
                "shield-distilled has no shield to learn from: name its folder (options: {shield: FOLDER}), or an "
                "earlier arm that makes one (shield_of)"
            )
        instructions = anchor_instructions(given, options.anchors, options.contentious)
        if not instructions:
            raise UsageError(
                "there are 0 anchors to learn a shield's replies to: give --requests or --benign"
            )
        # The whole distribution is learnt, whatever the audit draws from.
        given = replace(given, sampling=replace(given.sampling, temperature=1.0, top_p=1.0))
        asked = [(request, "") for request in instructions]
        asked += _begun(given, instructions, options.beginnings)
        answers = replace(given, engine=teacher).ask(
            "replies under the shield",
            [(f"{request.id}/{begun}", user(request.prompt), begun) for request, begun in asked],
            n=options.replies,
        )
        examples = tuple(
            Example(user(request.prompt), done.text, begun, source="begun" if begun else request.kind)
            for (request, begun), row in zip(asked, answers, strict=True)
            for done in row
        )
        counts = Counter(f"instructions_{request.kind}" for request in instructions)
        counts["beginnings"] = len(asked) - len(instructions)
        return TrainingSet(examples, counts, student=Student(options.form, options.modules))

    def engine(self, system: System) -> Engine:
        """Ask the student without any prompt; with a contrast of manual ones, or a mask, if the arm says so.

        Raises:
            UsageError: The arm wants a soft prompt to be asked under another prompt.
        """
        from toxoid.engines.contexts import chosen, prompted_engine
        from toxoid.engines.peft_prompts import soft_prompted

        decoding = chosen(system.decoding)
        if _options(system.options).form == "lora":
            return prompted_engine(system.load(), decoding)
        if (decoding.positive, decoding.negative) != ("bare", None):
            raise UsageError(
                "a distilled soft prompt is asked alone: leave positive and negative out of the arm's decoding"
            )
        return soft_prompted(system.load_untreated(), system.artifact, decoding.contrast)


def _begun(given: MethodInput, instructions: Sequence[Request], each: int) -> list[tuple[Request, str]]:
    """Return harmful instructions with the first words, at most half, of replies under the opposite system prompt."""
    harmful = [request for request in instructions if request.kind == "harmful"]
    opposite = prompt("system")["opposite"].strip()
    if not each:
        return []
    answers = given.ask(
        "beginnings",
        [(f"{request.id}/begun", user(request.prompt, opposite), "") for request in harmful],
        n=each,
    )
    found = []
    for request, row in zip(harmful, answers, strict=True):
        for number, done in enumerate(row):
            words = done.text.split()
            share = hash_fraction("beginnings", given.seed, request.id, number) / 2
            found.append((request, " ".join(words[: 1 + int(share * len(words))])))
    return [(request, begun) for request, begun in found if begun]


def _options(given: Mapping[str, Any]) -> DistillationOptions:
    return validate(DistillationOptions, dict(given), source="options of shield-distilled")
