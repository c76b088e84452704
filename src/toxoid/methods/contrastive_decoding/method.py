"""The whole path: replies to anchor instructions, two soft prompts that learn from them, decoding between these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toxoid.config.loading import validate
from toxoid.config.prompt_files import prompt
from toxoid.engines.base import Engine
from toxoid.methods.base import MethodInput, OppositePrompts, System, TrainingSet
from toxoid.methods.contrastive_decoding.anchors import make_anchors
from toxoid.methods.contrastive_decoding.options import ContrastiveDecodingOptions


class ContrastiveDecoding:
    """logit = logit_SP - alpha logit_AP, with a safe and an adversarial soft prompt on a frozen model.

    Source: Zhao et al. 2024 (anchors and losses: section "Opposite Prompt Optimization"; decoding: equation 5).
    Beyond the paper, by default: contentious instructions among the anchors, an adversarial prompt that declines
    them, no unlikelihood, a plausibility mask and a temperature that the contrast leaves alone.
    """

    name = "contrastive-decoding"

    def synthesise(self, given: MethodInput) -> TrainingSet:
        """Make the anchors; with ``shield``, nothing."""
        options = _options(given.options)
        if options.shield:
            return TrainingSet((), {})
        objective, contrast = options.objective(), options.contrast()
        anchors, counts = make_anchors(given, options, two_sided=options.two_sided)
        prompts = OppositePrompts(
            anchors=anchors,
            objective=objective,
            safe_text=prompt("system")["safe"].strip(),
            opposite_text=prompt("system")["opposite"].strip(),
            placement=options.placement,
            contrast=contrast,
            tokens=options.tokens,
        )
        examples = (*anchors.kept, *anchors.refused, *anchors.complied, *anchors.declined)
        return TrainingSet(examples, counts, prompts=prompts)

    def engine(self, system: System) -> Engine:
        """Ask the model as it was under the shield, as that is meant to be used or as the arm says.

        Raises:
            UsageError: There is no shield where one is needed, or it belongs to another model.
        """
        from toxoid.engines.contexts import chosen, prompted_engine
        from toxoid.engines.shield import load_shield

        options, said = _options(system.options), system.decoding
        soft = not {"sp", "ap"}.isdisjoint((said.get("positive", "sp"), said.get("negative", "ap")))
        shield = load_shield(options.shield or system.artifact) if soft else None
        return prompted_engine(system.load_untreated(), chosen(said, shield), shield)


def _options(given: Mapping[str, Any]) -> ContrastiveDecodingOptions:
    return validate(ContrastiveDecodingOptions, dict(given), source="options of contrastive-decoding")
