"""Hindsight instruction relabeling: a reply is learnt under the instruction that it did follow.

With D of pairs of a reply y and the instruction g(y) it fulfils, "give a harmful reply" or "give a harmless reply",

    L = -sum over D of log p(y | x, g(y)),

and the harmless instruction goes with every request at inference. Source: Zhang, Liu, Wong, Abbeel, Gonzalez 2023
(arXiv 2302.05206), section 4: one round of sampling and relabelling. The paper's other losses, entropy and the contrast
between instructions by label smoothing, are left out. General data is relabelled too, harmless as it is: otherwise the
instruction would be known from refusals only, and honest requests be declined under it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from toxoid.config.loading import validate
from toxoid.config.prompt_files import prompt
from toxoid.data.schemas import Conversation, user
from toxoid.engines.base import Engine
from toxoid.engines.reworded import RewordedEngine
from toxoid.methods.base import MethodInput, System, TrainingSet, WeightsMethod
from toxoid.methods.baselines.chain_of_hindsight import HindsightOptions, told_apart
from toxoid.methods.baselines.sft import general_examples, good_examples
from toxoid.training.examples import Example


class HindsightRelabeling(WeightsMethod):
    """Learn replies of both kinds under the instruction they follow."""

    name = "hindsight-relabeling"

    def synthesise(self, given: MethodInput) -> TrainingSet:
        """Make the relabelled replies, and the general data.

        Raises:
            UsageError: An option is wrong, or there is no mistake.
        """
        options = _options(given.options)
        words = prompt("hindsight_relabeling")[options.wording]
        mistakes, good, counts = told_apart(given, options)
        fine = [*good_examples(good), *general_examples(given.benign)]
        bad = [Example(user(m.request.prompt), m.reply, source="bad") for m in mistakes]
        kinds = (("harmless", fine), ("harmful", bad))
        examples = [relabelled(example, words[kind]) for kind, replies in kinds for example in replies]
        return TrainingSet(tuple(examples), counts)

    def engine(self, system: System) -> Engine:
        """Ask the trained model under the harmless instruction."""
        form = prompt("hindsight_relabeling")[_options(system.options).wording]["harmless"]
        reword = partial(instructed, form=form)
        return RewordedEngine(super().engine(system), reword, name=self.name, words=form)


def relabelled(example: Example, form: str) -> Example:
    """Return the example under the instruction that ``form`` adds to its request."""
    return replace(example, conversation=instructed(example.conversation, form))


def instructed(conversation: Conversation, form: str) -> Conversation:
    """Return the conversation with ``form``, which holds ``{request}``, in place of its last turn."""
    last = conversation[-1]
    return (*conversation[:-1], replace(last, content=form.format(request=last.content)))


def _options(given: Mapping[str, Any]) -> HindsightOptions:
    return validate(HindsightOptions, dict(given), source="options of hindsight-relabeling")
