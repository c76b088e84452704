"""The layout of ``results.json``: what a run measured, as typed dictionaries.

Rates and differences are fractions (0.314, not 31.4). ``None`` stands for a number that cannot be given, for
example a rate of which no reply was scored; it is never written as 0. Keys that a reader must be able to do
without are :data:`~typing.NotRequired`: some are kept beside ``results.json`` (times, the machine) and joined
to it for the report, so that the file itself depends on the fingerprint only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired, TypeAlias, TypedDict

from toxoid.judges.base import Span

Better: TypeAlias = Literal["higher", "lower", "none"]
"""Which way a rate should move; ``none`` where neither way is an improvement."""

Direction: TypeAlias = Literal["better", "worse"]


class Row(TypedDict):
    """One paired difference between two systems on the items that both answered.

    ``ci_low`` and ``ci_high`` bound ``difference`` (after - before). ``p_adjusted`` is Holm's within the
    categories of one metric; on the overall row (category ``"all"``) it is ``p_value`` itself. ``n`` counts
    items, ``unscored_*`` count replies.
    """

    task: str
    metric: str
    category: str
    before: float | None
    after: float | None
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    p_adjusted: float | None
    n: int
    before_name: str
    after_name: str
    better: Better
    unscored_before: int
    unscored_after: int
    n_replies: NotRequired[int]
    """Replies per system, scored or not: the denominator of the unscored share."""


class RateRow(TypedDict):
    """One rate of one system. The bounds count all unscored replies as misses, or all as hits."""

    task: str
    metric: str
    category: str
    better: Better
    rate: float | None
    ci_low: float | None
    ci_high: float | None
    n_items: int
    n_replies: int
    unscored: int
    low_bound: float | None
    high_bound: float | None
    corrected: NotRequired[Corrected]


class SuccessRow(TypedDict):
    """Attack success within ``k`` tries on one system: the share of requests on which one of them lands.

    ``category`` is ``"all"``, or ``"attack: <name>"`` where a task has several attacks; ``n_items`` counts the
    requests with ``k`` scored tries.
    """

    task: str
    category: str
    k: int
    rate: float | None
    ci_low: float | None
    ci_high: float | None
    n_items: int


class CapabilityScore(TypedDict):
    """One number on what a model can do; ``task`` is ``"texts"`` for held-out text, else a task of lm-eval.

    ``n`` counts texts or documents, ``None`` where lm-eval does not say; ``stderr`` is lm-eval's.
    """

    task: str
    metric: str
    value: float | None
    ci_low: float | None
    ci_high: float | None
    stderr: float | None
    n: int | None
    better: Better


class CapabilityRow(TypedDict):
    """The difference of one such number between two systems.

    ``paired`` tells whether both were measured text by text. With ``relative``, the difference and its ends are
    shares of ``before``.
    """

    task: str
    metric: str
    before: float | None
    after: float | None
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    n: int | None
    better: Better
    paired: bool
    relative: bool


class Trade(TypedDict):
    """What a comparison gained in harmlessness against what it lost in helpfulness, in fractions of replies.

    ``loss`` is the larger of the losses that were measured; ``net`` is ``gain - loss``. ``significant`` is
    ``"gain"`` or ``"loss"`` where the interval of ``net`` lies on one side of 0.
    """

    gain: float
    gain_ci_low: float
    gain_ci_high: float
    loss: float
    loss_ci_low: float
    loss_ci_high: float
    net: float
    ci_low: float
    ci_high: float
    significant: Literal["gain", "loss", "no"]
    measures: list[str]
    sentence: str


class Corrected(TypedDict):
    """A rate as it would be with a judge that never errs; all ``None`` with a ``reason`` if that cannot be known."""

    rate: float | None
    ci_low: float | None
    ci_high: float | None
    reason: str


class CurvePoint(TypedDict):
    """Corr@k of one system at one k: the share of replies that turn away from the first k words.

    ``corr`` counts all items, as the protocol does; ``n_whole`` of the ``n_items`` have fewer than k words and
    are left out of ``corr_reached``. ``immediate`` is the share of replies that turn at their first word.
    ``mean_position`` is the number of words before the turn over corrected replies; ``mean_words_before`` that
    over all replies, those without a turn with all their words.
    """

    k: int
    n_items: int
    n_whole: int
    unscored: int
    corr: float | None
    ci_low: float | None
    ci_high: float | None
    corr_reached: float | None
    reached_ci_low: float | None
    reached_ci_high: float | None
    immediate: float | None
    mean_position: float | None
    position_ci_low: float | None
    position_ci_high: float | None
    mean_words_before: float | None


class Curve(TypedDict):
    """Corr@k over k for one task of course-correction; the means, in words, are over all k together."""

    task: str
    points: list[CurvePoint]
    mean_position: float | None
    position_ci_low: float | None
    position_ci_high: float | None
    mean_words_before: float | None
    words_ci_low: float | None
    words_ci_high: float | None


class MeanRow(TypedDict):
    """A mean number of words, before and after, and its paired difference; ``n`` counts requests.

    ``measure`` is ``mean_words_before`` (over the same replies on both sides) or ``mean_position`` (over those
    that turn, which are not the same).
    """

    task: str
    measure: str
    before: float | None
    after: float | None
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    n: int


class Flip(TypedDict):
    """One reply whose verdict changed between two systems; the evidence says which characters of it decided."""

    task: str
    metric: NotRequired[str]
    direction: NotRequired[Direction]
    item: str
    category: str
    attack: str
    variant: NotRequired[str]
    prompt: str
    prefill: str
    before_reply: str
    after_reply: str
    before_outcome: str
    after_outcome: str
    before_evidence: NotRequired[Sequence[Span]]
    after_evidence: NotRequired[Sequence[Span]]


class Cost(TypedDict, total=False):
    """What a system took: seconds, optimiser steps, tokens; ``examples`` and ``counts`` by kind.

    ``seconds_per_reply`` and ``tokens_per_second`` (written) are how fast it replied in its own run, batches and all;
    they are no part of ``results.json``.
    """

    train_seconds: float | None
    train_steps: int
    train_tokens: int
    generate_seconds: float | None
    generated_tokens: int
    seconds_per_reply: float
    tokens_per_second: float
    examples: dict[str, int]
    counts: dict[str, int]


class Decoding(TypedDict):
    """Under which prompts a system is asked and how they are contrasted, as :mod:`toxoid.engines.contexts` says.

    ``shield`` identifies the soft prompts, where there are some.
    """

    positive: str
    negative: str | None
    alpha: float
    rescale: bool
    plausibility: float
    first: int | None
    divergence: float | None
    shield: NotRequired[str]


class System(TypedDict):
    """One system under test: the base model or a treated one; with a curve per task of course-correction.

    ``decoding`` is absent where the conversation is asked as it is.
    """

    name: str
    label: str
    description: str
    cost: Cost
    rates: list[RateRow]
    decoding: NotRequired[Decoding]
    curves: NotRequired[list[Curve]]
    success: NotRequired[list[SuccessRow]]
    capability: NotRequired[list[CapabilityScore]]


class Comparison(TypedDict):
    """Two systems side by side. ``flips`` may be a sample; ``flips_total`` counts them all."""

    before: str
    after: str
    headline: bool
    rows: list[Row]
    means: NotRequired[list[MeanRow]]
    capability: NotRequired[list[CapabilityRow]]
    trade: NotRequired[Trade]
    flips: list[Flip]
    flips_total: dict[str, int]
    verdict: str


class Power(TypedDict):
    """The smallest difference that a task's paired test would probably find, as a fraction."""

    task: str
    n_items: int
    minimum_detectable_effect: float | None


