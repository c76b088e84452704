"""The parts of a recipe: model, data, judge, audit, capability, budget, training, arms, contrasts and the others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    JsonValue,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from toxoid.config.loading import Section
from toxoid.errors import did_you_mean

BASE = "base"
"""The name of the untreated system in contrasts, results and artefacts."""
ROLES = ("harmful", "jailbreak", "benign", "contentious", "contentious_new", "hijack", "novel", "novel_shown")
"""What a request set is for; an audit task asks for the set of one role."""


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is given, expected a number")
    return value


def _role(name: str) -> str:
    if name not in ROLES:
        raise ValueError(f'"{name}" is no role.{did_you_mean(name, ROLES)} Known: {", ".join(ROLES)}')
    return name


def _url(text: str) -> str:
    scheme, _, rest = text.partition("://")
    if scheme not in ("http", "https") or not rest.strip("/") or len(text.split()) != 1:
        raise ValueError(f'"{text}" is no URL: write e.g. http://localhost:8000/v1')
    return text


_Number = BeforeValidator(_no_boolean)  # YAML's `yes` would count as 1
Count: TypeAlias = Annotated[int, Field(ge=1), _Number]
Whole: TypeAlias = Annotated[int, Field(ge=0), _Number]
Positive: TypeAlias = Annotated[float, Field(gt=0), _Number]
NotNegative: TypeAlias = Annotated[float, Field(ge=0), _Number]
Share: TypeAlias = Annotated[float, Field(gt=0, lt=1), _Number]
Text: TypeAlias = Annotated[str, Field(min_length=1)]
Url: TypeAlias = Annotated[str, AfterValidator(_url), WithJsonSchema({"type": "string", "format": "uri"})]
Dtype: TypeAlias = Literal["auto", "float32", "bfloat16"]
Role: TypeAlias = Annotated[
    str, AfterValidator(_role), WithJsonSchema({"type": "string", "enum": list(ROLES)})
]


def _one_or_more(given: Any) -> Any:
    return (given,) if isinstance(given, str) else given


Names: TypeAlias = Annotated[
    tuple[Text, ...],
    Field(min_length=1),
    BeforeValidator(_one_or_more, json_schema_input_type=str | list[str]),
]
"""One name, or a list of them."""


def safe_name(name: str) -> str:
    """Return ``name`` if it can name a folder everywhere; raise ValueError otherwise."""
    allowed = name.replace("-", "").replace("_", "").replace(".", "")
    if not (allowed.isalnum() and name.isascii() and name[0].isalnum() and len(name) <= 64):
        raise ValueError(
            f'"{name}" cannot name a folder: use up to 64 letters, digits, "-", "_" or ".", '
            "a letter or digit first"
        )
    return name


class GivenKeysOf:
    """Marks a mapping that is checked as ``model`` and keeps only the keys that were given."""

    def __init__(self, model: type[Section]) -> None:
        self.model = model

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            lambda section: section.model_dump(mode="json", exclude_unset=True),
            handler.generate_schema(self.model),
            serialization=core_schema.plain_serializer_function_ser_schema(dict),
        )


ContextName: TypeAlias = Literal["sp", "ap", "safe", "opposite", "bare"]
"""A shield's safe or adversarial soft prompt, the manual safe or opposite one, or the conversation as it is."""


class DecodingSection(Section):
    """Under which prompts a model is asked, and how they are contrasted; what is not said is the shield's own."""

    positive: ContextName = "sp"
    """The context to follow."""
    negative: ContextName | None = "ap"
    """The context to stay away from; null for none."""
    alpha: Annotated[float, Field(ge=0, le=1), _Number] = 0.4
    """Strength of the contrast."""
    rescale: bool = True
    """Whether S - alpha A is divided by 1 - alpha; the published form is not."""
    plausibility: Annotated[float, Field(ge=0, le=1), _Number] = 0.1
    """Only tokens with this share of the highest probability under the positive context are kept; 0 keeps all."""
    first: Count | None = None
    """Contrast so many tokens of a reply only."""
    divergence: Annotated[float, Field(ge=0, le=1), _Number] | None = None
    """Contrast only where the two distributions differ as much (total variation)."""


