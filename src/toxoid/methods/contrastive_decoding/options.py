"""What can be chosen about contrastive decoding: the anchors, what the prompts learn from them, how they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from toxoid.config.loading import Section
from toxoid.training.soft_prompts.settings import PromptObjective

if TYPE_CHECKING:
    from toxoid.engines.contrast import Contrast


class AnchorOptions(Section):
    """Which instructions are anchors, and who answers them."""

    anchors: int = Field(100, ge=1)
    """Instructions per side: so many harmful ones, and so many safe ones. A file is taken whole."""
    contentious: float = Field(0.5, ge=0, le=1)
    """Share of the safe instructions that are contentious, as far as there are any; 0 as published, where no reply to
    a safe instruction is judged."""
    decline_tries: int = Field(8, ge=1)
    """More replies to each contentious instruction, if few of them were declined and a prompt has to learn that."""
    replies_by: str | None = None
    """Another model that answers the instructions; by default the model itself."""
    replies_endpoint: str | None = None
    """Where a server answers for that model."""
    anchors_file: str | None = None
    """Anchors that are there: JSON lines, CSV or Parquet with the columns `request`, `reply`, and `set` (kept, refused,
    complied or declined) or else `kind` (harmful, benign or contentious), for the judges to choose the set."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.replies_endpoint and not self.replies_by:
            raise ValueError("replies_endpoint is a server's address: name its model in replies_by")
        if self.anchors_file and self.replies_by:
            raise ValueError("anchors_file holds the replies, and replies_by would draw them: remove one")
        return self


class ContrastiveDecodingOptions(AnchorOptions):
    """Options of an arm with ``method: contrastive-decoding``; the defaults are the recommended form.

    The published one is ``{contentious: 0, two_sided: false, unlikelihood: 1, rescale: false, plausibility: 0}``.
    """

    two_sided: bool = True
    """Whether the adversarial prompt learns to decline contentious instructions too, so that the contrast pushes away
    from over-refusal as well."""
    unlikelihood: float = 0.0
    """Weight of the unlikelihood terms; 1 as published."""
    clamp: float = 1e-6
    """1 - P counts as at least this in their logarithm."""
    tokens: int | None = Field(None, ge=1)
    """Length of both prompts; by default that of the longer manual one."""
    placement: Literal["system", "front"] = "system"
    """In the place of a system prompt, or before everything."""
    alpha: float = 0.4
    """Strength of the contrast."""
    rescale: bool = True
    """Whether the temperature stays where it is; false as published."""
    plausibility: float = 0.1
    """Least share of the most probable token's probability; 0 as published."""
    first: int | None = None
    """Contrast only so many tokens."""
    divergence: float | None = None
    """Contrast only where the two distributions are at least so far apart."""
    shield: str | None = None
    """The folder of a shield that is there: nothing is made or trained."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.two_sided and self.contentious == 0:
            raise ValueError(
                "two_sided needs contentious instructions: give contentious above 0, or two_sided: false"
            )
        if self.shield and (others := sorted(self.model_fields_set - {"shield"})):
            raise ValueError(
                f"shield names one that is there, and {others[0]} says how one is made: remove one of them"
            )
        return self

    def objective(self) -> PromptObjective:
        """Return the losses.

        Raises:
            UsageError: A weight is out of range.
        """
        return PromptObjective(unlikelihood=self.unlikelihood, clamp=self.clamp)

    def contrast(self) -> Contrast:
        """Return how the prompts are meant to be used.

        Raises:
            UsageError: A value is out of range.
        """
        from toxoid.engines.contrast import Contrast

        return Contrast(
            alpha=self.alpha,
            rescale=self.rescale,
            plausibility=self.plausibility,
            first=self.first,
            divergence=self.divergence,
        )
