"""The policy: REINFORCE with a leave-one-out baseline (RLOO), through TRL.

Source: Ahmadian et al. 2024 (arXiv 2402.14740), equation 7: the reward of a reply is compared with the mean of the
other replies' to the same prompt; KL to the untreated model is part of the reward (equation 2).
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from toxoid.data.schemas import Conversation
from toxoid.engines.templates import encode_text, end_of_turn_ids, open_text
from toxoid.errors import UsageError
from toxoid.training.copies import frozen_copy, full_copy
from toxoid.training.examples import token_limit
from toxoid.training.rlhf.resumable import Resumable, adapter_config, arguments, quietly
from toxoid.training.rlhf.settings import RLHFConfig
from toxoid.training.settings import steps_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from toxoid.engines.loading import LoadedModel
    from toxoid.progress import Progress
    from toxoid.training.rlhf.reward import RewardModel

UNFINISHED = 1.0
"""What a reply loses that does not end, in standard deviations of the reward."""

_TOLD = {
    "reward": "reward",
    "kl": "kl",
    "completions/mean_length": "tokens per reply",
    "distinct": "distinct",
}


@dataclass(frozen=True)
class Trend:
    """A number at the beginning of a training and at its end: means over the first and last quarter of steps."""

    first: float
    last: float


@dataclass(frozen=True)
class PolicyFacts:
    """What became of a policy's replies.

    Args:
        reward: Mean reward without KL, in standard deviations of the reward model's.
        kl: KL to the untreated model per token, in nats.
        distinct: Share of different replies among those of a step.
        length: Tokens per reply.
        unfinished: Share of replies that do not end within their tokens.
        signs_of_collapse: What of this looks like a collapse, one line each.
        dropped: Prompts left out as too long.
    """

    reward: Trend
    kl: Trend
    distinct: Trend
    length: Trend
    unfinished: Trend
    signs_of_collapse: tuple[str, ...]
    dropped: int


def prompt_texts(
    prompts: Sequence[Conversation], loaded: LoadedModel, config: RLHFConfig
) -> tuple[list[str], int]:
    """Return the rendered prompts, and how many were left out because no reply fits behind them.

    Raises:
        UsageError: None is left.
    """
    limit = token_limit(loaded.model, config.max_length) - config.objective.max_tokens
    texts = [open_text(loaded.tokenizer, conversation) for conversation in prompts]
    kept = [text for text in texts if len(encode_text(loaded.tokenizer, text)) <= limit]
    if not kept:
        raise UsageError(
            f"none of {len(prompts)} prompts fits into {limit} tokens, which replies of "
            f"{config.objective.max_tokens} leave: give prompts, or raise max_length (up to the model's context window)"
        )
    return kept, len(texts) - len(kept)


def train_policy(
    loaded: LoadedModel,
    prompts: Sequence[str],
    rewards: RewardModel,
    config: RLHFConfig,
    *,
    folder: Path,
    fingerprint: Mapping[str, Any],
    bf16: bool,
    progress: Progress,
) -> Any:
    """Return TRL's trainer after the training, and its seconds.

    Args:
        loaded: The model whose copy is trained; it is not changed.
        prompts: Rendered texts with an open assistant turn.
        rewards: Of prompt and reply, in tokens.
        config: How.
        folder: For the checkpoints.
        fingerprint: What the training depends on.
        bf16: Whether to run under bfloat16 autocast.
        progress: Where to report.

    Raises:
        UsageError: The checkpoint belongs to another training, or the disk refuses.
        Diverged: The loss became infinite or NaN.
    """
    from datasets import Dataset
    from trl import RLOOConfig, RLOOTrainer

    class Trainer(Resumable, RLOOTrainer):  # type: ignore[misc]
        """TRL's, resumable, with our tokens."""

        def _tokenize_prompts(self, prompts: list[str]) -> Any:
            return [encode_text(self.processing_class, text) for text in prompts], None, {}

    tokenizer = copy.deepcopy(loaded.tokenizer)  # TRL writes into it
    steps = steps_for(config, len(prompts) * config.objective.generations)
    given = arguments(
        RLOOConfig,
        config,
        steps=steps,
        cpu=loaded.model.device.type == "cpu",
        bf16=bf16,
        beta=config.objective.kl,
        num_generations=config.objective.generations,
        max_completion_length=config.objective.max_tokens,
        disable_dropout=True,
        shuffle_dataset=False,
    )
    order = prompt_order(len(prompts), steps * config.prompts_per_step, seed=config.seed)
    with quietly(), _start(loaded, config) as model:
        trainer = Trainer(
            model=model,
            reward_funcs=reward_function(rewards, loaded),
            args=given,
            train_dataset=Dataset.from_list([{"prompt": prompts[index]} for index in order]),
            processing_class=tokenizer,
            peft_config=adapter_config(config, "CAUSAL_LM"),
        )
    seconds = trainer.run(folder, fingerprint, progress, name="policy", told=_TOLD)
    return trainer, seconds