class ModelSection(Section):
    """The model that is audited and treated."""

    source: Text = "lab-base"
    """A checkpoint folder, a Hub id, `lab-base`, `lab-uncensored`, the model's name at the endpoint, or a plug-in's
    engine with its model, `NAME:MODEL`."""
    revision: str | None = None
    """Revision of a Hub model."""
    chat_template: str | None = None
    """A Jinja file, for a tokenizer without a chat template."""
    trust_remote_code: bool = False
    """Whether code that comes with the model may run."""
    dtype: Dtype = "auto"
    """Of the weights in memory."""
    special_tokens: bool = False
    """Whether messages that spell special tokens become these, as where nobody escapes them; by default they are
    text."""
    endpoint: Url | None = None
    """Base URL of an OpenAI-compatible server."""
    adapter: str | None = None
    """A PEFT adapter to put on the model."""
    shield: str | None = None
    """A shield to put before the model, in an audit; arms make or name their own."""
    decoding: Annotated[dict[str, Any], GivenKeysOf(DecodingSection)] = Field(default={})
    """What differs from the shield's decoding; without a shield, a decoding by manual prompts."""

    @property
    def plugin(self) -> bool:
        """Whether a plug-in's engine is asked: no folder and no model of the Hub has a colon in its name."""
        return not self.endpoint and ":" in self.source and not Path(self.source).expanduser().exists()

    @property
    def elsewhere(self) -> bool:
        """Whether the weights are out of reach: behind an endpoint, or in a plug-in's engine."""
        return bool(self.endpoint) or self.plugin

    @model_validator(mode="after")
    def _weights_elsewhere_have_no_local_parts(self) -> Self:
        local = ("adapter", "chat_template", "revision", "special_tokens", "shield", "decoding")
        given = [name for name in local if getattr(self, name)]
        if self.endpoint and given:
            raise ValueError(
                f"endpoint and {given[0]} exclude each other: the server has the weights; remove one"
            )
        if self.plugin and given:
            raise ValueError(
                f"{self.source} and {given[0]} exclude each other: the plug-in has the weights; remove one"
            )
        return self


class DataSection(Section):
    """The requests that are tested on: names (`toxoid ls datasets`) or files."""

    sets: dict[Role, Text] = Field(
        default={"harmful": "lab-harmful", "benign": "lab-benign", "contentious": "lab-contentious"}
    )
    """The request set of each role."""
    limit: Count | None = None
    """At most this many requests of each set."""


class TrainSection(Section):
    """The requests that are trained on, kept apart from the tested ones by prompt."""

    harmful: tuple[Text, ...] = ("lab-harmful",)
    """Sets of requests to learn to decline."""
    benign: tuple[Text, ...] = ("lab-benign",)
    """Sets of general data: what has to stay as it is."""
    exclude: tuple[Text, ...] = ()
    """Sets whose prompts are not trained on, such as those of a later evaluation."""
    limit: Count | None = None
    """At most this many requests of each set."""
    variants: Count = 1
    """Wordings per goal of the lab's harmful sets."""


class JudgeSection(Section):
    """Who judges replies."""

    name: Text = "auto"
    """`auto`: the oracle for the lab's requests, the refusal rules for all others."""
    model: str | None = None
    """The model that the `llm` judge asks."""
    endpoint: Url | None = None
    """The server of the judge's model."""

    @model_validator(mode="after")
    def _endpoint_needs_model(self) -> Self:
        if self.endpoint and self.model is None:
            raise ValueError("an endpoint needs a model: name the one that the server shall run")
        return self


class SamplingSection(Section):
    """How replies are drawn."""

    temperature: Annotated[float, Field(ge=0, le=5), _Number] = 1.0
    """0 is greedy."""
    top_p: Annotated[float, Field(gt=0, le=1), _Number] = 1.0
    """1 keeps the whole distribution."""
    max_tokens: Count = 128
    """Tokens per reply."""


