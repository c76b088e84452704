"""The sides of :mod:`benchmarks.preference_tree`: each is run in a process of its own, on made-up pairs.

python -m benchmarks.preference_sides TASK        # JSON; prints what was measured as JSON
"""

from __future__ import annotations

import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.random_models import SPECIALS, random_llama, word_tokenizer
from toxoid.data.groups import Group, RankedReply
from toxoid.data.schemas import as_dicts, user
from toxoid.engines.templates import encode, encode_target

BETA = 0.1
LEARNING_RATE = 1e-5
CLOCKS = ("wall", "cpu")
Times: TypeAlias = tuple[float, float]


PASSES: dict[str, dict[str, Any]] = {
    "groups": {"batch_size": 2},
    "pairs": {"batch_size": 4, "gradient_accumulation": 4, "row_tokens": 256},
}
"""How toxoid cuts a step. A group fills a row; two pairs in one row would pay for the mask between them."""


@dataclass(frozen=True)
class Workload:
    """What is trained on, and how large the model is.

    Args:
        shape: ``groups`` as C2-Syn makes them, or ordinary ``pairs``.
        count: Groups, or pairs, in an optimiser step.
        vocabulary: Tokens the model knows.
    """

    shape: str
    count: int
    vocabulary: int


@dataclass(frozen=True)
class TRLSettings:
    """How TRL's trainer runs.

    Args:
        batch_size: Pairs per forward pass; a divisor of those in a step.
        bf16: bfloat16 autocast.
        sampling: ``random`` or ``group_by_length``.
        precomputed: Whether the reference's sums are made before the training, or in every step.
    """

    batch_size: int
    bf16: bool = True
    sampling: str = "group_by_length"
    precomputed: bool = True


# ---- the data ----


def make_groups(workload: Workload) -> list[Group]:
    """Return groups of random words; the same workload gives the same ones."""
    draw = random.Random(0)
    make = _c2_syn_group if workload.shape == "groups" else _ordinary_pair
    return [make(index, draw, workload.vocabulary) for index in range(workload.count)]


def _c2_syn_group(index: int, draw: random.Random, vocabulary: int) -> Group:
    """Return a safe reply, four corrections of nested beginnings of a harmful reply, and that reply."""

    def words(low: int, high: int) -> list[str]:
        return _words(draw, vocabulary, low, high)

    prompt, opener, harmful, safe = words(34, 42), words(7, 9), words(110, 130), words(27, 33)
    stride = len(harmful) // 5
    corrected = [opener + harmful[: stride * (i + 1)] + words(22, 28) for i in range(4)]
    texts = [safe, *corrected, opener + harmful]
    replies = tuple(RankedReply(" ".join(text), rank) for rank, text in enumerate(texts))
    return Group(str(index), user(" ".join(prompt)), replies)


def _ordinary_pair(index: int, draw: random.Random, vocabulary: int) -> Group:
    prompt = " ".join(_words(draw, vocabulary, 34, 42))
    texts = [" ".join(_words(draw, vocabulary, 60, 120)) for _ in range(2)]
    return Group(str(index), user(prompt), tuple(RankedReply(text, rank) for rank, text in enumerate(texts)))


def _words(draw: random.Random, vocabulary: int, low: int, high: int) -> list[str]:
    return [f"w{draw.randrange(vocabulary - len(SPECIALS))}" for _ in range(draw.randint(low, high))]


