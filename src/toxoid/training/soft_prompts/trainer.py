"""The trainer of opposite prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from toxoid.engines.soft_prompt import embed
from toxoid.training.preference.forward import logits_at, output_head
from toxoid.training.preference.losses import selected_log_probabilities
from toxoid.training.soft_prompts.losses import likelihood_losses, term_means, unlikelihood_losses
from toxoid.training.soft_prompts.rows import PromptCollator, PromptRows, Term
from toxoid.training.soft_prompts.settings import PromptConfig
from toxoid.training.trainer import StepTrainer


class PromptedModel(nn.Module):
    """A frozen model and two soft prompts, which are all that is trainable.

    Args:
        model: The frozen model.
        safe: What SP begins from, (tokens, size) float32.
        opposite: What AP begins from, same shape. Its virtual ids follow those of SP.
    """

    def __init__(self, model: Any, safe: Tensor, opposite: Tensor) -> None:
        super().__init__()
        self.safe = nn.Parameter(safe)
        self.opposite = nn.Parameter(opposite)
        self.model = model

    def forward(self, input_ids: Tensor, **given: Any) -> Any:
        """Return the model's output for tokens, of which some are virtual."""
        table = torch.cat([self.safe, self.opposite])
        return self.model(inputs_embeds=embed(self.model, input_ids, table), **given)


class PromptTrainer(StepTrainer):
    """Minimises L_SP + L_AP: both prompts learn in the same forward passes, and neither from the other.

    Its rows are numbered by their position in the training, not in the data.

    Args:
        model: The frozen model and the prompts.
        terms: What the loss is made of.
        rows: The anchors.
        config: The settings.
        pad: The id to pad rows with.
        given: The other arguments of :class:`toxoid.training.trainer.StepTrainer`.
    """

    def __init__(
        self,
        *,
        model: PromptedModel,
        terms: Sequence[Term],
        rows: PromptRows,
        config: PromptConfig,
        pad: int,
        **given: Any,
    ) -> None:
        self._prompts = (model.safe, model.opposite)
        self._head = output_head(model.model)
        self._clamp = config.objective.clamp
        self._unlikely = torch.tensor([term.unlikely for term in terms])
        self._shares = torch.where(self._unlikely, config.objective.unlikelihood, 1.0)
        self.part_names = [term.name for term in terms]
        idle = tuple(row.without_a_say() for row in rows[0])
        collator = PromptCollator(pad=pad)
        size = len(rows)
        super().__init__(
            model=model, rows=rows, lengths=[1] * size, idle=idle, collator=collator, config=config, **given
        )

    def order(self, epoch: int) -> Sequence[int]:
        """Return the positions of an epoch: the rows know what comes there."""
        size = len(self._lengths)
        return range(epoch * size, (epoch + 1) * size)

    def loss_total(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the sum of the target tokens' weights in each term, shape ``(terms,)``."""
        return torch.zeros(len(self.part_names)).index_add(0, batch["terms"], batch["weights"])

    def batch_loss(self, model: nn.Module, batch: Mapping[str, Any], total: Tensor) -> Tensor:
        """Return the loss of one micro-batch as its share of the step's loss."""
        logits = logits_at(model, self._head, batch["input_ids"], batch["picked"])
        every = torch.arange(len(logits), device=logits.device)
        found = selected_log_probabilities(logits, every, batch["targets"])
        terms = batch["terms"]
        unlikely = self._unlikely.to(found.device)[terms]
        losses = torch.where(unlikely, unlikelihood_losses(found, self._clamp), likelihood_losses(found))
        means = term_means(losses, batch["weights"], terms, total)
        self.record(dict(zip(self.part_names, means, strict=True)))
        return (means * self._shares.to(means.device)).sum()

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        """Clip the gradient of each prompt on its own: one must not be slowed down by the other."""
        norms = []
        for prompt in self._prompts:
            norms.append(super()._clip_grad_norm(nn.ParameterList([prompt])))
        return max(norms)
