"""Chain of Hindsight: learn bad and good replies in one sequence, each after the feedback on it; ask for a good one.

For a request x with replies y_1, y_2 (a bad one and a good one, in both orders) and the feedback f_i on each

    L = -log p(y_1 | x, f_1) - log p(y_2 | x, f_1, y_1, f_2),

with no loss on the feedback; at inference the reply begins with the feedback of a good one. Source: Liu, Sferrazza,
Abbeel 2023 (arXiv 2302.02676), section 2. General data stands for the paper's pre-training objective. A reply ends its
turn wherever it stands, a good reply without a bad one beside it stands alone after its feedback, and the paper's
masking of past tokens against copying is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from toxoid.config.loading import validate
from toxoid.config.prompt_files import prompt
from toxoid.data.schemas import user
from toxoid.engines.base import Engine
from toxoid.engines.prefilled import PrefilledEngine
from toxoid.errors import UsageError
from toxoid.methods.base import MethodInput, System, TrainingSet, WeightsMethod
from toxoid.methods.baselines.sft import general_examples
from toxoid.methods.good_replies import GoodReply, Source, good_replies
from toxoid.methods.mistake_analysis.induction import Mistake, find_mistakes, training_requests
from toxoid.methods.mistake_analysis.options import MistakeOptions
from toxoid.training.examples import Example


class HindsightOptions(MistakeOptions):
    """Options of an arm with ``method: chain-of-hindsight`` or ``hindsight-relabeling``."""

    good_replies: Source = "auto"
    """Where the replies to imitate come from."""
    wording: Literal["english", "lab"] = "english"
    """The language of the feedback or instruction; the lab's models know their own words only."""


class ChainOfHindsight(WeightsMethod):
    """Learn replies of both kinds under their feedback."""

    name = "chain-of-hindsight"

    def synthesise(self, given: MethodInput) -> TrainingSet:
        """Make the sequences, and the general data.

        Raises:
            UsageError: An option is wrong, or no request has both a mistake and a good reply.
        """
        options = _options(given.options)
        mistakes, good, counts = told_apart(given, options)
        bad = {mistake.request.id: mistake.reply for mistake in mistakes}
        pairs = [reply for reply in good if reply.request.id in bad]
        if not pairs:
            raise UsageError(
                f"none of {len(mistakes)} mistakes has a good reply beside it to chain. Give requests with "
                "references, or a model that declines at least sometimes under the safe system prompt."
            )
        words = prompt("chain_of_hindsight")[options.wording]
        examples = [e for reply in good for e in chained(reply, bad.get(reply.request.id), words)]
        told = counts + Counter(chained=len(pairs))
        return TrainingSet((*examples, *general_examples(given.benign)), told)

    def engine(self, system: System) -> Engine:
        """Ask the trained model for a reply that the good feedback is about."""
        words = prompt("chain_of_hindsight")[_options(system.options).wording]
        return PrefilledEngine(super().engine(system), words["good"], name=self.name)


def told_apart(
    given: MethodInput, options: HindsightOptions
) -> tuple[list[Mistake], list[GoodReply], Counter[str]]:
    """Return bad replies and good ones, to the requests as they were sent, and the counts on the way there.

    Raises:
        UsageError: There is no mistake, or the replies cannot be looked for.
    """
    mistakes, found = mistakes_of(given, options)
    sent = {mistake.request.id: mistake.request for mistake in mistakes}
    requests = [sent.get(request.id, request) for request in training_requests(given, options)]
    good, counts = good_replies(replace(given, harmful=requests), options.good_replies)
    return mistakes, good, counts + found


def mistakes_of(given: MethodInput, options: MistakeOptions) -> tuple[list[Mistake], Counter[str]]:
    """Return the mistakes that mistake analysis would find with these options.

    Raises:
        UsageError: There are none, or they cannot be looked for.
    """
    mistakes, counts = find_mistakes(given, options)
    if not mistakes:
        asked = len(training_requests(given, options))
        raise UsageError(
            f"no mistake was found in {asked} requests (mistakes: {options.mistakes}): there is nothing to learn "
            "from. Take harder requests, or mistakes from elsewhere (options: {hint: all} or another source)."
        )
    return mistakes, counts


def chained(good: GoodReply, bad: str | None, words: Mapping[str, str]) -> Iterator[Example]:
    """Yield a good reply and a bad one in both orders, an example per reply; or the good one alone."""
    asked = user(good.request.prompt)
    fine = words["good"], good.text.strip()
    if bad is None:
        yield Example(asked, f" {fine[1]}", fine[0], source="unchained")
        return
    rated = (words["bad"], bad.strip()), fine
    for (feedback, reply), (then, other) in (rated, rated[::-1]):
        yield Example(asked, f" {reply}", feedback, source="chain-first")
        yield Example(asked, f" {other}", f"{feedback} {reply} {then}", source="chain-second")


def _options(given: Mapping[str, Any]) -> HindsightOptions:
    return validate(HindsightOptions, dict(given), source="options of chain-of-hindsight")
