"""What can be chosen about mistake analysis: the mistakes, who analyses them, what is learnt, in which proportions."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from toxoid.config.loading import Section
from toxoid.methods.good_replies import Source

Share: TypeAlias = Annotated[float, Field(gt=0, lt=1)]


class MistakeOptions(Section):
    """Where bad replies come from; at most one is kept per request."""

    mistakes: Literal["induced", "natural", "dataset", "attack", "audit"] = "induced"
    """Where bad replies come from: the model under hint words, as it is, or under an attack, `target` of the data, or
    the replies that another run found bad."""
    hint: Literal["prefill", "user", "system", "all"] = "prefill"
    """Where the hint words stand; `all` tries one place after the other."""
    tries: int = Field(2, ge=1, le=16)
    """Replies per request, and per place of the hint words; the first bad one is kept."""
    attack: str | None = None
    """The attack of `mistakes: attack`, in its wordings for training; one that hijacks takes the benign requests."""
    run: str | None = None
    """The finished run of `mistakes: audit`."""
    system: str = "base"
    """Whose replies are taken from that run."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        for source, key, what in (
            ("attack", "attack", "the attack"),
            ("audit", "run", "the run's directory"),
        ):
            chosen, given = self.mistakes == source, getattr(self, key) is not None
            if chosen and not given:
                raise ValueError(f"mistakes: {source} needs {what}: name it in {key}")
            if given and not chosen:
                raise ValueError(f"{key} is read for mistakes: {source} only: choose that, or remove {key}")
        return self


class MistakeAnalysisOptions(MistakeOptions):
    """Options of an arm with ``method: mistake-analysis``."""

    max_mistakes: int | None = Field(None, ge=0)
    """Learn from at most so many mistakes, chosen by hash: a smaller choice is part of a larger one. 0 is plain SFT."""
    learn: Literal["analyses", "replies", "none"] = "analyses"
    """What is learnt from mistakes; controls: `replies` imitates the bad replies themselves, `none` is plain SFT."""
    analyser: Literal["self", "reference", "other"] = "self"
    """Who analyses: the model itself, the data's own analyses (and the model where there are none), or another one."""
    analyses_by: str | None = None
    """The other model."""
    analyses_endpoint: str | None = None
    """Where a server answers for it."""
    guided_analysis: bool = True
    """Whether the analyser is told what the reply is known to be."""
    guided_training: bool = False
    """Ablation: keep the hint in the training prompt too."""
    analyses_per_mistake: int = Field(1, ge=1, le=8)
    balance: bool = True
    """As many analyses of fine replies as of harmful ones; else the model calls everything harmful."""
    good_replies: Source | Literal["none"] = "auto"
    """Where the replies to imitate come from; control: `none` learns from mistakes only."""
    mistake_share: Share | None = None
    """Share of all examples that is learnt from mistakes; what is too many of any kind is left out, by hash."""
    good_share: Share | None = None
    """The same of good replies."""

    @property
    def learns_mistakes(self) -> bool:
        """Whether any mistake is asked for."""
        return self.learn != "none" and self.max_mistakes != 0

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.analyses_endpoint and not self.analyses_by:
            raise ValueError("analyses_endpoint is a server's address: name its model in analyses_by")
        if (self.analyser == "other") != (self.analyses_by is not None):
            raise ValueError("analyser: other and analyses_by belong together: give both, or neither")
        if self.mistake_share and not self.learns_mistakes:
            raise ValueError("mistake_share is given, and no mistake is learnt from: remove one")
        if self.good_share and self.good_replies == "none":
            raise ValueError("good_share is given with good_replies: none: remove one")
        if (self.mistake_share or 0) + (self.good_share or 0) >= 1:
            raise ValueError("mistake_share and good_share leave no room for other examples: lower one")
        return self
