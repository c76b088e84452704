"""The whole path: induce mistakes, analyse them under guidance, train without it beside good replies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

from toxoid.config.loading import validate
from toxoid.data.schemas import Request
from toxoid.errors import UsageError
from toxoid.methods.base import MethodInput, TrainingSet, WeightsMethod
from toxoid.methods.baselines.sft import general_examples, good_examples
from toxoid.methods.good_replies import GoodReply, good_replies
from toxoid.methods.mistake_analysis.analysis import Analysis, Subject, analyse, example
from toxoid.methods.mistake_analysis.induction import Mistake, find_mistakes
from toxoid.methods.mistake_analysis.options import MistakeAnalysisOptions


class MistakeAnalysis(WeightsMethod):
    """L = -sum over D_good of log p(y_good | x) - sum over D_mistake of log p(analysis | x, y_bad).

    Source: Chen et al. 2023, section 4.2. D_mistake's prompt is neutral: what is wrong with the reply must be found
    by the model itself. Beyond the paper, as many analyses of fine replies stand beside those of harmful ones.
    """

    name = "mistake-analysis"

    def synthesise(self, given: MethodInput) -> TrainingSet:
        """Make D_good, D_mistake and the general data."""
        options = validate(MistakeAnalysisOptions, dict(given.options), source="options of mistake-analysis")
        good, counts = good_replies(given, options.good_replies)
        mistakes, found = find_mistakes(given, options)
        if not mistakes:
            raise UsageError(
                f"no mistake was found in {len(given.harmful)} requests: the model is already safe on this set. "
                "There is nothing to analyse; try harder requests or another hint (options: {hint: system})."
            )
        analyses, analysed = self._analyses(given, options, mistakes, good)
        if not analyses:
            raise UsageError(
                f"none of the analyses of {len(mistakes)} mistakes gave the expected verdict. Take another analyser "
                "(options: {analyser: reference}), or look at the analyses in the run's records."
            )
        examples = [
            *good_examples(good),
            *(example(analysis, guided=options.guided_training) for analysis in analyses),
            *general_examples(given.benign),
        ]
        return TrainingSet(tuple(examples), counts + found + analysed)

    def _analyses(
        self,
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
