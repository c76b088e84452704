"""The self-check: before the first step, tries have to give what plain rows give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from toxoid.progress import Progress
from toxoid.training.preference.attention import candidates, implementation, layer_kinds, obstacle
from toxoid.training.preference.batches import GroupCollator, PreferenceRow
from toxoid.training.preference.forward import (
    Attention,
    log_probabilities,
    on_device,
    output_head,
    reply_sums,
)
from toxoid.training.preference.layout import lay_out
from toxoid.training.preference.settings import AttentionKind
from toxoid.training.preference.tokens import TokenisedGroup

_EXACT, _ROUGH = 1e-4, 2e-2
"""Relative error of a reply's log-probability that is rounding: in float32 or better, and in shorter types."""

_LOOKED_AT = 256
_SMALL = 2048  # tokens


def checked_attention(
    asked: AttentionKind, model: Any, groups: Sequence[TokenisedGroup], *, bf16: bool, progress: Progress
) -> Attention:
    """Return how to compute, after one group was computed in both ways; say so where sharing cannot be had.

    Args:
        asked: The setting.
        model: The model to be trained, as yet untrained; left with the attention implementation that will run.
        groups: The groups.
        bf16: Whether the training runs under bfloat16 autocast; the check does not.
        progress: Where to say that every reply will be computed on its own.

    Raises:
        UsageError: ``flex`` was asked for and cannot run here.
    """
    dtype = next(model.parameters()).dtype
    plain = Attention("plain", {}, torch.bfloat16 if bf16 else dtype)
    for backend in candidates(asked, model):
        reason = obstacle(model)
        if not reason:
            attention = Attention(backend, layer_kinds(model.config) or {}, dtype)
            with implementation(model, backend) as keep:
                reason = _difference(model, _telling_group(groups, attention), attention)
                if not reason:
                    keep()
                    return replace(attention, dtype=plain.dtype)
        progress.note(f"shared tokens cannot be computed once by {backend} attention: {reason}")
    if asked != "plain":
        progress.note("every reply is computed on its own: slower, with the same result")
    return plain


def _telling_group(groups: Sequence[TokenisedGroup], attention: Attention) -> TokenisedGroup:
    """Return a small group that shares much; one that is longer than the windows, if there is one."""
    windows = [kind.window or kind.chunk or 0 for kind in attention.kinds.values()]
    early = groups[:_LOOKED_AT]

    def size(group: TokenisedGroup) -> int:
        return sum(len(group.context) + len(reply) for reply in group.replies)

    def told(group: TokenisedGroup) -> tuple[bool, bool, float]:
        deep = len(group.context) + max(map(len, group.replies)) > max(windows)
        shared = size(group) / len(lay_out(group, shared=True))
        return size(group) <= _SMALL, deep, shared

    small = [group for group in early if size(group) <= _SMALL] or [min(early, key=size)]
    return max(small, key=told)


def _difference(model: Any, group: TokenisedGroup, attention: Attention) -> str:
    """Return what is wrong with tries, empty if nothing is."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            try:
                found = _sums(model, group, attention)
            except (RuntimeError, ValueError, TypeError, NotImplementedError, KeyError) as error:
                first = (str(error).splitlines() or [type(error).__name__])[0]
                return f"its forward pass with a mask of its own fails ({first})"
            expected = _sums(model, group, replace(attention, backend="plain"))
    finally:
        model.train(training)
    if not bool(expected.isfinite().all()):
        return ""  # broken weights are for the training to tell
    apart = float(((found - expected).abs() / expected.abs().clamp(min=1.0)).max())
    allowed = _EXACT if torch.finfo(attention.dtype).bits >= 32 else _ROUGH
    if apart <= allowed:
        return ""
    return f"its log-probabilities differ by {apart:.1e} of their size (allowed: {allowed:.0e})"


def _sums(model: Any, group: TokenisedGroup, attention: Attention) -> torch.Tensor:
    """Return the sums of a group that shares its row with itself."""
    nothing = np.zeros(0, dtype=np.float32)
    layout = lay_out(replace(group, pairs=(), imitated=()), shared=attention.shared, whole=True)
    collator = GroupCollator(pad=0, row_tokens=2 * len(layout), shared=attention.shared)
    rows = [PreferenceRow(layout, nothing)] * 2
    batch = on_device(collator(rows), next(model.parameters()).device)
    return reply_sums(log_probabilities(model, output_head(model), batch, attention).double(), batch)
