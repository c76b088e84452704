"""Preference training: learn from ranked replies which to prefer, with LoRA or in full."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toxoid.errors import UsageError
from toxoid.progress import SILENT
from toxoid.training.artifacts import Card, TrainingResult, check_output
from toxoid.training.batches import epoch_order
from toxoid.training.copies import frozen_copy, trainable_copy
from toxoid.training.determinism import seeded
from toxoid.training.examples import Example, TokenisedExample, TokenisedExamples, token_limit, tokenise
from toxoid.training.fingerprint import training_fingerprint
from toxoid.training.precision import use_bf16
from toxoid.training.preference.anchors import AnchorRotation
from toxoid.training.preference.attention import implementation
from toxoid.training.preference.batches import GroupCollator, PreferenceRow
from toxoid.training.preference.examples import PreferenceExample
from toxoid.training.preference.forward import Attention
from toxoid.training.preference.layout import Layout, lay_out
from toxoid.training.preference.reference import Margins, RecordStore, reference_margins
from toxoid.training.preference.rows import PreferenceRows
from toxoid.training.preference.selfcheck import checked_attention
from toxoid.training.preference.settings import PreferenceConfig
from toxoid.training.preference.tokens import TokenisedGroup, TokenisedGroups, groups_hash, tokenise_groups
from toxoid.training.preference.trainer import PreferenceTrainer
from toxoid.training.processes import connect, is_main, process_count

if TYPE_CHECKING:
    from toxoid.engines.loading import LoadedModel
    from toxoid.progress import Progress


def train_preferences(
    loaded: LoadedModel,
    examples: Sequence[PreferenceExample],
    config: PreferenceConfig,
    *,
    anchors: Sequence[Example] = (),
    output: Path,
    checkpoints: Path,
    progress: Progress,
    card: Card | None = None,
    references: RecordStore | None = None,
) -> TrainingResult:
    """Train a copy of a model on groups of ranked replies and save the result.

    What the replies of a group share goes through the model once. The caller's model is not changed and is the
    reference: an adapter is trained over the same memory, full training takes a copy in float32. Called again
    after a kill with the same arguments it continues from the last whole checkpoint, and ends with the same
    weights, bit for bit on one machine with as many threads. Under a distributed launcher every process calls
    it with the same arguments; ``config.batch_size`` is that of one process, and the main process writes.

    Args:
        loaded: The model to start from.
        examples: The groups and their comparisons; plain pairs are groups of two.
        config: What is learnt, and how.
        anchors: Examples on which the model is held where it is, by KL or NLL.
        output: Folder of the result: a PEFT adapter, or a model with tokenizer and template; and a model
            card. It appears whole or not at all; an earlier result there is replaced.
        checkpoints: Folder for this training's checkpoints, removed after success.
        progress: Where to report.
        card: What the model card should say beyond what is known here.
        references: Where the replies' log-probabilities under the reference are kept; ``None`` for in memory.

    Returns:
        The facts; ``examples`` counts groups, ``tokens`` distinct ones, ``losses`` the weighted sum of all terms.

    Raises:
        UsageError: No group fits or one has no pairs, anchors are missing, ``output`` holds something else, the
            checkpoints belong to another training, or the disk refuses.
        Diverged: The loss became infinite or NaN; the last checkpoint is kept.
    """
    check_output(output)
    progress = progress if is_main() else SILENT
    device = loaded.model.device.type
    connect(device)
    groups = _tokenised_groups(loaded, examples, config, progress)
    held = _tokenised_anchors(loaded, anchors, config, progress)
    bf16 = use_bf16(config.bf16, device=device, parameters=sum(w.numel() for w in loaded.model.parameters()))
    with seeded(config.seed, config.threads):
        trainer = preference_trainer(
            loaded,
            groups,
            config,
            anchors=held,
            bf16=bf16,
            folder=checkpoints,
            references=references,
            progress=progress,
        )
        trainer.run()
    return trainer.publish(loaded, output, cut=groups.cut, dropped=groups.dropped, card=card)


def preference_trainer(
    loaded: LoadedModel,
    groups: Sequence[TokenisedGroup],
    config: PreferenceConfig,
    *,
    anchors: Sequence[TokenisedExample],
    bf16: bool,
    folder: Path,
    references: RecordStore | None,
    progress: Progress,
) -> PreferenceTrainer:
    """Return a trainer that is ready to run, all that is computed once computed.

    Args:
        loaded: The model to start from.
        groups: At least one.
        config: What is learnt, and how.
        anchors: Empty if the objective needs none.
        bf16: Whether to run under bfloat16 autocast.
        folder: For the checkpoints.
        references: Where the reference's sums are kept; ``None`` for in memory.
        progress: Where to report.
    """
    objective = config.objective
    model = trainable_copy(loaded.model, config)
    attention = checked_attention(config.attention, model, groups, bf16=bf16, progress=progress)
    reference = _reference(loaded, attention)
    collator = GroupCollator(
        pad=loaded.tokenizer.pad_token_id or 0, row_tokens=config.row_tokens, shared=attention.shared
    )
    margins = _no_margins(groups)
    if objective.needs_reference:
        margins = reference_margins(
            reference,
            groups,
            identity=loaded.identity,
            attention=attention,
            bf16=bf16,
            collator=collator,
            batch_size=config.batch_size,
            store=references,
            progress=progress,
        )
    whole = objective.loss == "simpo" and objective.needs_pairs
    layouts = [lay_out(group, shared=attention.shared, whole=whole) for group in groups]
    data = groups_hash(groups, anchors)
    return PreferenceTrainer(
        model=model,
        reference=reference,
        rows=_rows(layouts, margins, anchors, config),
        lengths=[layout.distinct for layout in layouts],
        idle=PreferenceRow(layouts[0], margins[0], counts=False),
        attention=attention,
        collator=collator,
        config=config,
        folder=folder,
        fingerprint=training_fingerprint(
            "preference", loaded, config, data=data, rows=len(groups), bf16=bf16
        ),
        bf16=bf16,
        progress=progress,
    )


def _tokenised_groups(
    loaded: LoadedModel, examples: Sequence[PreferenceExample], config: PreferenceConfig, progress: Progress
) -> TokenisedGroups:
    limit = token_limit(loaded.model, config.max_length)
    groups = tokenise_groups(examples, loaded.tokenizer, config.objective, limit, progress)
    if not groups:
        raise UsageError(
            f"none of {len(examples)} groups fits into {limit} tokens with its longest reply: raise max_length "
            "(up to the model's context window) or give shorter replies"
        )
    if groups.cut or groups.dropped:
        progress.note(
            f"of {len(examples)} groups, {groups.cut} lost the beginning of their context and {groups.dropped} "
            f"were left out: longer than {limit} tokens (max_length, or the model's context window)"
        )
    return groups


def _tokenised_anchors(
    loaded: LoadedModel, anchors: Sequence[Example], config: PreferenceConfig, progress: Progress
) -> TokenisedExamples:
    objective = config.objective
    if not objective.needs_anchors:
        if anchors:
            progress.note(f"{len(anchors)} anchors are not used: kl and anchor_nll are both 0")
        return TokenisedExamples()
    limit = token_limit(loaded.model, config.max_length)
    held = tokenise(anchors, loaded.tokenizer, limit)
    if not held:
        raise UsageError(
            f"kl is {objective.kl:g} and anchor_nll {objective.anchor_nll:g}, and of {len(anchors)} anchors none "
            f"fits into {limit} tokens: give anchors, or set both to 0"
        )
    if held.cut or held.dropped:
        progress.note(
            f"of {len(anchors)} anchors, {held.cut} lost the beginning of their context and {held.dropped} were "
            f"left out: longer than {limit} tokens"
        )
    return held


def _reference(loaded: LoadedModel, attention: Attention) -> Any:
    """Return the untrained model, over the caller's memory, with the attention that the training has."""
    reference = frozen_copy(loaded.model).eval()
    with implementation(reference, attention.backend) as keep:
        keep()
    return reference


def _no_margins(groups: Sequence[TokenisedGroup]) -> list[Margins]:
    return [np.zeros(len(group.pairs), dtype=np.float32) for group in groups]


def _rows(
    layouts: Sequence[Layout],
    margins: Sequence[Margins],
    anchors: Sequence[TokenisedExample],
    config: PreferenceConfig,
) -> PreferenceRows:
    rotation = AnchorRotation(anchors, per_group=config.objective.anchors_per_group, seed=config.seed)
    lengths, batch_size = [layout.distinct for layout in layouts], config.batch_size * process_count()

    def order(epoch: int) -> list[int]:
        return epoch_order(lengths, batch_size=batch_size, seed=config.seed, epoch=epoch)

    return PreferenceRows(layouts, margins, rotation, order)
