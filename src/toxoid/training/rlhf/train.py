"""RLHF from pairs of replies to a policy: the reward model, then RLOO under it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toxoid.data.schemas import Conversation, as_dicts
from toxoid.store.keys import JSON, content_key
from toxoid.training.artifacts import Card, TrainingResult, check_output, save_output
from toxoid.training.checkpoints import remove_all
from toxoid.training.determinism import seeded
from toxoid.training.fingerprint import training_fingerprint
from toxoid.training.precision import use_bf16
from toxoid.training.rlhf.policy import PolicyFacts, policy_facts, prompt_texts, train_policy
from toxoid.training.rlhf.reward import RewardFacts, TokenisedPair, tokenise_pairs, train_reward_model
from toxoid.training.rlhf.settings import Pair, RLHFConfig, demand_trl

if TYPE_CHECKING:
    from toxoid.engines.loading import LoadedModel
    from toxoid.progress import Progress


@dataclass(frozen=True)
class RLHFResult(TrainingResult):
    """What RLHF did; steps, losses and tokens are the policy's, the seconds those of both trainings.

    Args:
        reward_model: How good the reward model is.
        policy: What became of the replies.
    """

    reward_model: RewardFacts
    policy: PolicyFacts


def train_rlhf(
    loaded: LoadedModel,
    pairs: Sequence[Pair],
    prompts: Sequence[Conversation],
    config: RLHFConfig,
    *,
    output: Path,
    checkpoints: Path,
    progress: Progress,
    card: Card | None = None,
) -> RLHFResult:
    """Train a reward model on pairs, and a copy of the model to please it; save the latter.

    The caller's model is not changed. Called again after a kill with the same arguments, it continues from the last
    whole checkpoint of whichever model was being trained.

    Args:
        loaded: The model to start from; also that of the reward model, and the one to stay near to.
        pairs: Replies of which one is better; a fifth of their prompts is held out, to test the reward model.
        prompts: What the policy is asked, closed turns that end with the user's.
        config: How.
        output: Folder of the result: a PEFT adapter, or a model with tokenizer and template; and a model card.
        checkpoints: Folder for the checkpoints of both trainings, removed after success.
        progress: Where to report; signs of a collapse are said here, and stand in the result.
        card: What the model card should say beyond what is known here.

    Raises:
        UsageError: TRL is not installed, nothing fits, the reward model is no better than chance, ``output`` holds
            something else, the checkpoints belong to another training, or the disk refuses.
        Diverged: A loss became infinite or NaN; the last checkpoint is kept.
    """
    demand_trl()
    check_output(output)
    learnt, long_pairs = tokenise_pairs(pairs, loaded, config)
    texts, long_prompts = prompt_texts(prompts, loaded, config)
    if long_pairs or long_prompts:
        progress.note(f"{long_pairs} pairs and {long_prompts} prompts were left out as too long")
    parameters = sum(weight.numel() for weight in loaded.model.parameters())
    bf16 = use_bf16(config.bf16, device=loaded.model.device.type, parameters=parameters)
    replies = len(texts) * config.objective.generations
    data = _data_hash(learnt, texts)
    fingerprint = training_fingerprint("rlhf", loaded, config, data=data, rows=replies, bf16=bf16)
    shared: dict[str, Any] = {"fingerprint": fingerprint, "bf16": bf16, "progress": progress}
    folders = [checkpoints / "reward", checkpoints / "policy"]
    with seeded(config.seed, config.threads):
        rewards, reward_facts = train_reward_model(
            loaded, learnt, config, folder=folders[0], dropped=long_pairs, **shared
        )
    with seeded(config.seed, config.threads):
        trainer, seconds = train_policy(loaded, texts, rewards, config, folder=folders[1], **shared)
    facts = policy_facts(trainer, long_prompts)
    for sign in facts.signs_of_collapse:
        progress.note(f"the policy may have collapsed: {sign}")
    result = RLHFResult(
        path=output,
        kind="adapter" if config.trains_adapter else "model",
        steps=trainer.state.global_step,
        seconds=reward_facts.seconds + seconds,
        tokens=int(trainer.state.num_input_tokens_seen),
        losses=tuple(trainer.series("loss")),
        examples=len(learnt) + len(texts),
        cut=0,
        dropped=long_pairs + long_prompts,
        reward_model=reward_facts,
        policy=facts,
    )
    _publish(trainer.model, loaded, result, fingerprint=fingerprint, card=card or Card(method="rlhf"))
    for folder in (*folders, checkpoints):
        remove_all(folder)
    return result


def _publish(
    model: Any, loaded: LoadedModel, result: RLHFResult, *, fingerprint: dict[str, Any], card: Card
) -> None:
    if result.kind == "model":  # TRL wrote the padding and the ends of turns into it
        model.config = copy.deepcopy(loaded.model.config)
        model.generation_config = copy.deepcopy(loaded.model.generation_config)
    save_output(model, loaded, result, fingerprint=fingerprint, card=card)


def _data_hash(pairs: Sequence[TokenisedPair], prompts: Sequence[str]) -> str:
    rows: list[JSON] = [
        [as_dicts(pair.conversation), pair.kind, pair.chosen, pair.rejected] for pair in pairs
    ]
    return content_key(rows, list(prompts))
