"""Supervised fine-tuning: L = -sum over D_good of log p(y_good | x), beside general data."""

from __future__ import annotations

from collections.abc import Sequence

from toxoid.config.loading import Section, validate
from toxoid.data.schemas import Request, user
from toxoid.errors import UsageError
from toxoid.methods.base import MethodInput, TrainingSet, WeightsMethod
from toxoid.methods.good_replies import GoodReply, Source, good_replies
from toxoid.training.examples import Example


class SFTOptions(Section):
    """Options of an arm with ``method: sft``."""

    good_replies: Source = "auto"


class SFT(WeightsMethod):
    """Imitate good replies; nothing is learnt from bad ones."""

    name = "sft"

    def synthesise(self, given: MethodInput) -> TrainingSet:
        """Make D_good and the general data."""
        options = validate(SFTOptions, dict(given.options), source="options of sft")
        good, counts = good_replies(given, options.good_replies)
        if not good:
            raise UsageError(
                f"no good reply was found for {len(given.harmful)} requests. Give requests with references, "
                "or a model that declines at least sometimes under the safe system prompt."
            )
        return TrainingSet((*good_examples(good), *general_examples(given.benign)), counts)


def good_examples(replies: Sequence[GoodReply]) -> list[Example]:
    """Return D_good: request and good reply."""
    return [Example(conversation=user(r.request.prompt), target=r.text, source="good") for r in replies]


def general_examples(requests: Sequence[Request]) -> list[Example]:
    """Return the general data: benign requests with their references."""
    return [
        Example(conversation=user(request.prompt), target=request.reference, source="general")
        for request in requests
        if request.reference
    ]
