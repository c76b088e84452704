"""What can be chosen about course-correction: the groups, what is learnt from them, what must not change."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field

from toxoid.config.loading import Section
from toxoid.methods.good_replies import Source

PairSet: TypeAlias = Literal["corrections", "all", "adjacent", "safe", "none"]
"""Which pairs of a group are compared; see :func:`toxoid.methods.course_correction.objective.pairs_of`."""

Imitated: TypeAlias = Literal["none", "corrections", "safe", "best"]
"""What is imitated beside the pairs; see :func:`toxoid.methods.course_correction.objective.imitated_of`."""


class CourseCorrectionOptions(Section):
    """Options of an arm with ``method: course-correction``; the defaults are the recommended recipe.

    That is imitation of the corrections, held by anchors: in the lab preferences add nothing to it
    (docs/results/course-correction.md). Preferences beside it are ``{pairs: corrections, imitation: 0.5}``, the
    paper's literal recipe ``{late: false, pairs: all, loss: sigmoid, weight: 1, imitate: none, kl: 0, anchor_nll: 0}``.
    """

    groups: str | None = None
    """Groups made before: a folder of `toxoid synth course-correction`, or a group file. Else they are made here."""
    harmful_replies: Literal["auto", "dataset", "induced"] = "auto"
    """Full harmful replies: `target` of the data, the model's own under hint words, or the second where the first
    is missing."""
    safe_replies: Source = "auto"
    """Safe replies: `reference` of the data, the model's own under guidance, or the second where the first is missing.
    """
    truncations: int = Field(4, ge=1, le=16)
    """Nested truncations of the harmful reply, one correction each."""
    late: bool = True
    """Whether the whole harmful reply is corrected too: better late than never."""
    tries: int = Field(2, ge=1, le=16)
    """Continuations per truncation; the first that corrects is kept."""
    wording: Literal["auto", "english", "lab"] = "auto"
    """Openers and triggers."""
    max_groups: int | None = Field(None, ge=1)
    """Train on at most so many groups, chosen by hash: a smaller choice is part of a larger one."""
    pairs: PairSet = "none"
    loss: Literal["sigmoid", "ipo", "hinge", "robust", "conservative", "simpo"] = "hinge"
    beta: float = Field(0.1, gt=0)
    """Scale of the implicit reward; the hinge saturates at a difference of 1 / beta nats."""
    gamma: float = Field(0.0, ge=0)
    """SimPO's target margin."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """Of the losses `robust` and `conservative`."""
    weight: float = Field(3.0, ge=0)
    """Of the preference loss."""
    imitate: Imitated = "corrections"
    imitation: float = Field(1.0, ge=0)
    """Weight of the likelihood of what is imitated."""
    kl: float = Field(10.0, ge=0)
    """Weight of the divergence from the untreated model on general data."""
    anchor_nll: float = Field(0.5, ge=0)
    """Weight of the likelihood of the replies in general data."""
    anchors_per_group: float = Field(3.0, gt=0)
    """General replies seen per group."""
