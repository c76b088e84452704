"""What can be chosen about mistake analysis."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from toxoid.config.loading import Section
from toxoid.methods.good_replies import Source


class MistakeAnalysisOptions(Section):
    """Options of an arm with ``method: mistake-analysis``."""

    mistakes: Literal["induced", "natural", "dataset"] = "induced"
    """Where bad replies come from: the model under hint words, the model as it is, or `target` of the data."""
    hint: Literal["prefill", "user", "system"] = "prefill"
    """Where the hint words stand."""
    tries: int = Field(2, ge=1, le=16)
    """Induced replies per request; the first harmful one is kept."""
    analyser: Literal["self", "reference"] = "self"
    """Who analyses: the model itself, or the data's own analyses."""
    guided_analysis: bool = True
    """Whether the analyser is told what the reply is known to be."""
    guided_training: bool = False
    """Ablation: keep the hint in the training prompt too."""
    analyses_per_mistake: int = Field(1, ge=1, le=8)
    balance: bool = True
    """As many analyses of fine replies as of harmful ones; else the model calls everything harmful."""
    good_replies: Source = "auto"
    """Where the replies to imitate come from."""
