"""Distillation: one PEFT adapter, asked in the plain way, that says what a model says under a shield.

A shield needs a decoder that knows it, and its contrast reads every token twice. The student is the same model with
a LoRA adapter or one soft prompt before everything, and needs one pass. It learns from the teacher's own replies: at
each of their tokens the whole distribution that the teacher drew from, after contrast and mask (Hinton et al. 2015,
arXiv 1503.02531; per token of a sequence: Kim and Rush 2016, arXiv 1606.07947, section 3.1, but on replies of the
teacher's own).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from toxoid.data.schemas import user
from toxoid.engines.explain import combined_logits
from toxoid.engines.prefix_tree import Tokens
from toxoid.engines.prompting import Bare
from toxoid.engines.soft_prompt import embed, embeddings_of
from toxoid.engines.templates import encode_target
from toxoid.errors import UsageError
from toxoid.progress import SILENT
from toxoid.store.keys import content_key
from toxoid.training.artifacts import Card, TrainingResult, check_output
from toxoid.training.batches import Collator
from toxoid.training.copies import frozen_copy, trainable_copy, with_soft_prompt
from toxoid.training.determinism import seeded
from toxoid.training.examples import IGNORED, Example, TokenisedExample, token_limit
from toxoid.training.fingerprint import training_fingerprint
from toxoid.training.precision import use_bf16
from toxoid.training.preference.forward import logits_at, output_head
from toxoid.training.preference.losses import kl_divergences
from toxoid.training.processes import is_main
from toxoid.training.soft_prompts.settings import DistilConfig, without_weights
from toxoid.training.trainer import StepTrainer

if TYPE_CHECKING:
    from toxoid.engines.local import LocalEngine
    from toxoid.progress import Progress

_METHOD = "shield-distilled"
_IMPOSSIBLE = -1e30
"""The logit of a token that the mask removes, in place of minus infinity, which would make 0 times it no number."""


@dataclass(frozen=True, slots=True)
class DistilRow:
    """One reply of the teacher.

    Args:
        student: After the conversation as it is.
        teacher: The same reply in each of the teacher's contexts: the positive one, and the negative if there is one.
    """

    student: TokenisedExample
    teacher: tuple[TokenisedExample, ...]

    @property
    def length(self) -> int:
        """Return how many tokens are read for it."""
        return sum(len(row.input_ids) for row in (self.student, *self.teacher))

    def without_a_say(self) -> DistilRow:
        """Return the same row with weight 0."""
        return replace(self, student=replace(self.student, weight=0.0))


def train_distilled(
    teacher: LocalEngine,
    replies: Sequence[Example],
    config: DistilConfig,
    *,
    output: Path,
    checkpoints: Path,
    progress: Progress,
    card: Card | None = None,
) -> TrainingResult:
    """Train an adapter of the teacher's model to have, without its prompts, the teacher's distributions; save it.

    The teacher is not changed. Called again after a kill with the same arguments, it continues from the last whole
    checkpoint and ends with the same weights.

    Args:
        teacher: The model under the contexts that the student shall do without.
        replies: Where the two are compared: conversations and the teacher's replies.
        config: How.
        output: Folder of the result: a PEFT adapter, or with mode ``full`` a model.
        checkpoints: Folder for this training's checkpoints, removed after success.
        progress: Where to report.
        card: What the model card says beyond what is known here.

    Raises:
        UsageError: No reply fits, there are no such modules, the model takes no vectors in place of tokens,
            ``output`` holds something else, the checkpoints belong to another training, or the disk refuses.
        Diverged: The loss became infinite or NaN.
    """
    check_output(output)
    progress = progress if is_main() else SILENT
    loaded = teacher.loaded
    prompt = initial_prompt(teacher) if config.form == "soft-prompt" else None
    virtual = 0 if prompt is None else len(prompt)
    rows = distil_rows(teacher, replies, token_limit(loaded.model, config.max_length), virtual=virtual)
    dropped = len(replies) - len(rows)
    if not rows:
        raise UsageError(f"none of {len(replies)} replies fits into max_length with its contexts: raise it")
    if dropped:
        progress.note(f"of {len(replies)} replies, {dropped} were left out: too long with their contexts")
    weights = sum(weight.numel() for weight in loaded.model.parameters())
    bf16 = use_bf16(config.bf16, device=loaded.model.device.type, parameters=weights)
    data = content_key(teacher.identity(), [[row.student.input_ids, row.student.labels] for row in rows])
    fingerprint = training_fingerprint("distillation", loaded, config, data=data, rows=len(rows), bf16=bf16)
    if prompt is not None:
        fingerprint["settings"] = without_weights(fingerprint["settings"])
    with seeded(config.seed, config.threads):
        trainer = DistilTrainer(
            model=_student(loaded.model, config, prompt),
            teacher=teacher,
            virtual=virtual,
            config=config,
            rows=rows,
            lengths=[row.length for row in rows],
            idle=rows[0].without_a_say(),
            folder=checkpoints,
            fingerprint=fingerprint,
            bf16=bf16,
            progress=progress,
        )
        trainer.run()
    return trainer.publish(loaded, output, cut=0, dropped=dropped, card=card or Card(method=_METHOD))


def initial_prompt(teacher: LocalEngine) -> Tensor:
    """Return what a soft prompt begins from, (tokens, size) float32: all that stands before the user's words.

    Under a shield that is its safe prompt within the turn of a system message, which is then as free as the rest.

    Raises:
        UsageError: The teacher is asked without a prompt.
    """
    probe, tokenizer = user("x"), teacher.loaded.tokenizer
    (prompted, *_), bare = teacher.prompts(probe), Bare(tokenizer).tokens(probe)
    shared = _common_end(prompted, bare)
    if len(prompted) == shared:
        raise UsageError("the teacher is asked without a prompt: a soft prompt has nothing to begin from")
    ids = torch.tensor([prompted[: len(prompted) - shared]], device=teacher.loaded.model.device)
    table = teacher.prompting.table
    with torch.no_grad():
        layer = embeddings_of(teacher.loaded.model)
        return (layer(ids) if table is None else embed(teacher.loaded.model, ids, table))[0].float()


def distil_rows(
    teacher: LocalEngine, replies: Sequence[Example], limit: int, *, virtual: int = 0
) -> list[DistilRow]:
    """Return the replies as tokens in every context; left out are those of which one is longer than ``limit``.

    None is cut: student and teacher would no longer have been asked the same.

    Args:
        teacher: The model and its contexts.
        replies: What was replied to what.
        limit: Tokens of a row.
        virtual: Tokens of the student's soft prompt, in whose places its rows have zeros.
    """
    tokenizer = teacher.loaded.tokenizer
    found = []
    for example in replies:
        given = (example.conversation, example.prefill)
        target = encode_target(tokenizer, example.target, prefill=example.prefill or None)
        asked = ((*[0] * virtual, *Bare(tokenizer).tokens(*given)), *teacher.prompts(*given))
        if max(map(len, asked)) + len(target) <= limit:
            student, *contexts = (_row(prompt, target, example.weight) for prompt in asked)
            found.append(DistilRow(student, tuple(contexts)))
    return found


class DistilCollator:
    """Turns rows into the tensors of a forward pass of the student, and of one in each of the teacher's contexts.

    Args:
        pad: The id to pad with; any id of the model's own will do.
    """

    def __init__(self, *, pad: int) -> None:
        self._collate = Collator(pad=pad, narrow=False)

    def __call__(self, rows: Sequence[DistilRow]) -> dict[str, Any]:
        """Return what :class:`toxoid.training.batches.Collator` makes of the student's rows, and more.

        Returns:
            Also ``contexts``, ``(input_ids, picked)`` of each of the teacher's; and ``sizes``, the number of targets
            of each row.
        """
        batch: dict[str, Any] = self._collate([row.student for row in rows])
        contexts = [self._collate(context) for context in zip(*(row.teacher for row in rows), strict=True)]
        batch["contexts"] = [(context["input_ids"], context["picked"]) for context in contexts]
        batch["sizes"] = [sum(label != IGNORED for label in row.student.labels) for row in rows]
        batch["lengths"] = torch.tensor([row.length if row.student.weight else 0 for row in rows])
        return batch


class DistilTrainer(StepTrainer):
    """Minimises KL(teacher || student), a weighted mean over the tokens of a step.

    Args:
        model: The student.
        teacher: What it shall say.
        virtual: Tokens of its soft prompt, which it puts before a row by itself.
        given: The other arguments of :class:`toxoid.training.trainer.StepTrainer`, the collator apart.
    """

    def __init__(self, *, model: Any, teacher: LocalEngine, virtual: int, **given: Any) -> None:
        self._teacher = teacher
        self._virtual = virtual
        self._head = output_head(model)
        pad = teacher.loaded.tokenizer.pad_token_id or 0
        super().__init__(model=model, collator=DistilCollator(pad=pad), **given)

    def loss_total(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the sum of the tokens' weights."""
        total: Tensor = batch["weights"].sum()
        return total

    def batch_loss(self, model: nn.Module, batch: Mapping[str, Any], total: Tensor) -> Tensor:
        """Return the loss of one micro-batch as its share of the step's loss."""
        goal = teacher_logits(self._teacher, batch["contexts"], batch["sizes"])
        found = logits_at(model, self._head, batch["input_ids"][:, self._virtual :], batch["picked"])
        losses = kl_divergences(found, goal)
        weighted: Tensor = losses * batch["weights"]
        return weighted.sum() / total