def prompt_order(count: int, length: int, *, seed: int) -> list[int]:
    """Return which of ``count`` prompts comes when in a training that takes ``length``: pass after pass, shuffled.

    The whole training is one epoch to TRL, whose own order would begin anew when a later one is resumed.
    """
    rng = random.Random(seed)
    passes = math.ceil(length / count)
    return [index for _ in range(passes) for index in rng.sample(range(count), count)][:length]


def reward_function(rewards: RewardModel, loaded: LoadedModel) -> Any:
    """Return what TRL asks for the rewards of replies; it logs the share of distinct ones beside."""
    ends = end_of_turn_ids(loaded.tokenizer, loaded.model)

    def reward(prompts: list[str], completion_ids: list[list[int]], log_metric: Any, **_: Any) -> list[float]:
        log_metric("distinct", len({tuple(ids) for ids in completion_ids}) / len(completion_ids))
        rows = [
            encode_text(loaded.tokenizer, text) + ids
            for text, ids in zip(prompts, completion_ids, strict=True)
        ]
        missing = [UNFINISHED * (ids[-1] not in ends) for ids in completion_ids]
        return [found - lost for found, lost in zip(rewards(rows).tolist(), missing, strict=True)]

    return reward


def policy_facts(trainer: Resumable, dropped: int) -> PolicyFacts:
    """Return how the policy's replies changed, and what in that looks like a collapse."""
    trends = {
        name: _trend(trainer.series(key))
        for name, key in {
            "reward": "reward",
            "kl": "kl",
            "distinct": "distinct",
            "length": "completions/mean_length",
            "unfinished": "completions/clipped_ratio",
        }.items()
    }
    return PolicyFacts(**trends, signs_of_collapse=signs_of_collapse(**trends), dropped=dropped)


def signs_of_collapse(
    *, reward: Trend, kl: Trend, distinct: Trend, length: Trend, unfinished: Trend
) -> tuple[str, ...]:
    """Return in words what looks as if the policy had found replies that only its reward model likes."""
    ratio = length.last / length.first
    signs = {
        f"replies repeat: {distinct.last:.0%} are distinct, {distinct.first:.0%} at first": distinct.last
        < 0.5 * distinct.first,
        f"replies changed length: {length.last:.0f} tokens, {length.first:.0f} at first": not 0.5
        <= ratio
        <= 2,
        f"replies do not end: {unfinished.last:.0%}, {unfinished.first:.0%} at first": unfinished.last
        > unfinished.first + 0.25,
        f"far from the untreated model: KL {kl.last:.2f} nats per token": kl.last > 0.5,
        f"the reward fell: {reward.last:.2f}, {reward.first:.2f} at first": reward.last < reward.first - 0.1,
    }
    return tuple(text for text, holds in signs.items() if holds)


def _trend(values: Sequence[float]) -> Trend:
    part = max(1, len(values) // 4)
    return Trend(fmean(values[:part]), fmean(values[-part:])) if values else Trend(0.0, 0.0)


@contextmanager
def _start(loaded: LoadedModel, config: RLHFConfig) -> Iterator[Any]:
    """Give the model to train; TRL loads the untreated one beside it from a folder, if there is no adapter."""
    full = config.mode == "full"
    model = full_copy(loaded.model) if full else frozen_copy(loaded.model)
    model.generation_config.eos_token_id = sorted(end_of_turn_ids(loaded.tokenizer, loaded.model))
    with TemporaryDirectory() as folder:
        if full:
            model.save_pretrained(folder)
            model.config.name_or_path = folder
        yield model
