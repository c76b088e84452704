"""The adversary: writes prompts that should be found problematic, and learns from those that the judge overlooked.

The few-shot pool is that of the prototype of O'Neill et al. 2023 (arXiv 2308.13768); as in their paper, and unlike the
prototype, the adversary can be fine-tuned on its successes. What it is shown is the same in training and in use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from toxoid.config.prompt_files import prompt
from toxoid.data.schemas import Conversation, user
from toxoid.engines.base import Engine, GenerationRequest, Sampling
from toxoid.methods.adversarial_tuning.options import AdversaryOptions
from toxoid.store.keys import content_key
from toxoid.training.examples import Example

if TYPE_CHECKING:
    from toxoid.engines.loading import LoadedModel
    from toxoid.progress import Progress
    from toxoid.training.sft import SFTConfig

WHOLE_TURN: Conversation = user("")
"""Asks an engine of users' turns for one from its beginning."""


class Adversary(Protocol):
    """Something that writes candidates."""

    name: str

    def identity(self) -> dict[str, Any]:
        """Return the identity of the model that writes (JSON values)."""

    def propose(self, count: int, successes: Sequence[str], *, seed: int) -> list[str]:
        """Return ``count`` proposals, or fewer if there are no more.

        Args:
            count: How many.
            successes: Problematic prompts that a judge of an earlier round overlooked.
            seed: The same seed and successes give the same proposals; another seed gives others.
        """

    def examples(self, successes: Sequence[str], *, seed: int) -> list[Example]:
        """Return what it learns from to write more like ``successes``; nothing if it cannot learn."""


class UserTurnAdversary:
    """A causal LM that writes the user's turn itself, as it has seen users do.

    Args:
        loaded: The model.
        sampling: How proposals are drawn.
    """

    name = "user-turn"

    def __init__(self, loaded: LoadedModel, sampling: Sampling) -> None:
        from toxoid.engines.user_turns import UserTurnEngine

        self._loaded, self._sampling = loaded, sampling
        self._engine = UserTurnEngine(loaded)

    def identity(self) -> dict[str, Any]:
        """Return the model's."""
        return self._loaded.identity

    def propose(self, count: int, successes: Sequence[str], *, seed: int) -> list[str]:
        """See :class:`Adversary`; what it knows of successes it has learnt."""
        request = GenerationRequest(WHOLE_TURN, sampling=self._sampling, n=count, seed=seed)
        (done,) = self._engine.generate([request])
        return [completion.text for completion in done if completion.finish_reason == "stop"]

    def examples(self, successes: Sequence[str], *, seed: int) -> list[Example]:
        """Return one user's turn per success."""
        return [Example(WHOLE_TURN, text, source="success", turn="user") for text in successes]


class ChatAdversary:
    """A chat model or endpoint that is asked for a prompt and shown a few past successes.

    Args:
        engine: Whom to ask.
        sampling: How proposals are drawn.
        few_shot: Successes that it is shown at most, drawn anew for each proposal.
    """

    name = "chat"

    def __init__(self, engine: Engine, sampling: Sampling, *, few_shot: int) -> None:
        self._engine, self._sampling, self._few_shot = engine, sampling, few_shot

    def identity(self) -> dict[str, Any]:
        """Return the engine's."""
        return self._engine.identity()

    def propose(self, count: int, successes: Sequence[str], *, seed: int) -> list[str]:
        """See :class:`Adversary`."""
        rng = Random(seed)
        requests = [
            GenerationRequest(self._asked(successes, rng), sampling=self._sampling, seed=rng.getrandbits(48))
            for _ in range(count)
        ]
        answers = self._engine.generate(requests)
        return [done.text for (done,) in answers if done.finish_reason == "stop"]

    def examples(self, successes: Sequence[str], *, seed: int) -> list[Example]:
        """Return, per success, the question with others of them for examples."""
        rng = Random(seed)
        return [
            Example(self._asked([other for other in successes if other != text], rng), text, source="success")
            for text in successes
        ]

    def _asked(self, successes: Sequence[str], rng: Random) -> Conversation:
        form = prompt("adversary")
        shown = rng.sample(list(successes), min(self._few_shot, len(successes)))
        examples = "\n".join(form["user"]["example"].format(request=text) for text in shown)
        first = form["user"]["more"].format(examples=examples) if shown else form["user"]["first"]
        return user(f"{first}\n\n{form['user']['end']}", form["system"].strip())


class RandomData:
    """The control: no adversary, but prompts of an ordinary pool, drawn at random.

    Args:
        pool: Texts, in an order that does not matter; what is asked more often may stand there more often.
    """

    name = "random-data"

    def __init__(self, pool: Sequence[str]) -> None:
        self._pool = sorted(pool)

    def identity(self) -> dict[str, Any]:
        """Return the hash of the pool."""
        return {"adversary": self.name, "pool": content_key(self._pool)}

    def propose(self, count: int, successes: Sequence[str], *, seed: int) -> list[str]:
        """See :class:`Adversary`."""
        return Random(seed).sample(self._pool, min(count, len(self._pool)))

    def examples(self, successes: Sequence[str], *, seed: int) -> list[Example]:
        """Return nothing: there is nothing that could learn."""
        return []


def local_adversary(loaded: LoadedModel, options: AdversaryOptions) -> UserTurnAdversary | ChatAdversary:
    """Return the adversary that a local model is."""
    from toxoid.engines.local import LocalEngine

    if options.mode == "user-turn":
        return UserTurnAdversary(loaded, sampling_of(options))
    return ChatAdversary(LocalEngine(loaded), sampling_of(options), few_shot=options.few_shot)


def sampling_of(options: AdversaryOptions) -> Sampling:
    """Return how proposals are drawn."""
    return Sampling(temperature=options.temperature, max_tokens=options.max_tokens)


def with_adapters(load: Callable[[], LoadedModel], adapters: Sequence[Path]) -> LoadedModel:
    """Return a model after its rounds: each adapter was trained upon the base and those before it."""
    from toxoid.engines.loading import adapted

    loaded = load()
    for adapter in adapters:
        loaded = adapted(loaded, adapter)
    return loaded


def tune_adversary(
    loaded: LoadedModel, examples: Sequence[Example], config: SFTConfig, output: Path, *, progress: Progress
) -> None:
    """Train one more LoRA adapter over an adversary's frozen weights.

    Args:
        loaded: The adversary as it is, earlier adapters included.
        examples: Of its successes.
        config: How.
        output: The folder of the new adapter.
        progress: Where to report.

    Raises:
        UsageError: Training is impossible; see :func:`toxoid.training.sft.train_sft`.
    """
    from toxoid.training.sft import train_sft

    checkpoints = output.with_name(f"{output.name}.checkpoints")
    train_sft(loaded, examples, config, output=output, checkpoints=checkpoints, progress=progress)