def teacher_logits(
    teacher: LocalEngine, contexts: Sequence[tuple[Tensor, Tensor]], sizes: Sequence[int]
) -> Tensor:
    """Return the logits that the teacher draws the tokens of replies by, (tokens, vocabulary); float32, finite.

    Args:
        teacher: The model and its contexts.
        contexts: For each of them the tokens of the rows, and the places that predict a token of a reply.
        sizes: Tokens of each reply.
    """
    with torch.no_grad(), torch.autocast(teacher.loaded.model.device.type, enabled=False):
        split = [torch.split(_read(teacher, *context), list(sizes)) for context in contexts]
        return torch.cat(list(_combined(teacher, split))).clamp(min=_IMPOSSIBLE)


def _combined(teacher: LocalEngine, split: Sequence[Sequence[Tensor]]) -> Iterator[Tensor]:
    """Yield the logits of one reply after the other; gates count its tokens, so that each is taken on its own."""
    for positive, *negative in zip(*split, strict=True):
        drawn_by = combined_logits(positive, negative[0] if negative else None, teacher.prompting.contrast)
        yield torch.stack([logits.float() for logits, _ in drawn_by])


def _read(teacher: LocalEngine, input_ids: Tensor, places: Tensor) -> Tensor:
    """Return the logits at some places of rows that may hold virtual tokens."""
    model, table = teacher.loaded.model, teacher.prompting.table

    def forward(*, input_ids: Tensor, **given: Any) -> Any:
        read = (
            {"input_ids": input_ids} if table is None else {"inputs_embeds": embed(model, input_ids, table)}
        )
        return model(**read, **given)

    return logits_at(forward, output_head(model), input_ids, places)


def _row(context: Tokens, target: Sequence[int], weight: float) -> TokenisedExample:
    return TokenisedExample((*context, *target), (*[IGNORED] * len(context), *target), weight)


def _student(model: Any, config: DistilConfig, prompt: Tensor | None) -> Any:
    """Return what is trained: a copy of the model with a fresh adapter, or with all its weights."""
    if prompt is not None:
        return with_soft_prompt(frozen_copy(model), prompt)
    return trainable_copy(model, config, modules=config.modules)


def _common_end(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = zip(reversed(one), reversed(other), strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
