"""Safety tuning: imitate refusals of harmful instructions beside replies to safe ones.

Source: Bianchi et al. 2024, "Safety-tuned LLaMAs" (arXiv 2309.07875), which adds a few hundred safety examples to
instruction data. Here both come from the anchors of contrastive decoding, as in Zhao et al. 2024, table 3.
"""

from __future__ import annotations

from toxoid.config.loading import validate
from toxoid.methods.base import MethodInput, TrainingSet, WeightsMethod
from toxoid.methods.contrastive_decoding.anchors import make_anchors
from toxoid.methods.contrastive_decoding.options import AnchorOptions


class SafetyTuning(WeightsMethod):
    """Fine-tune on the anchors that the safe soft prompt learns: what weights can do with the same data."""

    name = "safety-tuning"

    def synthesise(self, given: MethodInput) -> TrainingSet:
        """Make the anchors."""
        options = validate(AnchorOptions, dict(given.options), source="options of safety-tuning")
        anchors, counts = make_anchors(given, options, needs=("kept", "refused"))
        return TrainingSet((*anchors.kept, *anchors.refused), counts)
