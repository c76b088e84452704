"""Safe decoding: an expert is tuned on the model's own refusals, and guides the first tokens of every reply.

Source: Xu et al. 2024, "SafeDecoding" (arXiv 2402.08983).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import Field

from toxoid.config.loading import Section, validate
from toxoid.engines.base import Engine
from toxoid.errors import UsageError
from toxoid.methods.base import MethodInput, System, TrainingSet
from toxoid.methods.contrastive_decoding.anchors import make_anchors
from toxoid.methods.contrastive_decoding.options import AnchorOptions


class SafeDecodingOptions(Section):
    """Options of an arm with ``method: safe-decoding``; the defaults are the published values."""

    anchors: int = Field(100, ge=1)
    """Harmful instructions whose refusals the expert learns; the paper has 36, twice each."""
    alpha: float = Field(3.0, ge=0)
    """Strength of the expert."""
    first: int = Field(2, ge=1)
    """Tokens of a reply that it guides."""
    candidates: int = Field(5, ge=1)
    """Least size of the sample space."""


class SafeDecoding:
    """P = P_base + alpha (P_expert - P_base) over the first tokens of a reply."""

    name = "safe-decoding"

    def synthesise(self, given: MethodInput) -> TrainingSet:
        """Make the expert's training set: the model's refusals of harmful instructions."""
        options = _options(given.options)
        wanted = AnchorOptions.model_validate({"anchors": options.anchors, "contentious": 0.0})
        anchors, counts = make_anchors(replace(given, benign=()), wanted, needs=("refused",))
        return TrainingSet(anchors.refused, counts)

    def engine(self, system: System) -> Engine:
        """Ask the model as it was, guided by the trained one.

        Raises:
            UsageError: The arm has a decoding of its own.
        """
        from toxoid.engines.safe_decoding import SafeDecodingEngine

        if system.decoding:
            raise UsageError("safe-decoding is a decoding itself: remove the arm's `decoding`")
        options = _options(system.options)
        return SafeDecodingEngine(
            system.load_untreated(),
            system.load(),
            alpha=options.alpha,
            first=options.first,
            candidates=options.candidates,
        )


def _options(given: Mapping[str, Any]) -> SafeDecodingOptions:
    return validate(SafeDecodingOptions, dict(given), source="options of safe-decoding")