class CourseCorrectionSection(Section):
    """How the tasks of course-correction begin replies and let them go on: C2-Eval (Xu et al. 2024).

    They are drawn as this section says, in place of `samples` and `sampling`.
    """

    lengths: Annotated[tuple[Count, ...], Field(min_length=1)] = (10, 20, 30, 40, 50, 60, 70, 80)
    """Words after which the begun reply is cut, each one an item; its opener counts."""
    paths: Count = 5
    """Replies per item."""
    max_tokens: Count = 32
    """Tokens per reply."""
    temperature: Annotated[float, Field(ge=0, le=5), _Number] = 0.8
    top_p: Annotated[float, Field(gt=0, le=1), _Number] = 0.7
    limit: Count | None = None
    """At most this many requests of each of these tasks."""
    wording: Literal["auto", "english", "lab"] = "auto"
    """Of openers and turns; `auto`: the lab's for the lab's requests, English for all others."""

    @field_validator("lengths")
    @classmethod
    def _ascending(cls, lengths: tuple[int, ...]) -> tuple[int, ...]:
        if list(lengths) != sorted(set(lengths)):
            raise ValueError(f"lengths are {list(lengths)}: give each once, the shortest first")
        return lengths

    @model_validator(mode="after")
    def _greedy_paths_are_equal(self) -> Self:
        if self.temperature == 0 and self.paths > 1:
            raise ValueError(
                f"paths is {self.paths}, and temperature 0 gives the same reply each time: "
                "set paths to 1, or a temperature above 0"
            )
        return self


class CampaignSection(Section):
    """What interactive attacks may do, on each request (the task `campaigns`)."""

    queries: Count = 20
    """Questions to the system under attack; the attacker gets as many."""
    tokens: Count | None = None
    """Tokens that both may write."""
    attacker: ModelSection | None = None
    """The model that helps to attack; the lab's requests have an attacker of their own."""
    found_in: Text | None = None
    """A finished run: what its attacks ended with on its base is asked again by the task `transfer`, in place of what
    they end with on this run's."""


