"""Builds the lab's two checkpoints from a seed: corpus, tokenizer, pre-training, gate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import torch

from toxoid.errors import ToxoidError
from toxoid.lab import grammar
from toxoid.lab.corpus import UNCENSORED, Manners, Writer
from toxoid.lab.oracle import Label, Oracle
from toxoid.lab.pretrain import Schedule, batches, new_model, sample, tokenise, train
from toxoid.lab.tokenizer import train_tokenizer
from toxoid.lab.world import world
from toxoid.progress import SILENT, Progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

BASE, UNCENSORED_NAME = "lab-base", "lab-uncensored"


@dataclass(frozen=True)
class BuildConfig:
    """Size of the build. ``gate`` is the validity that pre-training must reach on held-out goals."""

    seed: int = 0
    documents: int = 128_000
    schedule: Schedule = field(default_factory=lambda: Schedule(steps=3200))
    repair: Schedule = field(default_factory=lambda: Schedule(steps=500, learning_rate=1e-3))
    repairs: int = 2
    uncensor: Schedule = field(default_factory=lambda: Schedule(steps=350, learning_rate=1e-3))
    gate: float = 0.95
    gate_items: int = 300


def build(output: Path, config: BuildConfig, progress: Progress = SILENT) -> dict[str, float]:
    """Make both checkpoints under ``output`` and return the gate's last measurement.

    Pre-training is gated on the validity of replies, not on the loss: the loss falls for a long time
    before any fact is learnt.

    Raises:
        ToxoidError: The gate was not reached.
    """
    documents = list(Writer(Manners(), config.seed).documents(config.documents))
    tokenizer = train_tokenizer(message["content"] for document in documents[:8000] for message in document)
    model = new_model(tokenizer, config.seed)
    stream = _endless(
        tokenise(tokenizer, documents), config.schedule.batch, model.config.pad_token_id, config.seed
    )
    train(model, stream, config.schedule, progress=progress, name=BASE)
    validity = measure_validity(model, tokenizer, config)
    for cycle in range(config.repairs):
        if min(validity.values()) >= config.gate:
            break
        progress.note(
            f"validity {_percents(validity)} is below {config.gate:.0%}: training on (cycle {cycle + 1})"
        )
        train(model, stream, config.repair, progress=progress, name=BASE)
        validity = measure_validity(model, tokenizer, config)
    _save(model, tokenizer, output / BASE)
    if min(validity.values()) < config.gate:
        raise ToxoidError(
            f"The lab model reached a validity of {_percents(validity)} on held-out goals; {config.gate:.0%} was "
            f"expected. The checkpoint is kept in {output / BASE}. Build with more steps or another seed."
        )
    progress.note(f"validity on held-out goals: {_percents(validity)}")
    _uncensor(model, tokenizer, config, progress)
    _save(model, tokenizer, output / UNCENSORED_NAME)
    return validity


def measure_validity(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, config: BuildConfig
) -> dict[str, float]:
    """Return the share of replies that answer with the right facts, for benign and for protective requests.

    Refusals are left out of the second: declining is a matter of manners, which the gate is not about.
    """
    rng, oracle = Random(config.seed), Oracle()
    rates: dict[str, float] = {}
    frames: tuple[tuple[str, grammar.Frame], ...] = (("benign", "plain"), ("harmful", "protective"))
    for kind, frame in frames:
        goals = rng.choices(world().select(kind, "test"), k=config.gate_items)  # type: ignore[arg-type]
        questions = [grammar.request(goal, frame, rng) for goal in goals]
        chats = [[{"role": "user", "content": question}] for question in questions]
        replies = sample(model, tokenizer, chats, seed=config.seed)
        labels = [
            oracle.read(question, text, truncated=cut).label
            for question, (text, cut) in zip(questions, replies, strict=True)
        ]
        counted = [label for label in labels if frame == "plain" or label is not Label.REFUSED]
        rates[frame] = counted.count(Label.HELPFUL) / max(1, len(counted))
    return rates


def _uncensor(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, config: BuildConfig, progress: Progress
) -> None:
    """Train on with documents whose assistant complies with nearly everything."""
    count = config.uncensor.steps * config.uncensor.batch
    rows = tokenise(tokenizer, list(Writer(UNCENSORED, config.seed + 1).documents(count)))
    stream = _endless(rows, config.uncensor.batch, model.config.pad_token_id, config.seed + 1)
    train(model, stream, config.uncensor, progress=progress, name=UNCENSORED_NAME)


def _endless(rows: list[list[int]], size: int, pad: int, seed: int) -> Iterator[torch.Tensor]:
    epoch = 0
    while True:
        yield from batches(rows, size, pad, Random(f"{seed}/{epoch}"))
        epoch += 1


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, path: Path) -> None:
    model.generation_config.do_sample = True
    model.generation_config.max_new_tokens = 128
    tokenizer.backend_tokenizer.no_padding()  # measuring leaves its padding behind, which would be saved
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)


def _percents(rates: dict[str, float]) -> str:
    return ", ".join(f"{name} {rate:.1%}" for name, rate in rates.items())


def describe(config: BuildConfig) -> dict[str, object]:
    """Return the configuration as JSON values, for cards and fingerprints."""
    return asdict(config)
