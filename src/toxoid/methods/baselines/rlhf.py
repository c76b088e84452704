"""RLHF: a reward model from pairs of replies, and a policy that it rewards (RLOO).

Sources: Ouyang et al. 2022 (arXiv 2203.02155) for the reward model, Ahmadian et al. 2024 (arXiv 2402.14740) for the
policy. A reward model that knows refusals of harmful requests only would reward every refusal; it therefore learns
as well that a harmless request wants its own answer and no refusal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from pydantic import Field

from toxoid.config.loading import validate
from toxoid.data.schemas import Conversation, Request, user
from toxoid.errors import UsageError
from toxoid.methods.base import MethodInput, RewardData, TrainingSet, WeightsMethod
from toxoid.methods.good_replies import GoodReply, Source, good_replies
from toxoid.methods.mistake_analysis.induction import Mistake, find_mistakes, training_requests
from toxoid.methods.mistake_analysis.options import MistakeOptions
from toxoid.training.rlhf.settings import Pair, RLHFObjective, demand_trl


class RLHFOptions(MistakeOptions):
    """Options of an arm with ``method: rlhf``."""

    good_replies: Source = "auto"
    """Where good replies come from."""
    prompts: int = Field(200, ge=2)
    """Requests that the policy answers, half of them harmful if there are enough."""
    reward_epochs: int = Field(2, ge=1)
    """Passes of the reward model over its pairs."""
    reward_learning_rate: float = Field(3e-4, gt=0)
    """Of the reward model; the policy's is that of the arm's training."""
    generations: int = Field(4, ge=2)
    """Replies per prompt and step, compared with each other."""
    kl: float = Field(0.05, ge=0)
    """Weight of the distance to the untreated model, against a reward with standard deviation 1."""


class RLHF(WeightsMethod):
    """Learn from one's own replies what a model of preferences prefers."""

    name = "rlhf"

    def synthesise(self, given: MethodInput) -> TrainingSet:
        """Make pairs of replies and choose prompts."""
        demand_trl()  # before the model is asked for anything
        options = validate(RLHFOptions, dict(given.options), source="options of rlhf")
        requests = training_requests(given, options)
        good, counts = good_replies(replace(given, harmful=requests), options.good_replies)
        bad, found = find_mistakes(given, options)
        learnt = mistake_pairs(good, bad)
        if not learnt:
            raise UsageError(
                f"no request has both a good and a bad reply ({len(good)} good, {len(bad)} bad, {len(requests)} "
                "requests): the reward model would have nothing to tell apart. Give requests with references, "
                "harder ones, or mistakes from elsewhere (options: {hint: all} or another source)."
            )
        pairs = (*learnt, *benign_pairs(given.benign, good, seed=given.seed))
        objective = RLHFObjective(
            reward_epochs=options.reward_epochs,
            reward_learning_rate=options.reward_learning_rate,
            generations=options.generations,
            kl=options.kl,
            max_tokens=given.sampling.max_tokens,
        )
        prompts = choose_prompts(requests, given.benign, options.prompts, seed=given.seed)
        return TrainingSet((), counts + found, reward=RewardData(pairs, prompts, objective))


def mistake_pairs(good: Sequence[GoodReply], bad: Sequence[Mistake]) -> list[Pair]:
    """Return the good reply over the bad one for every request that has both."""
    better = {reply.request.id: reply.text for reply in good}
    return [
        Pair(user(mistake.request.prompt), better[mistake.request.id], mistake.reply, "mistake")
        for mistake in bad
        if mistake.request.id in better
    ]


def benign_pairs(requests: Sequence[Request], good: Sequence[GoodReply], *, seed: int) -> list[Pair]:
    """Return two pairs per request with a reference: over a refusal, and over another request's reference."""
    answered = [(request.prompt, request.reference) for request in requests if request.reference]
    refusals = [reply.text for reply in good if reply.request.kind == "harmful"]
    rng = Random(seed)
    made = []
    for prompt, reference in answered:
        if refusals:
            made.append(Pair(user(prompt), reference, rng.choice(refusals), "refusal"))
        if wrong := [other for _, other in answered if other != reference]:
            made.append(Pair(user(prompt), reference, rng.choice(wrong), "other answer"))
    return made


def choose_prompts(
    harmful: Sequence[Request], benign: Sequence[Request], count: int, *, seed: int
) -> tuple[Conversation, ...]:
    """Return ``count`` requests as conversations, or all if there are fewer; half of them harmful if possible."""
    rng = Random(seed)
    half = max(count // 2, count - len(benign))
    chosen = rng.sample(harmful, min(half, len(harmful)))
    chosen += rng.sample(benign, min(count - len(chosen), len(benign)))
    return tuple(user(request.prompt) for request in chosen)
