"""Random groups, and the loss of preference training computed the slow, obvious way."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from toxoid.data.groups import Group, RankedReply
from toxoid.data.schemas import user
from toxoid.engines.templates import encode, encode_target
from toxoid.progress import SILENT
from toxoid.training.copies import frozen_copy, with_lora
from toxoid.training.examples import IGNORED, Example, tokenise
from toxoid.training.preference import Objective, PreferenceConfig, PreferenceExample
from toxoid.training.preference.tokens import tokenise_groups
from toxoid.training.preference.train import preference_trainer
from toxoid.training.preference.trainer import PreferenceTrainer

WORDS = ["moss", "lamps", "turn", "blue", "when", "rain", "sings", "over", "copper", "hills"]
CONFIG = PreferenceConfig(batch_size=3, bf16=False, save_steps=0, epochs=1)


def sentence(draw: random.Random, low: int, high: int) -> str:
    return " ".join(draw.choices(WORDS, k=draw.randint(low, high)))


def nested_group(draw: random.Random, name: str = "g", *, trunk: bool = False, replies: int = 4) -> Group:
    """Return a group like those of course-correction: beginnings of the worst reply, each left at some point."""
    words = [*sentence(draw, 8, 12).split(), "end"]
    cuts = sorted(draw.sample(range(1, len(words) - 1), replies - 2))
    texts = ["no " + sentence(draw, 1, 3)]
    texts += [" ".join([*words[:cut], "stop", sentence(draw, 1, 2)]) for cut in cuts]
    texts += [" ".join(words)]
    beginning = "well then " if trunk else ""
    ranked = tuple(RankedReply(text, rank) for rank, text in enumerate(texts))
    return Group(name, user(sentence(draw, 2, 4)), ranked, trunk=beginning)


def loose_pair(draw: random.Random, name: str = "p") -> Group:
    """Return a group of two replies that share nothing but perhaps a first word."""
    replies = (RankedReply("yes " + sentence(draw, 1, 4), 0), RankedReply("nay " + sentence(draw, 1, 4), 1))
    return Group(name, user(sentence(draw, 1, 4)), replies)


def compared(group: Group, draw: random.Random | None = None) -> PreferenceExample:
    """Return all pairs of a group with their weights (random ones if ``draw`` is given), two replies imitated."""
    pairs = tuple((a, b, draw.uniform(0.2, 3.0) if draw else 1.0) for a, b in group.pairs())
    return PreferenceExample(group, pairs, imitated=((0, 0), (1, group.replies[1].text.rindex(" ") + 1)))


def random_examples(seed: int, count: int = 3) -> list[PreferenceExample]:
    """Return groups with and without trunk, and loose pairs; with weights."""
    draw = random.Random(seed)
    made = []
    for index in range(count):
        group = (
            loose_pair(draw, f"p{index}")
            if index % 3 == 2
            else nested_group(draw, f"g{index}", trunk=index % 3 == 1)
        )
        made.append(compared(group, draw))
    return made


def some_anchors(count: int, seed: int = 5) -> list[Example]:
    draw = random.Random(seed)
    return [
        Example(user(sentence(draw, 1, 3)), sentence(draw, 1, 4), weight=draw.uniform(0.5, 2.0))
        for _ in range(count)
    ]


@dataclass
class Prepared:
    """A trainer, and one batch of all groups."""

    trainer: PreferenceTrainer
    batch: dict[str, Any]

    def loss(self) -> Tensor:
        totals = self.trainer.loss_total(self.batch)
        return self.trainer.compute_loss(self.trainer.model, self.batch, num_items_in_batch=totals)

    def gradients(self) -> dict[str, Tensor]:
        return gradients(self.trainer.model, self.loss())


def prepared(
    loaded: Any,
    examples: Sequence[PreferenceExample],
    objective: Objective,
    folder: Path,
    *,
    anchors: Sequence[Example] = (),
    model: Any = None,
    **config: Any,
) -> Prepared:
    """Return a trainer over ``model`` (``loaded``'s reference stays as it is), and its first batch."""
    settings = replace(CONFIG, objective=objective, batch_size=len(examples), **config)
    trainer = preference_trainer(
        loaded,
        tokenise_groups(examples, loaded.tokenizer, objective, 256),
        settings,
        anchors=tokenise(anchors, loaded.tokenizer, 256),
        bf16=False,
        folder=folder,
        references=None,
        progress=SILENT,
    )
    if model is not None:
        trainer.model = model
        trainer._head = model.get_output_embeddings()
    rows = [trainer.train_dataset[position] for position in range(len(examples))]
    return Prepared(trainer, trainer.data_collator(rows))


def moved_copy(loaded: Any, mode: str) -> Any:
    """Return a model a little away from ``loaded``'s, so that differences from the reference are not 0."""
    torch.manual_seed(11)
    if mode == "lora":
        model = with_lora(frozen_copy(loaded.model), rank=3, alpha=6).to(loaded.model.dtype)
    else:
        import copy

        model = copy.deepcopy(loaded.model).requires_grad_(True)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data += 0.05 * torch.randn_like(weight)
    return model.eval()


def gradients(model: Any, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: w.grad.clone() for name, w in model.named_parameters() if w.grad is not None}


def apart(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Return the relative distance of two gradients."""
    assert found.keys() == expected.keys()
    a, b = (torch.cat([value.flatten() for value in grads.values()]) for grads in (found, expected))
    return float((a - b).norm() / b.norm())


# ---- the obvious way: every reply alone, every pair alone ----


def reply_log_probabilities(model: Any, loaded: Any, group: Group, index: int) -> Tensor:
    trunk = group.trunk or None
    context = encode(loaded.tokenizer, group.conversation, prefill=trunk)
    reply = encode_target(loaded.tokenizer, group.replies[index].text, prefill=trunk)
    return target_log_probabilities(model, [*context, *reply], len(context))


def target_log_probabilities(model: Any, ids: Sequence[int], start: int) -> Tensor:
    logits = model(input_ids=torch.tensor([ids])).logits[0]
    return logits[start - 1 : -1].log_softmax(-1).gather(1, torch.tensor(ids[start:])[:, None])[:, 0]


def plain_pair_loss(own: tuple[Tensor, Tensor], base: tuple[Tensor, Tensor], given: Objective) -> Tensor:
    if given.loss == "simpo":
        return -functional.logsigmoid(given.beta * (own[0].mean() - own[1].mean()) - given.gamma)
    d = (own[0].sum() - base[0].sum()) - (own[1].sum() - base[1].sum())
    sigmoid, swapped = -functional.logsigmoid(given.beta * d), -functional.logsigmoid(-given.beta * d)
    noise = given.label_smoothing
    return {
        "sigmoid": sigmoid,
        "ipo": (d - 1 / (2 * given.beta)) ** 2,
        "hinge": (1 - given.beta * d).clamp(min=0),
        "conservative": (1 - noise) * sigmoid + noise * swapped,
        "robust": ((1 - noise) * sigmoid - noise * swapped) / (1 - 2 * noise),
    }[given.loss]


def plain_loss(
    model: Any,
    loaded: Any,
    examples: Sequence[PreferenceExample],
    given: Objective,
    anchors: Sequence[Example] = (),
) -> Tensor:
    pairs = []
    for example in examples:
        replies = range(len(example.group.replies))
        own = [reply_log_probabilities(model, loaded, example.group, index) for index in replies]
        with torch.no_grad():
            base = [reply_log_probabilities(loaded.model, loaded, example.group, index) for index in replies]
        for a, b, weight in example.pairs:
            pairs.append((weight, plain_pair_loss((own[a], own[b]), (base[a], base[b]), given)))
    loss = given.weight * sum(w * value for w, value in pairs) / sum(w for w, _ in pairs)
    if given.imitation:
        loss = loss + given.imitation * _plain_imitation(model, loaded, examples)
    rows = tokenise(anchors, loaded.tokenizer, 256) if given.needs_anchors else []
    total = sum(row.weight * sum(label != IGNORED for label in row.labels) for row in rows)
    for row in rows:
        start = sum(label == IGNORED for label in row.labels)
        known = target_log_probabilities(model, row.input_ids, start)
        loss = loss - given.anchor_nll * row.weight * known.sum() / total
        ids = torch.tensor([row.input_ids])
        own = model(input_ids=ids).logits[0, start - 1 : -1].log_softmax(-1)
        base = loaded.model(input_ids=ids).logits[0, start - 1 : -1].log_softmax(-1).detach()
        loss = loss + given.kl * row.weight * (base.exp() * (base - own)).sum() / total
    return loss


def _plain_imitation(model: Any, loaded: Any, examples: Sequence[PreferenceExample]) -> Tensor:
    tails = []
    for example in examples:
        for index, start in example.imitated:
            text, trunk = example.group.replies[index].text, example.group.trunk or None
            tail = len(encode_target(loaded.tokenizer, text[start:], prefill=trunk))
            tails.append(reply_log_probabilities(model, loaded, example.group, index)[-tail:])
    return -torch.cat(tails).mean()