def preference_rows(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Return every pair in TRL's explicit-prompt conversational layout."""
    return [
        {
            "prompt": as_dicts(group.conversation),
            "chosen": [{"role": "assistant", "content": group.replies[better].text}],
            "rejected": [{"role": "assistant", "content": group.replies[worse].text}],
        }
        for group in groups
        for better, worse in group.pairs()
    ]


def distinct_tokens(groups: Sequence[Group], tokenizer: Any) -> tuple[int, int]:
    """Return the distinct tokens of ``groups`` and at how many of them a next token has to be predicted.

    A next token that all replies of a group share cancels in every difference and is not predicted.
    """
    tokens = predicted = 0
    for group in groups:
        replies = [tuple(encode_target(tokenizer, reply.text)) for reply in group.replies]
        owners: dict[tuple[int, ...], int] = {}
        for reply in replies:
            for end in range(1, len(reply) + 1):
                owners[reply[:end]] = owners.get(reply[:end], 0) + 1
        tokens += len(encode(tokenizer, group.conversation)) + len(owners)
        predicted += len({prefix[:-1] for prefix, count in owners.items() if count < len(replies)})
    return tokens, predicted


# ---- the model ----


def save_model(folder: Path, vocabulary: int) -> None:
    """Write a Llama of random weights with a tokenizer of whole words."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    random_llama(vocabulary, intermediate=1408, positions=1024).save_pretrained(folder)
    word_tokenizer(vocabulary).save_pretrained(folder)


# ---- the three sides; each runs in a process of its own ----


def trl_side(folder: Path, workload: Workload, settings: TRLSettings, steps: int) -> dict[str, Any]:
    """Train with TRL's DPOTrainer; return the times of each step after the first."""
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer

    ends: list[Times] = []

    class Clock(TrainerCallback):  # type: ignore[misc,unused-ignore]  # transformers is not typed
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            ends.append(times())

    groups = make_groups(workload)
    rows = preference_rows(groups)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    given = Dataset.from_list([{**row, "length": _length(row, tokenizer)} for row in rows])
    with tempfile.TemporaryDirectory() as out:
        arguments = DPOConfig(
            output_dir=out,
            beta=BETA,
            learning_rate=LEARNING_RATE,
            max_steps=steps,
            per_device_train_batch_size=settings.batch_size,
            gradient_accumulation_steps=len(rows) // settings.batch_size,
            bf16=settings.bf16,
            train_sampling_strategy=settings.sampling,
            precompute_ref_log_probs=settings.precomputed,
            max_length=None,
            remove_unused_columns=False,  # `length` is what group_by_length goes by
            gradient_checkpointing=False,
            use_cpu=True,
            report_to="none",
            logging_strategy="no",
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = DPOTrainer(
            model=str(folder),
            args=arguments,
            train_dataset=given,
            processing_class=tokenizer,
            callbacks=[Clock()],
        )
        _check_tokens(trainer.train_dataset, groups, tokenizer)
        trainer.train()
    return _between(ends)


def _length(row: dict[str, Any], tokenizer: Any) -> int:
    """Return the length of the longer row of a pair, what a batch is padded by."""
    texts = (row[key][0]["content"] for key in ("chosen", "rejected"))
    return max(len(tokenizer(text)["input_ids"]) for text in texts)


def _check_tokens(rows: Any, groups: Sequence[Group], tokenizer: Any) -> None:
    """Make sure that both sides train on the same tokens."""
    ours = [
        (
            encode(tokenizer, group.conversation),
            *(encode_target(tokenizer, group.replies[i].text) for i in pair),
        )
        for group in groups
        for pair in group.pairs()
    ]
    theirs = [(row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]) for row in rows]
    if theirs != ours:
        raise AssertionError("TRL has tokenised the pairs otherwise: the sides would not do the same work")


def toxoid_side(folder: Path, workload: Workload, *, bf16: bool, steps: int) -> dict[str, Any]:
    """Train with the group trainer; return the times of each step after the first, and of the references."""
    from toxoid.engines.loading import load_model
    from toxoid.training.preference import Objective, PreferenceConfig, PreferenceExample, train_preferences

    groups = make_groups(workload)
    examples = [
        PreferenceExample(group, tuple((better, worse, 1.0) for better, worse in group.pairs()))
        for group in groups
    ]
    config = PreferenceConfig(
        objective=Objective(loss="sigmoid", beta=BETA),
        mode="full",
        learning_rate=LEARNING_RATE,
        max_steps=steps,
        **PASSES[workload.shape],
        save_steps=0,
        bf16=bf16,
    )
    clock = _Clock()
    with tempfile.TemporaryDirectory() as out:
        train_preferences(
            load_model(folder),
            examples,
            config,
            output=Path(out) / "model",
            checkpoints=Path(out) / "checkpoints",
            progress=clock,
        )
    return _between(clock.ends["train"]) | {"references": _between(clock.spans["reference"])}


def lm_side(folder: Path, workload: Workload, *, bf16: bool, steps: int) -> dict[str, Any]:
    """Train on as many tokens in plain causal rows, with cross-entropy at as many places: the limit.

    One row per group, all of a length; model, optimiser and clipping as in the trainers, in a bare loop.
    """
    import torch
    from torch.nn import functional

    from toxoid.engines.loading import load_model

    loaded = load_model(folder)
    tokens, predicted = distinct_tokens(make_groups(workload), loaded.tokenizer)
    rows = workload.count
    model = loaded.model.train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)
    inputs = torch.randint(len(SPECIALS), workload.vocabulary, (rows, -(-tokens // rows)))
    kept = -(-predicted // rows)
    targets = torch.randint(len(SPECIALS), workload.vocabulary, (rows * kept,))
    ends = []
    for _ in range(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(input_ids=inputs, use_cache=False, logits_to_keep=kept).logits
        loss: Any = functional.cross_entropy(logits.float().flatten(0, 1), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item()
        optimiser.step()
        optimiser.zero_grad()
        ends.append(times())
    return _between(ends) | {"tokens": tokens, "predicted": predicted}


def gradient_error(folder: Path, workload: Workload) -> dict[str, Any]:
    """Compare the gradients of a group with those of its pairs computed one by one, every row on its own, in float32.

    Returns:
        ``gradient_error``: over the weights the largest difference, relative to the largest element of each.
    """
    import torch

    from toxoid.engines.loading import load_model
    from toxoid.training.preference import Objective, PreferenceExample
    from toxoid.training.preference.batches import GroupCollator, PreferenceRow
    from toxoid.training.preference.forward import log_probabilities, output_head, reply_sums
    from toxoid.training.preference.layout import lay_out
    from toxoid.training.preference.losses import pair_losses
    from toxoid.training.preference.selfcheck import checked_attention
    from toxoid.training.preference.tokens import tokenise_groups

    loaded, objective = load_model(folder), Objective(beta=BETA)
    model = loaded.model
    (given,) = make_groups(replace(workload, count=1))
    examples = [PreferenceExample(given, tuple((a, b, 1.0) for a, b in given.pairs()))]
    groups = tokenise_groups(examples, loaded.tokenizer, objective, 1024)
    (group,) = groups
    margins = (
        torch.randn(len(group.pairs), generator=torch.Generator().manual_seed(0)) * 5
    )  # of some reference
    attention = checked_attention("sdpa", model, groups, bf16=False, progress=_Clock())
    rows = [PreferenceRow(lay_out(group, shared=True), margins.numpy())]
    batch = GroupCollator(pad=0, row_tokens=2048, shared=True)(rows)
    sums = reply_sums(log_probabilities(model, output_head(model), batch, attention), batch)
    differences = sums[batch["chosen"]] - sums[batch["rejected"]] - batch["margins"]
    shared = _gradients(model, [pair_losses(differences, objective).mean()])
    plain = _gradients(model, _plain_losses(model, group, margins))
    errors = [float((shared[name] - g).abs().max() / g.abs().max()) for name, g in plain.items()]
    return {"gradient_error": max(errors)}


def _plain_losses(model: Any, group: Any, margins: Any) -> Iterator[Any]:
    """Yield each pair's share of the loss: -log sigmoid of beta times what the policy prefers more."""
    import torch
    from torch.nn import functional

    def log_probability(reply: Sequence[int]) -> Any:
        row = torch.tensor([[*group.context, *reply]], dtype=torch.long)
        logits = model(input_ids=row).logits[0, len(group.context) - 1 : -1]
        return -functional.cross_entropy(logits, row[0, len(group.context) :], reduction="sum")

    for (chosen, rejected, _), margin in zip(group.pairs, margins, strict=True):
        difference = log_probability(group.replies[chosen]) - log_probability(group.replies[rejected])
        yield -functional.logsigmoid(BETA * (difference - margin)) / len(group.pairs)


def _gradients(model: Any, losses: Iterable[Any]) -> dict[str, Any]:
    model.zero_grad()
    for loss in losses:
        loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters()}


class _Clock:
    """A progress sink that keeps when each unit of a task was done, and when the task began and ended."""

    def __init__(self) -> None:
        self.ends: dict[str, list[Times]] = {}
        self.spans: dict[str, list[Times]] = {}
        self.notes: list[str] = []

    @contextmanager
    def task(self, name: str, total: int, unit: str = "items") -> Iterator[_ClockTask]:
        """Open a task."""
        start = times()
        yield _ClockTask(self.ends.setdefault(name, []))
        self.spans[name] = [start, times()]

    def note(self, text: str) -> None:
        """Keep a line."""
        self.notes.append(text)


class _ClockTask:
    def __init__(self, ends: list[Times]) -> None:
        self._ends = ends

    def advance(self, count: int = 1) -> None:
        """Note the time."""
        self._ends += [times()] * count


def times() -> Times:
    """Return the time on the wall and the time that this process has computed, in seconds."""
    return time.perf_counter(), time.process_time()


def _between(ends: Sequence[Times]) -> dict[str, Any]:
    """Return by clock the seconds between consecutive times."""
    spans = [[after - before for before, after in zip(*both, strict=True)] for both in pairwise(ends)]
    return {clock: [span[index] for span in spans] for index, clock in enumerate(CLOCKS)}


def run_child(task: dict[str, Any]) -> dict[str, Any]:
    """Do one measurement in this process; the peak memory in MB is added."""
    import torch
    from transformers.utils import logging

    torch.set_num_threads(task["threads"])
    logging.disable_progress_bar()
    folder, workload = Path(task["folder"]), Workload(**task["workload"])
    steps = {"steps": task.get("steps", 0)}
    if task["side"] == "trl":
        found = trl_side(folder, workload, TRLSettings(**task["settings"]), **steps)
    elif task["side"] == "toxoid":
        found = toxoid_side(folder, workload, bf16=task["bf16"], **steps)
    elif task["side"] == "lm":
        found = lm_side(folder, workload, bf16=task["bf16"], **steps)
    else:
        found = gradient_error(folder, workload)
    return found | {"memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


if __name__ == "__main__":
    print(json.dumps(run_child(json.loads(sys.argv[1]))))