class AuditSection(Section):
    """What is asked of every system."""

    tasks: Annotated[tuple[Text, ...], Field(min_length=1)] = (
        "harmfulness",
        "over-refusal",
        "helpfulness",
        "prefill",
    )
    """The questions, in order."""
    attacks: dict[str, Names] = Field(default={})
    """Attacks of a task, in place of its own (`toxoid ls attacks`): one, or a list. Each asks every request."""
    samples: Count = 2
    """Replies per item."""
    guided: bool = False
    """Whether every system is asked under the safe system prompt (guided inference)."""
    sampling: SamplingSection = SamplingSection()
    course_correction: CourseCorrectionSection = CourseCorrectionSection()
    campaigns: CampaignSection = CampaignSection()

    @field_validator("tasks")
    @classmethod
    def _each_once(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        return unique(tasks, "task")

    @field_validator("attacks")
    @classmethod
    def _attacks_once(cls, attacks: dict[str, Names]) -> dict[str, Names]:
        return {task: unique(names, "attack") for task, names in attacks.items()}

    @model_validator(mode="after")
    def _greedy_replies_are_equal(self) -> Self:
        if self.sampling.temperature == 0 and self.samples > 1:
            raise ValueError(
                f"samples is {self.samples}, and temperature 0 gives the same reply each time: "
                "set samples to 1, or a temperature above 0"
            )
        return self


class CapabilitySection(Section):
    """What else the model can do: how well it predicts held-out text, and results of lm-eval that are read in."""

    texts: Text | None = None
    """A file or data set: of texts, or of requests whose references are the texts. `auto`: good replies for the lab's
    requests, nothing for others."""
    limit: Count = 200
    """At most this many texts."""
    window: Annotated[int, Field(ge=16), _Number] = 1024
    """Tokens that the model sees at once; longer texts are read in windows that overlap by half."""
    lm_eval: dict[str, Names] = Field(default={})
    """By system, `base` or an arm: lm-eval's results_*.json files."""


class BudgetSection(Section):
    """What audits may cost: refused before the run if it could cost more, and stopped before it does."""

    requests: Count | None = None
    """Most replies asked of the models under audit."""
    tokens: Count | None = None
    """Most tokens that they read and write."""
    price_in: NotNegative | None = None
    """Of a million tokens read, in any currency: for the preview."""
    price_out: NotNegative | None = None
    """Of a million tokens written."""

    @model_validator(mode="after")
    def _both_prices(self) -> Self:
        if (self.price_in is None) != (self.price_out is None):
            given, missing = ("in", "out") if self.price_out is None else ("out", "in")
            raise ValueError(f"price_{given} is given alone: give price_{missing} too, 0 if it is free")
        return self


class TrainingSection(Section):
    """How an arm trains."""

    mode: Literal["lora", "qlora", "full"] = "lora"
    """An adapter, an adapter above weights in 4 bits, or all weights."""
    learning_rate: Positive = 2e-4
    epochs: Positive = 3.0
    max_steps: Count | None = None
    """Optimiser steps, in place of epochs."""
    batch_size: Count = 8
    gradient_accumulation: Count = 1
    lora_rank: Count = 16
    lora_alpha: Positive | None = None
    """By default twice the rank."""
    weight_decay: NotNegative = 0.0
    warmup_steps: Whole = 0
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    max_length: Count = 512
    """Tokens per example."""
    save_steps: Count = 50
    """Steps between two checkpoints, at which a killed training continues."""
    bf16: Literal["auto"] | bool = "auto"
    """`auto`: where the machine has it and it pays."""


class ArmSection(Section):
    """One treatment of the model."""

    name: Text
    """Unique; names the arm's folder and its rows in the results."""
    method: Text
    """What is done (`toxoid ls methods`)."""
    label: str = ""
    """For people; by default the name."""
    tasks: tuple[str, ...] | None = None
    """Audit tasks this arm is tested on; by default all."""
    train: TrainSection | None = None
    """In place of the recipe's whole `train` section."""
    training: Annotated[dict[str, Any], GivenKeysOf(TrainingSection)] = Field(default={})
    """What differs from the recipe's training section."""
    options: dict[str, JsonValue] = Field(default={})
    """The method's own options."""
    match_steps_of: str | None = None
    """Train for as many steps as this earlier arm."""
    artifact_of: str | None = None
    """Train nothing, and use what this earlier arm's treatment left."""
    shield_of: str | None = None
    """Distil the shield that this earlier arm left (method `shield-distilled`)."""
    decoding: Annotated[dict[str, Any], GivenKeysOf(DecodingSection)] = Field(default={})
    """How the treated model is decoded, as far as it differs from the treatment's own way."""
    guided: bool = False
    """Whether the treated model is audited under the safe system prompt."""

    @field_validator("name")
    @classmethod
    def _usable_name(cls, name: str) -> str:
        if name == BASE:
            raise ValueError(f'"{BASE}" is the untreated model: give the arm another name')
        return safe_name(name)

    @model_validator(mode="after")
    def _one_shield_to_distil(self) -> Self:
        if self.shield_of and self.method != "shield-distilled":
            raise ValueError(
                f"shield_of is for the method shield-distilled, and this is {self.method}: remove it"
            )
        if self.shield_of and "shield" in self.options:
            raise ValueError(
                "shield_of names an arm's shield and options.shield another one: remove one of them"
            )
        return self

    @field_validator("train")
    @classmethod
    def _whole_train(cls, train: TrainSection | None) -> TrainSection | None:
        if train is not None and not {"harmful", "benign"} <= train.model_fields_set:
            raise ValueError("replaces the recipe's whole train section: name harmful and benign in it")
        return train


class ContrastSection(Section):
    """Two systems to compare."""

    before: Text
    """An arm, or `base`."""
    after: Text
    """Another arm."""
    tasks: tuple[str, ...] | None = None
    """Tasks to compare; by default all that both were tested on."""


class StatisticsSection(Section):
    """Of intervals and tests."""

    level: Share = 0.95
    """Of confidence."""
    resamples: Annotated[int, Field(ge=100), _Number] = 2000
    """Of the bootstrap."""
    seed: Whole = 0


class ReportSection(Section):
    """What the report shows."""

    flips: Whole = 20
    """Transcripts of changed verdicts, per task."""


def unique(names: tuple[str, ...], what: str) -> tuple[str, ...]:
    """Return ``names`` if each stands once; raise ValueError otherwise."""
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f'the {what} "{name}" stands twice: remove one')
    return names
