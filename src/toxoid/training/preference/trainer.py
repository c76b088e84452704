"""The trainer of preference groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from toxoid.training.preference.forward import (
    Attention,
    autocast,
    log_probabilities,
    logits_at,
    output_head,
    reply_sums,
)
from toxoid.training.preference.losses import kl_divergences, pair_losses, selected_log_probabilities
from toxoid.training.preference.rows import PreferenceRows
from toxoid.training.preference.settings import Objective, PreferenceConfig
from toxoid.training.trainer import StepTrainer

_PAIRS, _IMITATED, _ANCHORED = range(3)
"""Places of the totals: of the weights of pairs, of imitated tokens, of the weights of the anchors' targets."""


class PreferenceTrainer(StepTrainer):
    """Minimises an :class:`toxoid.training.preference.settings.Objective` over the groups of each step.

    Its rows are numbered by their position in the training, not in the data: with a group go the anchors whose
    turn it is.

    Args:
        model: A causal language model, or a PEFT model around one.
        reference: The untrained model in eval mode, for the anchors' KL.
        rows: The groups.
        attention: How tries go through the model.
        config: The settings.
        given: The other arguments of :class:`toxoid.training.trainer.StepTrainer`.
    """

    def __init__(
        self,
        *,
        model: Any,
        reference: Any,
        rows: PreferenceRows,
        attention: Attention,
        config: PreferenceConfig,
        **given: Any,
    ) -> None:
        self._objective = config.objective
        self._attention = attention
        self._reference = reference
        self._head = output_head(model)
        self.part_names = part_names(config.objective)
        super().__init__(model=model, config=config, rows=rows, **given)

    def order(self, epoch: int) -> Sequence[int]:
        """Return the positions of an epoch: the rows know which group comes there."""
        groups = len(self._lengths)
        return range(epoch * groups, (epoch + 1) * groups)

    def loss_total(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the sums of the pairs' weights, of imitated tokens and of the anchors' weights, shape ``(3,)``."""
        anchors = batch.get("anchors")
        anchored = torch.zeros(()) if anchors is None else anchors["weights"].sum()
        return torch.stack([batch["weights"].sum(), batch["imitation"].sum(), anchored])

    def batch_loss(self, model: nn.Module, batch: Mapping[str, Any], total: Tensor) -> Tensor:
        """Return the loss of one micro-batch as its share of the step's loss."""
        totals = torch.where(total > 0, total, 1.0)  # a term without items is 0
        found = log_probabilities(model, self._head, batch, self._attention)
        parts = self._comparison(found, batch, totals[_PAIRS])
        if self._objective.imitation:
            parts["imitation"] = -(found * batch["imitation"]).sum() / totals[_IMITATED]
        if self._objective.needs_anchors:
            parts |= self._anchoring(model, batch.get("anchors"), totals[_ANCHORED])
        self.record(parts)
        weights = self._weights()
        return torch.stack([part * weights[name] for name, part in parts.items() if name in weights]).sum()

    def _weights(self) -> dict[str, float]:
        given = self._objective
        return {
            "preference": given.weight,
            "imitation": given.imitation,
            "kl": given.kl,
            "anchor nll": given.anchor_nll,
        }

    def _comparison(self, found: Tensor, batch: Mapping[str, Tensor], total: Tensor) -> dict[str, Tensor]:
        """Return the preference term, and the weighted share of pairs in the right order."""
        if not self._objective.needs_pairs:
            return {}
        sums = reply_sums(found, batch)
        if self._objective.loss == "simpo":
            sums = sums / batch["reply_lengths"]
        difference = sums[batch["chosen"]] - sums[batch["rejected"]] - batch["margins"]
        weights = batch["weights"]
        return {
            "preference": (weights * pair_losses(difference, self._objective)).sum() / total,
            "accuracy": (weights * (difference > 0)).sum() / total,
        }

    def _anchoring(
        self, model: Any, anchors: Mapping[str, Tensor] | None, total: Tensor
    ) -> dict[str, Tensor]:
        """Return the terms that hold the model where it is, as asked for; 0 where no anchor's turn has come."""
        if anchors is None:
            asked = self._weights()
            return {name: total.new_zeros(()) for name in ("kl", "anchor nll") if asked[name]}
        ids, places, weights = anchors["input_ids"], anchors["picked"], anchors["weights"]
        logits = logits_at(model, self._head, ids, places)
        parts = {}
        if self._objective.kl:
            with torch.no_grad(), autocast(ids.device, self.args.bf16):
                expected = logits_at(self._reference, output_head(self._reference), ids, places)
            parts["kl"] = (weights * kl_divergences(logits, expected)).sum() / total
        if self._objective.anchor_nll:
            every = torch.arange(len(places), device=ids.device)
            known = selected_log_probabilities(logits, every, anchors["targets"])
            parts["anchor nll"] = -(weights * known).sum() / total
        return parts


def part_names(objective: Objective) -> list[str]:
    """Return what a loss is made of and told with it, in order."""
    there = {
        "preference": objective.needs_pairs,
        "accuracy": objective.needs_pairs,
        "imitation": objective.imitation > 0,
        "kl": objective.kl > 0,
        "anchor nll": objective.anchor_nll > 0,
    }
    return [name for name, is_there in there.items() if is_there]
