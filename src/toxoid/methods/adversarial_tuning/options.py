"""What can be chosen about the rounds of adversary against judge."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from toxoid.config.loading import Section

Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]


class AdversaryOptions(Section):
    """Who writes the candidates, and how."""

    mode: Literal["user-turn", "chat"] = "chat"
    """`user-turn`: a causal LM writes the user's turn itself; `chat`: a chat model or endpoint is asked for one."""
    training: bool = True
    """Whether it is fine-tuned on its successes after each round; an endpoint only sees some of them in its prompt."""
    few_shot: Annotated[int, Field(ge=0, le=10)] = 10
    """Past successes that a chat adversary is shown, drawn anew for each candidate; `user-turn` sees none."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    max_tokens: Annotated[int, Field(ge=1)] = 128


class RoundOptions(Section):
    """How the rounds go."""

    rounds: Annotated[int, Field(ge=0, le=5)] = 4
    """0: the judge learns the seeds alone."""
    candidates: Annotated[int, Field(ge=1)] = 100
    """New valid candidates per round, each of which gets a label."""
    tries: Annotated[float, Field(ge=1)] = 4.0
    """Give up on a round's candidates after so many proposals for each one wanted."""
    negatives: Annotated[float, Field(ge=0)] = 1.0
    """Known harmless prompts added per candidate."""
    contentious: Share = 0.5
    """Share of them that is contentious, as far as there are any."""
    least_distinct: Share = 0.05
    """The adversary has collapsed if the share of different word pairs among a round's candidates is lower."""
    least_new: Share = 0.25
    """Or if the share of new valid ones among its proposals is lower."""
    stop_when_collapsed: bool = True
    seed: Annotated[int, Field(ge=0)] = 0


class AdversarialTuningOptions(RoundOptions):
    """The recipe's section: the rounds, the adversary and the control."""

    adversary: AdversaryOptions = AdversaryOptions()
    control: Literal["none", "random-data"] = "none"
    """Whether a second judge learns from as many labels on prompts of the ordinary pool, drawn at random."""
    holdout: Annotated[int, Field(ge=1)] = 200
    """Most prompts in each frozen slice."""
