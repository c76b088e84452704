r"""The reward model: a classifier head on a copy of the model, trained on pairs by TRL.

Bradley-Terry: :math:`L = -\log \sigma(r(x, y_w) - r(x, y_l))` (Ouyang et al. 2022, equation 1).
"""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from toxoid.data.schemas import Conversation
from toxoid.engines.templates import encode, encode_target
from toxoid.errors import UsageError
from toxoid.stats.intervals import wilson_interval
from toxoid.training.copies import frozen_copy, full_copy
from toxoid.training.examples import token_limit
from toxoid.training.rlhf.resumable import Resumable, adapter_config, arguments, quietly
from toxoid.training.rlhf.settings import Pair, RLHFConfig
from toxoid.training.settings import steps_per_epoch

if TYPE_CHECKING:
    from toxoid.engines.loading import LoadedModel
    from toxoid.progress import Progress

HELD_OUT = 0.2
"""Share of the prompts whose pairs only test the reward model."""

_TOLD = {"loss": "loss", "accuracy": "accuracy"}

Ids = list[int]


@dataclass(frozen=True, slots=True)
class TokenisedPair:
    """A pair as tokens: prompt, reply and the end of the turn, twice."""

    conversation: Conversation
    kind: str
    chosen: Ids
    rejected: Ids


@dataclass(frozen=True)
class RewardFacts:
    """What is known of a reward model.

    Args:
        pairs: Trained on.
        held_out: Pairs of other prompts, which tested it.
        accuracy: Share of these in which the better reply has the higher reward.
        ci_low: Lower end of Wilson's 95 % interval of it.
        ci_high: Upper end.
        by_kind: The accuracy by kind of pair.
        steps: Optimiser steps.
        seconds: Of training.
        dropped: Pairs left out as too long.
    """

    pairs: int
    held_out: int
    accuracy: float
    ci_low: float
    ci_high: float
    by_kind: Mapping[str, float]
    steps: int
    seconds: float
    dropped: int


class RewardModel:
    """Rewards of whole rows of tokens, in standard deviations from the mean over known replies.

    Args:
        model: A sequence classifier with one output.
        pad: The id to pad with; the classifier reads the last token that is another.
        batch_size: Rows per forward pass.
    """

    def __init__(self, model: Any, *, pad: int, batch_size: int) -> None:
        self._model = model
        self._pad = pad
        self._batch_size = batch_size
        self.mean, self.deviation = 0.0, 1.0

    def __call__(self, rows: Sequence[Ids]) -> Tensor:
        """Return the reward of each row, shape ``(rows,)``, float32 on the CPU."""
        parts = [rows[start : start + self._batch_size] for start in range(0, len(rows), self._batch_size)]
        return (torch.cat([self._raw(part) for part in parts]) - self.mean) / self.deviation

    def standardise(self, rows: Sequence[Ids]) -> None:
        """Make the rewards of these rows have mean 0 and standard deviation 1."""
        found = self(rows)
        self.mean, self.deviation = float(found.mean()), max(float(found.std()), 1e-6)

    @torch.inference_mode()
    def _raw(self, rows: Sequence[Ids]) -> Tensor:
        self._model.eval()
        device = next(self._model.parameters()).device
        padded = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], True, self._pad)
        lengths = torch.tensor([len(row) for row in rows])
        mask = (torch.arange(padded.shape[1]) < lengths[:, None]).long()
        found = self._model(padded.to(device), attention_mask=mask.to(device), use_cache=False).logits
        values: Tensor = found[:, 0].float().cpu()
        return values


def tokenise_pairs(
    pairs: Sequence[Pair], loaded: LoadedModel, config: RLHFConfig
) -> tuple[list[TokenisedPair], int]:
    """Return the pairs as tokens, and how many were left out because a reply does not fit.

    Raises:
        UsageError: None fits.
    """
    tokenizer, limit = loaded.tokenizer, token_limit(loaded.model, config.max_length)
    made = []
    for pair in pairs:
        prompt = encode(tokenizer, pair.conversation)
        chosen, rejected = (prompt + encode_target(tokenizer, text) for text in (pair.chosen, pair.rejected))
        if max(len(chosen), len(rejected)) <= limit:
            made.append(TokenisedPair(pair.conversation, pair.kind, chosen, rejected))
    if not made:
        raise UsageError(
            f"none of {len(pairs)} pairs fits into {limit} tokens: give pairs, or raise max_length (up to the "
            "model's context window)"
        )
    return made, len(pairs) - len(made)


def split(pairs: Sequence[TokenisedPair], *, seed: int) -> tuple[list[TokenisedPair], list[TokenisedPair]]:
    """Return the pairs to train on and those held out; all pairs of a prompt go to the same side.

    Raises:
        UsageError: There are fewer than two prompts.
    """
    prompts = list(dict.fromkeys(pair.conversation for pair in pairs))
    if len(prompts) < 2:
        raise UsageError(
            f"there are pairs for {len(prompts)} prompt, and some have to be held out: give more"
        )
    held = set(random.Random(seed).sample(prompts, max(1, round(HELD_OUT * len(prompts)))))
    sides = [[pair for pair in pairs if (pair.conversation in held) is side] for side in (False, True)]
    return sides[0], sides[1]


