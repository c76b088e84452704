"""Opposite prompt optimisation: two soft prompts, trained in one batch on a frozen model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from toxoid.engines.prefix_tree import Tokens
from toxoid.engines.shield import Shield, check_place, made_for, save_shield
from toxoid.engines.soft_prompt import Frame, Place, embeddings_of, vectors_of
from toxoid.errors import UsageError
from toxoid.progress import SILENT
from toxoid.store.keys import JSON, content_key
from toxoid.training.artifacts import TrainingResult
from toxoid.training.checkpoints import remove_all
from toxoid.training.copies import frozen_copy
from toxoid.training.determinism import seeded
from toxoid.training.examples import token_limit
from toxoid.training.fingerprint import training_fingerprint
from toxoid.training.precision import use_bf16
from toxoid.training.preference.forward import logits_at, output_head
from toxoid.training.processes import connect, is_main, wait_for_all
from toxoid.training.soft_prompts.rows import (
    OPPOSITE,
    SAFE,
    Draw,
    PromptCollator,
    PromptRows,
    Term,
    TokenisedAnchors,
    loss_terms,
    tokenise_anchors,
)
from toxoid.training.soft_prompts.settings import Anchors, PromptConfig, without_weights
from toxoid.training.soft_prompts.trainer import PromptedModel, PromptTrainer

if TYPE_CHECKING:
    from toxoid.engines.contrast import Contrast
    from toxoid.engines.loading import LoadedModel
    from toxoid.engines.soft_prompt import Placement
    from toxoid.progress import Progress
    from toxoid.training.card import Card
    from toxoid.training.trainer import History

_EXACT, _ROUGH = 1e-4, 2e-2
"""Difference of logits, as a share of the largest, that is rounding: in float32 or better, and in shorter types."""


def train_opposite_prompts(
    loaded: LoadedModel,
    anchors: Anchors,
    config: PromptConfig,
    *,
    safe_text: str,
    opposite_text: str,
    placement: Placement,
    contrast: Contrast,
    output: Path,
    checkpoints: Path,
    progress: Progress,
    card: Card | None = None,
) -> TrainingResult:
    """Train both prompts and save them as a shield.

    The model is frozen and not changed, to the bit. Called again after a kill with the same arguments, it continues
    from the last whole checkpoint and ends with the same shield.

    Args:
        loaded: The model the shield is for.
        anchors: What the prompts learn from.
        config: How.
        safe_text: The manual prompt that SP begins from; with placement ``system`` also the frame's.
        opposite_text: The one that AP begins from.
        placement: Where the prompts stand.
        contrast: How the shield is meant to be used; recorded in it.
        output: Folder of the shield.
        checkpoints: Folder for this training's checkpoints, removed after success.
        progress: Where to report.
        card: What the card says beyond what is known here.

    Raises:
        UsageError: A set that a loss needs is empty, the model takes no vectors in place of tokens, ``output`` holds
            something else, the checkpoints belong to another training, or the disk refuses.
        Diverged: The loss became infinite or NaN.
    """
    check_place(output)
    progress = progress if is_main() else SILENT
    device = loaded.model.device.type
    connect(device)
    frame = Frame(placement, safe_text if placement == "system" else "")
    place = Place(loaded.tokenizer, frame)
    initial = _initial_ids(place, safe_text, opposite_text, config.tokens)
    terms = loss_terms(config.objective, anchors)
    learnt = _tokenised(loaded, anchors, terms, place, len(initial[SAFE]), config, progress)
    rows = PromptRows(learnt, seed=config.seed)
    bf16 = use_bf16(config.bf16, device=device, parameters=sum(w.numel() for w in loaded.model.parameters()))
    fingerprint = _fingerprint(loaded, config, learnt, initial, rows=len(rows), bf16=bf16)
    with seeded(config.seed, config.threads):
        model = _prompted(loaded.model, initial, rows[0])
        trainer = PromptTrainer(
            model=model,
            terms=terms,
            rows=rows,
            config=config,
            pad=loaded.tokenizer.pad_token_id or 0,
            folder=checkpoints,
            fingerprint=fingerprint,
            bf16=bf16,
            progress=progress,
        )
        history = trainer.run()
    if is_main():
        safe, opposite = (prompt.detach().cpu() for prompt in (model.safe, model.opposite))
        facts = _facts(learnt, history, fingerprint, card)
        save_shield(Shield(safe, opposite, frame, made_for(loaded), contrast, facts), output)
        remove_all(checkpoints)
    wait_for_all()
    return TrainingResult(
        path=output,
        kind="shield",
        steps=len(history.losses),
        seconds=history.seconds,
        tokens=history.tokens,
        losses=tuple(history.losses),
        examples=sum(map(len, learnt.values())),
        cut=learnt.cut,
        dropped=learnt.dropped,
    )


def _initial_ids(place: Place, safe_text: str, opposite_text: str, tokens: int | None) -> list[Tokens]:
    """Return the tokens that SP and AP begin from, equally many: continued by their own, or cut at the end."""
    manual = [place.manual_ids(text) for text in (safe_text, opposite_text)]
    if not all(manual):
        raise UsageError("a manual prompt is empty: give the text that a soft prompt begins from")
    length = tokens or max(map(len, manual))
    return [(ids * length)[:length] for ids in manual]


def _tokenised(
    loaded: LoadedModel,
    anchors: Anchors,
    terms: Sequence[Term],
    place: Place,
    length: int,
    config: PromptConfig,
    progress: Progress,
) -> TokenisedAnchors:
    limit = token_limit(loaded.model, config.max_length)
    own = embeddings_of(loaded.model).num_embeddings
    soft = [tuple(range(own + prompt * length, own + (prompt + 1) * length)) for prompt in (SAFE, OPPOSITE)]
    found = tokenise_anchors(anchors, terms, place=place, tokenizer=loaded.tokenizer, soft=soft, limit=limit)
    given = sum(len(getattr(anchors, source)) for source in found)
    if found.cut or found.dropped:
        progress.note(
            f"of {given} anchors, {found.cut} lost the beginning of their context and {found.dropped} were left "
            f"out: longer than {limit} tokens, of which the prompt takes {length} (max_length, or the model's "
            "context window)"
        )
    there = {row.term for draws in found.values() for draw in draws for row in draw}
    for number, term in enumerate(terms):
        if number not in there and not term.unlikely:
            raise UsageError(_lacking(term, len(getattr(anchors, term.source)), limit, length))
    return found


def _lacking(term: Term, given: int, limit: int, length: int) -> str:
    who = "the safe prompt (SP)" if term.prompt == SAFE else "the adversarial prompt (AP)"
    why = f"none of {given} is for it and fits into {limit} tokens beside {length} of the prompt"
    return (
        f"{who} has no {term.source} replies to learn: {why if given else 'there are 0'}; give at least one"
    )


def _prompted(given: Any, initial: Sequence[Tokens], draw: Draw) -> PromptedModel:
    """Return what is trained, after a draw was read with the prompts as vectors and with their tokens.

    Raises:
        UsageError: To the model vectors are something else than the tokens they belong to.
    """
    model = PromptedModel(frozen_copy(given), *(vectors_of(given, ids) for ids in initial)).eval()
    batch = PromptCollator(pad=0)([draw])
    device = model.safe.device
    ids, places = batch["input_ids"].to(device), batch["picked"].to(device)
    virtual = ids - embeddings_of(given).num_embeddings
    manual = torch.tensor([*initial[SAFE], *initial[OPPOSITE]], device=device)[virtual.clamp(min=0)]
    head = output_head(model.model)
    with torch.no_grad():
        found = logits_at(model, head, ids, places).float()
        expected = logits_at(model.model, head, torch.where(virtual < 0, ids, manual), places).float()
    apart = float((found - expected).abs().max() / expected.abs().max())
    allowed = _EXACT if torch.finfo(given.dtype).bits >= 32 else _ROUGH
    if apart > allowed:  # not so if either is NaN: broken weights are for the training to tell
        raise UsageError(
            f"{type(given).__name__} takes the vectors of tokens for something else than the tokens (its logits "
            f"differ by {apart:.1e} of their size, allowed: {allowed:.0e}), so it cannot learn soft prompts: "
            "use manual prompts for this model (positive: safe, negative: opposite)"
        )
    return model


def _fingerprint(
    loaded: LoadedModel,
    config: PromptConfig,
    learnt: TokenisedAnchors,
    initial: Sequence[Tokens],
    *,
    rows: int,
    bf16: bool,
) -> dict[str, Any]:
    replies: list[JSON] = [
        [[row.term, row.tokens.input_ids, row.tokens.labels, float(row.tokens.weight)] for row in draw]
        for draws in learnt.values()
        for draw in draws
    ]
    data = content_key(initial, replies)
    found = training_fingerprint("opposite prompts", loaded, config, data=data, rows=rows, bf16=bf16)
    return {**found, "settings": without_weights(found["settings"])}


def _facts(
    learnt: TokenisedAnchors, history: History, fingerprint: dict[str, Any], card: Card | None
) -> dict[str, Any]:
    """Return how a shield was made."""
    told = {} if card is None else {"method": card.method, "datasets": card.datasets, "licence": card.licence}
    return {
        **{name: value for name, value in told.items() if value},
        "anchors": {source: len(draws) for source, draws in learnt.items()},
        "steps": len(history.losses),
        "seconds": round(history.seconds, 1),
        "tokens_seen": history.tokens,
        "losses": {name: values[-1] for name, values in history.parts.items()},
        **{name: fingerprint[name] for name in ("settings", "data", "versions")},
    }
