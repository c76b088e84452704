"""Reference sums: log-probabilities of replies under the untrained model, computed once and kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from toxoid.errors import ToxoidError
from toxoid.progress import Progress
from toxoid.store.keys import JSON, content_key
from toxoid.training.preference.batches import GroupCollator, PreferenceRow
from toxoid.training.preference.forward import (
    Attention,
    autocast,
    log_probabilities,
    on_device,
    output_head,
    reply_sums,
)
from toxoid.training.preference.layout import lay_out
from toxoid.training.preference.tokens import TokenisedGroup, tokens_hash
from toxoid.training.processes import gathered, is_main, process_count, process_index

KIND = "reference"

Sums: TypeAlias = dict[str, float]
Margins: TypeAlias = npt.NDArray[np.float32]


class RecordStore(Protocol):
    """Where sums are kept; :class:`toxoid.store.records.Records` is one."""

    def get_many(self, keys: Sequence[str]) -> dict[str, Any]:
        """Return the payloads of those ``keys`` that are there."""

    def put_many(self, rows: Sequence[tuple[str, str, Any]]) -> object:
        """Store (key, kind, payload) rows in one transaction; a key that is there keeps its payload."""


def reference_margins(
    model: Any,
    groups: Sequence[TokenisedGroup],
    *,
    identity: Mapping[str, JSON],
    attention: Attention,
    bf16: bool,
    collator: GroupCollator,
    batch_size: int,
    store: RecordStore | None,
    progress: Progress,
) -> list[Margins]:
    """Return for each pair of each group what the reference prefers its chosen reply by, in nats.

    A sum is kept under the hash of model, precision, context and reply, so that no reply is computed twice:
    not in another epoch, not in another training from the same model. Sums are stored batch by batch, as they
    are made. Several processes share the work, and the store of the main one counts.

    Args:
        model: The reference, in eval mode.
        groups: The groups.
        identity: Of the model.
        attention: How tries go through it.
        bf16: Whether to run under bfloat16 autocast, as the training does.
        collator: Groups to tensors.
        batch_size: Groups per forward pass.
        store: Where to keep the sums; ``None`` for nowhere.
        progress: Where to report.

    Returns:
        One array of shape ``(pairs,)`` for each group.

    Raises:
        ToxoidError: A log-probability is infinite or NaN.
    """
    precision = content_key(dict(identity), "bfloat16" if bf16 else "as loaded")
    keys = [_keys(precision, group) for group in groups]
    wanted = list(dict.fromkeys(key for row in keys for key in row))
    # What the main process knows is what all know: they have to agree on what there is to do.
    known: Sums = gathered({} if store is None else store.get_many(wanted))[0]
    todo = _missing(groups, keys, known)
    device = next(model.parameters()).device
    with progress.task("reference", len(todo), "groups") as task, torch.no_grad(), autocast(device, bf16):
        for start in range(0, len(todo), batch_size * process_count()):
            firsts = (start + number * batch_size for number in range(process_count()))
            parts = [todo[first : first + batch_size] for first in firsts]
            own = dict(_sums(model, parts[process_index()], attention, collator))
            fresh = {key: value for sums in gathered(own) for key, value in sums.items()}
            if store is not None and is_main():
                store.put_many([(key, KIND, value) for key, value in fresh.items()])
            known.update(fresh)
            task.advance(sum(map(len, parts)))
    return [_margins(group, row, known) for group, row in zip(groups, keys, strict=True)]


def _keys(precision: str, group: TokenisedGroup) -> list[str]:
    context = tokens_hash(group.context)
    return [content_key(KIND, precision, context, tokens_hash(reply)) for reply in group.replies]


def _missing(
    groups: Sequence[TokenisedGroup], keys: Sequence[list[str]], known: Sums
) -> list[tuple[list[str], TokenisedGroup]]:
    """Return the groups reduced to the compared replies nobody has computed yet, without those that are done."""
    seen, todo = set(known), []
    for group, row in zip(groups, keys, strict=True):
        compared = sorted({index for a, b, _ in group.pairs for index in (a, b)})
        wanted = [index for index in compared if row[index] not in seen]
        seen.update(row[index] for index in wanted)
        if wanted:
            replies = tuple(group.replies[index] for index in wanted)
            rest = replace(group, replies=replies, pairs=(), imitated=())
            todo.append(([row[index] for index in wanted], rest))
    return todo


def _sums(
    model: Any,
    part: Sequence[tuple[list[str], TokenisedGroup]],
    attention: Attention,
    collator: GroupCollator,
) -> Iterator[tuple[str, float]]:
    if not part:  # another process has the last ones
        return iter(())
    nothing = np.zeros(0, dtype=np.float32)
    rows = [PreferenceRow(lay_out(group, shared=attention.shared, whole=True), nothing) for _, group in part]
    batch = on_device(collator(rows), next(model.parameters()).device)
    found = log_probabilities(model, output_head(model), batch, attention)
    sums = reply_sums(found.double(), batch)  # whole ones, to be subtracted: float32 would cost digits
    if not bool(sums.isfinite().all()):
        raise ToxoidError(
            "the untrained model gives a reply a log-probability that is no number: its weights are damaged, or "
            "too large for the type that they are loaded in"
        )
    return zip((key for names, _ in part for key in names), sums.tolist(), strict=True)


def _margins(group: TokenisedGroup, keys: Sequence[str], known: Sums) -> Margins:
    return np.asarray([known[keys[a]] - known[keys[b]] for a, b, _ in group.pairs], dtype=np.float32)
