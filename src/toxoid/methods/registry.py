"""The treatments by name, light enough for ``toxoid ls``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from toxoid.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from toxoid.methods.base import Method

NAMES: dict[str, str] = {
    "chain-of-hindsight": "learn bad and good replies under their feedback, ask for good ones (Liu et al. 2023)",
    "contrastive-decoding": "two opposite soft prompts, contrasted at every token (Zhao et al. 2024)",
    "course-correction": "learn to leave a harmful reply that has begun, from ranked corrections (Xu et al. 2024)",
    "critique-revise": "imitate the model's own revisions of its replies (Bai et al. 2022)",
    "hindsight-relabeling": "learn replies under the instruction they did follow (Zhang et al. 2023)",
    "mistake-analysis": "induce the model's mistakes, analyse them under guidance, train without it (Chen et al. 2023)",
    "in-context-defence": "show declined requests before every conversation (Wei et al. 2023)",
    "rlhf": "a reward model, and a policy that it rewards (RLOO, Ahmadian et al. 2024)",
    "safe-decoding": "let an expert that declines guide the first tokens of a reply (Xu et al. 2024)",
    "safety-tuning": "imitate refusals beside replies to safe requests (Bianchi et al. 2024)",
    "self-reminder": "remind the model of its responsibility around every message (Xie et al. 2023)",
    "shield-distilled": "one adapter that says in a single pass what the model says under a shield",
    "sft": "imitate good replies to harmful requests; the plain baseline",
    "untreated": "the model as it is, for contrasts of manual prompts",
}
_WHERE = {
    "chain-of-hindsight": "baselines.chain_of_hindsight:ChainOfHindsight",
    "critique-revise": "baselines.critique_revise:CritiqueRevise",
    "hindsight-relabeling": "baselines.hindsight_relabeling:HindsightRelabeling",
    "rlhf": "baselines.rlhf:RLHF",
    "contrastive-decoding": "contrastive_decoding.method:ContrastiveDecoding",
    "course-correction": "course_correction.method:CourseCorrection",
    "mistake-analysis": "mistake_analysis.method:MistakeAnalysis",
    "in-context-defence": "baselines.in_context_defence:InContextDefence",
    "safe-decoding": "baselines.safe_decoding:SafeDecoding",
    "safety-tuning": "baselines.safety_tuning:SafetyTuning",
    "self-reminder": "baselines.self_reminder:SelfReminder",
    "shield-distilled": "contrastive_decoding.distilled:ShieldDistilled",
    "sft": "baselines.sft:SFT",
    "untreated": "baselines.untreated:Untreated",
}
WITHOUT_REQUESTS = frozenset({"in-context-defence", "self-reminder", "untreated"})
"""Methods that can do without training requests."""


def make_method(name: str) -> Method:
    """Return a method by name.

    Raises:
        UsageError: There is none of that name.
    """
    if name not in _WHERE:
        raise UsageError(f'"{name}" is no method.{did_you_mean(name, NAMES)} Known: {", ".join(NAMES)}.')
    module, _, kind = _WHERE[name].partition(":")
    made: Method = getattr(import_module(f"toxoid.methods.{module}"), kind)()
    return made