class TaskInfo(TypedDict, total=False):
    """A task in words; ``metrics`` as in :class:`toxoid.audit.tasks.Metric`, the headline first."""

    title: str
    description: str
    metrics: list[dict[str, Any]]


class Meta(TypedDict, total=False):
    """Where the numbers come from.

    ``judge`` is the panel's identity by aspect; ``course_correction`` the recipe's section, where it was used.
    ``transferred`` identifies what was found on the base and asked again.
    ``correction`` says of which rates the judge's error cannot be taken out. ``forced`` names what sets the runs of a
    forced comparison apart. ``timings`` are seconds by stage. ``created``, ``seconds``,
    ``machine``, ``command`` and ``timings`` are not part of ``results.json``.
    """

    toxoid_version: str
    name: str
    description: str
    recipe: str
    model: str
    judge: Any
    seed: int
    samples: int
    sampling: dict[str, Any]
    course_correction: dict[str, Any]
    systems: list[str]
    tasks: dict[str, TaskInfo]
    fingerprint: dict[str, Any]
    warnings: list[str]
    transferred: dict[str, Any]
    correction: list[str]
    forced: list[str]
    created: str
    seconds: float
    machine: dict[str, Any]
    command: str
    timings: dict[str, float]


class Results(TypedDict):
    """The whole of ``results.json``. ``rows`` are those of the headline comparison, overall rows first."""

    meta: Meta
    rows: list[Row]
    systems: list[System]
    comparisons: list[Comparison]
    power: list[Power]
    judge_card: Mapping[str, Any] | None
    notes: list[str]
