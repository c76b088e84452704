"""The whole path: find mistakes, analyse them under guidance, train without it beside good replies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from toxoid.config.loading import validate
from toxoid.data.request_set import hash_fraction
from toxoid.data.schemas import Request, user
from toxoid.errors import UsageError
from toxoid.methods.base import MethodInput, TrainingSet, WeightsMethod
from toxoid.methods.baselines.sft import general_examples, good_examples
from toxoid.methods.good_replies import GoodReply, good_replies
from toxoid.methods.mistake_analysis.analysis import Analysis, Subject, analyse, example
from toxoid.methods.mistake_analysis.induction import Mistake, find_mistakes, training_requests
from toxoid.methods.mistake_analysis.options import MistakeAnalysisOptions
from toxoid.training.examples import Example


class MistakeAnalysis(WeightsMethod):
    """L = -sum over D_good of log p(y_good | x) - sum over D_mistake of log p(analysis | x, y_bad).

    Source: Chen et al. 2023, section 4.2. D_mistake's prompt is neutral: what is wrong with the reply must be found
    by the model itself. Beyond the paper, as many analyses of fine replies stand beside those of harmful ones.
    """

    name = "mistake-analysis"

    def synthesise(self, given: MethodInput) -> TrainingSet:
        """Make D_good, D_mistake and the general data."""
        options = validate(MistakeAnalysisOptions, dict(given.options), source="options of mistake-analysis")
        requests = training_requests(given, options)
        mistakes, counts = _mistakes(given, options, asked=len(requests))
        good: list[GoodReply] = []
        if options.good_replies != "none":
            good, found = good_replies(replace(given, harmful=requests), options.good_replies)
            counts = found + counts
        lessons, analysed = _lessons(given, options, mistakes, good)
        if not good and not lessons:
            raise UsageError(
                f"nothing is left to learn: no mistake, and no good reply to {len(requests)} requests. Give requests "
                "with references, or learn from mistakes (options: {learn: analyses})."
            )
        parts = (good_examples(good), lessons, general_examples(given.benign))
        examples = mixed(parts, (options.good_share, options.mistake_share, None), seed=given.seed)
        return TrainingSet(tuple(examples), counts + analysed)


def _mistakes(
    given: MethodInput, options: MistakeAnalysisOptions, *, asked: int
) -> tuple[list[Mistake], Counter[str]]:
    """Return the mistakes to learn from."""
    if not options.learns_mistakes:
        return [], Counter()
    mistakes, counts = find_mistakes(given, options)
    if not mistakes:
        raise UsageError(_none_found(options, asked))
    ranked = sorted(mistakes, key=lambda found: hash_fraction("mistakes", given.seed, found.request.id))
    chosen = {mistake.request.id for mistake in ranked[: options.max_mistakes]}
    return [mistake for mistake in mistakes if mistake.request.id in chosen], counts


def _none_found(options: MistakeAnalysisOptions, asked: int) -> str:
    if options.mistakes == "dataset":
        return f"none of {asked} requests has a target, a bad reply of the data's own: let the model make mistakes."
    if options.mistakes == "audit":
        return f"{options.run} holds no bad reply of {options.system} to any of {asked} training requests."
    return (
        f"no mistake was found in {asked} requests: the model is already safe on this set. "
        "There is nothing to analyse; try harder requests or more hints (options: {hint: all})."
    )


def _lessons(
    given: MethodInput,
    options: MistakeAnalysisOptions,
    mistakes: Sequence[Mistake],
    good: Sequence[GoodReply],
) -> tuple[list[Example], Counter[str]]:
    """Return what is learnt from the mistakes: D_mistake, or in its place the control's examples."""
    if not mistakes:
        return [], Counter()
    if options.learn == "replies":
        return [Example(user(m.request.prompt), m.reply, source="mistake") for m in mistakes], Counter()
    analyses, counts = _analyses(given, options, mistakes, good)
    if not analyses:
        raise UsageError(
            f"none of the analyses of {len(mistakes)} mistakes gave the expected verdict. Take another analyser "
            "(options: {analyser: reference}), or look at the analyses in the run's records."
        )
    return [example(analysis, guided=options.guided_training) for analysis in analyses], counts


def _analyses(
    given: MethodInput,
    options: MistakeAnalysisOptions,
    mistakes: Sequence[Mistake],
    good: Sequence[GoodReply],
) -> tuple[list[Analysis], Counter[str]]:
    harmful = [Subject(mistake.request, mistake.reply, "harmful") for mistake in mistakes]
    analyses, counts = analyse(given, harmful, options)
    if not options.balance:
        return analyses, counts
    fine = fine_subjects(good, given.benign, len(analyses), seed=given.seed)
    more, fine_counts = analyse(given, fine, options)
    return [*analyses, *more], counts + fine_counts


def fine_subjects(
    good: Sequence[GoodReply], benign: Sequence[Request], count: int, *, seed: int
) -> list[Subject]:
    """Return ``count`` fine replies to analyse, half of them good replies to harmful requests if there are enough."""
    rng = Random(seed)
    declined = [Subject(reply.request, reply.text, "harmless") for reply in good]
    helped = [Subject(request, request.reference, "harmless") for request in benign if request.reference]
    half = max(count // 2, count - len(helped))
    chosen = rng.sample(declined, min(half, len(declined)))
    return chosen + rng.sample(helped, min(count - len(chosen), len(helped)))


def mixed(parts: Sequence[Sequence[Example]], shares: Sequence[float | None], *, seed: int) -> list[Example]:
    """Return as many examples as possible in which the parts have their shares of the whole, chosen by hash.

    Parts without a share divide what the others leave as their sizes are; without any share all is kept.

    Raises:
        UsageError: There is nothing of a part that is to have a share, or nothing beside such parts.
    """
    if not any(shares):
        return [example for part in parts for example in part]
    free = sum(len(part) for part, share in zip(parts, shares, strict=True) if share is None)
    left = 1 - sum(share or 0 for share in shares)
    wanted = [
        left * len(part) / (free or 1) if share is None else share
        for part, share in zip(parts, shares, strict=True)
    ]
    total = min(len(part) / share for part, share in zip(parts, wanted, strict=True) if share)
    sizes = [round(total * share) for share in wanted]
    if not free or not all(size or share is None for size, share in zip(sizes, shares, strict=True)):
        raise UsageError(
            f"mistake_share and good_share cannot be had of {', '.join(map(str, map(len, parts)))} examples (good "
            "replies, from mistakes, general): give more of what there is too little of, or leave the shares out"
        )
    return [
        example
        for part, size in zip(parts, sizes, strict=True)
        for example in _by_hash(part, size, seed=seed)
    ]


def _by_hash(examples: Sequence[Example], count: int, *, seed: int) -> list[Example]:
    """Return ``count`` examples in their order; a smaller choice is part of a larger one."""
    ranks = [hash_fraction("mix", seed, x.conversation[-1].content, x.target) for x in examples]
    chosen = sorted(range(len(examples)), key=ranks.__getitem__)[:count]
    return [examples[index] for index in sorted(chosen)]