def train_reward_model(
    loaded: LoadedModel,
    pairs: Sequence[TokenisedPair],
    config: RLHFConfig,
    *,
    folder: Path,
    fingerprint: Mapping[str, Any],
    bf16: bool,
    dropped: int,
    progress: Progress,
) -> tuple[RewardModel, RewardFacts]:
    """Train a reward model and measure it on prompts that it has not seen.

    Args:
        loaded: The model whose copy gets the head; it is not changed.
        pairs: All of them; some are held out.
        config: How.
        folder: For the checkpoints.
        fingerprint: What the training depends on.
        bf16: Whether to run under bfloat16 autocast.
        dropped: Pairs that were left out before, for the facts.
        progress: Where to report.

    Raises:
        UsageError: The model's kind has no classifier, or the reward model is no better than chance.
        Diverged: The loss became infinite or NaN.
    """
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    class Trainer(Resumable, RewardTrainer):  # type: ignore[misc]
        """TRL's, resumable."""

    learnt, held = split(pairs, seed=config.seed)
    tokenizer = copy.deepcopy(loaded.tokenizer)  # TRL writes into it
    steps = config.objective.reward_epochs * steps_per_epoch(config, len(learnt))
    given = arguments(
        RewardConfig,
        replace(config, learning_rate=config.objective.reward_learning_rate),
        steps=steps,
        cpu=loaded.model.device.type == "cpu",
        bf16=bf16,
        max_length=None,
        disable_dropout=True,
    )
    with quietly():
        trainer = Trainer(
            model=classifier(loaded, config),
            args=given,
            train_dataset=Dataset.from_list(
                [{"chosen_ids": pair.chosen, "rejected_ids": pair.rejected} for pair in learnt]
            ),
            processing_class=tokenizer,
            peft_config=adapter_config(config, "SEQ_CLS"),
        )
    seconds = trainer.run(folder, fingerprint, progress, name="reward model", told=_TOLD)
    model = RewardModel(trainer.model, pad=tokenizer.pad_token_id, batch_size=2 * config.batch_size)
    model.standardise([row for pair in learnt for row in (pair.chosen, pair.rejected)])
    facts = _measured(model, held, pairs=len(learnt), steps=steps, seconds=seconds, dropped=dropped)
    progress.note(
        f"the reward model is right on {facts.accuracy:.0%} of {facts.held_out} pairs with unseen prompts "
        f"({facts.ci_low:.0%} to {facts.ci_high:.0%})"
    )
    demand_better_than_chance(facts)
    return model, facts


def classifier(loaded: LoadedModel, config: RLHFConfig) -> Any:
    """Return a classifier with one output above a copy of the model.

    With an adapter the copy is frozen, and adapter and head are trained; else all of it.

    Raises:
        UsageError: transformers has no classifier for the model's architecture.
    """
    from transformers import AutoModelForSequenceClassification

    own = copy.deepcopy(loaded.model.config)
    own.num_labels = 1
    try:
        with torch.device("meta"):  # the weights come from the copy
            made = AutoModelForSequenceClassification.from_config(own)
        outputs = made.score.in_features
    except (ValueError, AttributeError) as error:
        raise UsageError(
            f"transformers has no classifier for {type(loaded.model).__name__}, so it cannot be a reward model: "
            "take another method, such as sft or mistake-analysis"
        ) from error
    trunk = full_copy(loaded.model) if config.mode == "full" else frozen_copy(loaded.model)
    setattr(made, made.base_model_prefix, trunk.base_model)
    made.score = nn.Linear(outputs, 1, bias=False, device=loaded.model.device)
    nn.init.normal_(made.score.weight, std=(outputs + 1) ** -0.5)  # Stiennon et al. 2020, appendix B.2
    return made


def demand_better_than_chance(facts: RewardFacts) -> None:
    """Refuse a reward model whose accuracy may be a coin's.

    Raises:
        UsageError: The interval reaches down to one half.
    """
    if facts.ci_low <= 0.5:
        raise UsageError(
            f"the reward model is right on {facts.accuracy:.0%} of {facts.held_out} pairs with unseen prompts (95 % "
            f"interval {facts.ci_low:.0%} to {facts.ci_high:.0%}), which may be chance: a policy would learn "
            "noise. Give more training requests, more reward_epochs, or a higher learning_rate"
        )


def _measured(
    model: RewardModel,
    held: Sequence[TokenisedPair],
    *,
    pairs: int,
    steps: int,
    seconds: float,
    dropped: int,
) -> RewardFacts:
    better, worse = model([pair.chosen for pair in held]), model([pair.rejected for pair in held])
    right = dict(enumerate((better > worse).tolist()))
    kinds = {pair.kind for pair in held}
    by_kind = {kind: fmean(right[i] for i, pair in enumerate(held) if pair.kind == kind) for kind in kinds}
    low, high = wilson_interval(sum(right.values()), len(held))
    return RewardFacts(
        pairs=pairs,
        held_out=len(held),
        accuracy=fmean(right.values()),
        ci_low=low,
        ci_high=high,
        by_kind=dict(sorted(by_kind.items())),
        steps=steps,
        seconds=seconds,
        dropped=dropped,
    )
