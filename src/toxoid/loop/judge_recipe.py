"""The recipe of a judge: what it starts from, what it learns, against whom, who knows the truth, how it is measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from toxoid.config.loading import Section, dump_yaml, parse_yaml, validate, yaml_lines
from toxoid.config.overrides import put
from toxoid.config.packaged import packaged_judge_recipes
from toxoid.config.sections import Count, GivenKeysOf, ModelSection, Share, Text, TrainingSection, Whole
from toxoid.config.yaml_files import read_text
from toxoid.errors import UsageError, did_you_mean
from toxoid.methods.adversarial_tuning.options import AdversaryOptions, RoundOptions

FOLDER = "recipes/judges"
KNOWN, LAB, PEOPLE = "known", "lab-oracle", "people"
"""Truths that are no judges."""


class StartSection(Section):
    """What the judge is before it has learnt anything."""

    source: Text = "minilm"
    """`minilm`, `bag-of-words`, `small-encoder`, an encoder's folder or Hub id, or a judge trained before."""
    tokens: Annotated[int, Field(ge=16)] = 256
    """Of one window; longer texts are read in several."""


class JudgeDataSection(Section):
    """What it learns from; sets of `toxoid ls datasets`, or files."""

    problematic: tuple[Text, ...] = ()
    """Requests to be found; their harmful ones are taken."""
    harmless: tuple[Text, ...] = ()
    contentious: tuple[Text, ...] = ()
    """Requests that sound problematic and are not."""
    labelled: tuple[Text, ...] = ()
    """Files or sets that say what each text is; of judges of replies the only data."""
    exclude: tuple[Text, ...] = ()
    """Sets of which no prompt is learnt, not even nearly the same."""
    limit: Count | None = None
    """At most this many of each set."""
    seeds: Count | None = None
    """Prompts of round 0, as many problematic as harmless ones; all if none is given."""

    @property
    def sets(self) -> tuple[str, ...]:
        """All that is learnt from."""
        return (*self.problematic, *self.harmless, *self.contentious, *self.labelled)


class HoldoutSection(Section):
    """The frozen slices, never learnt from."""

    share: Share = 0.2
    """Of every set that has no test part of its own; split by prompt, and pairs of the contrast set by pair."""
    size: Count = 200
    """Prompts of a slice at most."""
    unseen: tuple[Text, ...] = ()
    """Sets with prompts of an adversary that is never trained against."""
    unseen_attacks: tuple[Text, ...] = ()
    """Attacks put around the held-out prompts, for the same slice."""
    people: tuple[Text, ...] = ()
    """Labels of people: a round that agrees with them less is not adopted."""


class AdversarySection(AdversaryOptions):
    """Who writes the prompts that the judge should miss."""

    model: ModelSection = ModelSection()
    attacks: tuple[Text, ...] = ()
    """In place of a model: templates put around known prompts, whose labels are known with them."""


class TruthSection(Section):
    """Who knows which prompts are problematic; neither the judge nor the adversary."""

    name: Text = KNOWN
    """`known`: of attacks, the labels of the prompts they are put around. Of an adversary model's prompts `lab-oracle`,
    `people`, or a judge: a name of `toxoid ls judges`, `guard:MODEL`, a folder."""
    model: str | None = None
    """Model that the llm judge asks."""
    endpoint: str | None = None


class ThreadsSection(TrainingSection):
    """A training whose sums are always added up in one order."""

    threads: Count | None = None


class ClassifierSection(ThreadsSection):
    """How the judge learns; see :class:`toxoid.training.classifier.ClassifierConfig`."""

    mode: Literal["head", "lora", "full"] = "lora"  # type: ignore[assignment]
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    balance: bool = True
    calibration: Annotated[float, Field(ge=0, lt=1)] = 0.1
    threshold: float | Literal["balanced"] | dict[str, float] = 0.5
    trainings: Count = 1


class JudgeRecipe(Section):
    """How a judge is made."""

    name: Text
    description: str = ""
    seed: Whole = 0
    kind: Literal["prompts", "replies"] = "prompts"
    start: StartSection = StartSection()
    data: JudgeDataSection = JudgeDataSection()
    holdout: HoldoutSection = HoldoutSection()
    training: Annotated[dict[str, Any], GivenKeysOf(ClassifierSection)] = Field(default={})
    """How the judge learns: what differs from :class:`toxoid.training.classifier.ClassifierConfig`."""
    rounds: RoundOptions | None = None
    """None: the judge learns from the data alone."""
    adversary: AdversarySection = AdversarySection()
    adversary_training: Annotated[dict[str, Any], GivenKeysOf(ThreadsSection)] = Field(default={})
    """How the adversary learns from its successes: what differs from the defaults of `toxoid align`."""
    truth: TruthSection = TruthSection()
    control: bool = False
    """Whether a second judge learns from as many labels on ordinary prompts, drawn at random."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        data = self.data
        if self.kind == "replies":
            if not data.labelled or data.problematic or data.harmless or data.contentious:
                raise ValueError("a judge of replies learns from data.labelled alone: name its files there")
            if self.rounds:
                raise ValueError("an adversary writes prompts: remove rounds, or set kind to prompts")
        elif not data.labelled and not (data.problematic and (data.harmless or data.contentious)):
            raise ValueError(
                "give data.problematic and data.harmless, or data.labelled: both sides are needed"
            )
        return self

    @model_validator(mode="after")
    def _truth_fits(self) -> Self:
        if not self.rounds:
            return self
        known, lab = self.truth.name == KNOWN, self.truth.name == LAB
        if self.adversary.attacks and not known:
            raise ValueError(
                "the labels of attacks are those of the prompts they are put around: remove truth.name, or "
                "adversary.attacks to let a model write"
            )
        if known and not self.adversary.attacks:
            raise ValueError(
                "who knows which of the adversary's prompts are problematic? Give truth.name (lab-oracle, people, "
                "a judge), or attacks in place of a model"
            )
        foreign = [name for name in self.data.sets if not name.startswith("lab-")]
        if lab and foreign:
            raise ValueError(
                f"the lab's oracle knows nothing of {foreign[0]}: give another truth.name, or the lab's sets alone"
            )
        return self


def load_judge_recipe(source: str, overrides: Mapping[str, Any] | None = None) -> JudgeRecipe:
    """Return a packaged recipe by name, or one from a YAML file, with dotted values replaced.

    Raises:
        UsageError: There is none, or a value is wrong; the text says where.
    """
    known = packaged_judge_recipes()
    if source in known:
        text, shown = known[source].read_text("utf-8"), f"recipe {source}"
    elif source.endswith((".yaml", ".yml")):
        text, shown = read_text(Path(source)), source
    else:
        raise UsageError(
            f'there is no recipe of a judge "{source}".{did_you_mean(source, known)} Known: {", ".join(known)}; '
            "a file's name ends in .yaml"
        )
    recipe = validate(JudgeRecipe, parse_yaml(text, source=shown), source=shown, lines=yaml_lines(text))
    changed = recipe.model_dump(mode="json")
    for key, value in (overrides or {}).items():
        put(changed, key, value)
    return validate(JudgeRecipe, changed, source="settings") if overrides else recipe


def as_yaml(recipe: JudgeRecipe) -> str:
    """Return the recipe with every value, as a file."""
    return dump_yaml(recipe.model_dump(mode="json"))
