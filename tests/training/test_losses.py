from __future__ import annotations

import torch
from torch.nn import functional

from toxoid.training.losses import weighted_cross_entropy

LOGITS = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 3, 8, 1, 1, 5])
ONES = torch.ones(6)


def test_with_weights_one_it_is_plain_cross_entropy():
    loss = weighted_cross_entropy(LOGITS, TARGETS, ONES, 6.0)
    torch.testing.assert_close(loss, functional.cross_entropy(LOGITS, TARGETS))


def test_a_weight_of_two_counts_as_the_token_twice():
    weights = torch.tensor([2.0, 1, 1, 1, 1, 1])
    twice = torch.tensor([0, *range(6)])
    expected = functional.cross_entropy(LOGITS[twice], TARGETS[twice])
    torch.testing.assert_close(weighted_cross_entropy(LOGITS, TARGETS, weights, weights.sum()), expected)


def test_parts_under_one_total_add_up_to_the_whole():
    parts = [weighted_cross_entropy(LOGITS[s], TARGETS[s], ONES[s], 6.0) for s in (slice(0, 2), slice(2, 6))]
    torch.testing.assert_close(sum(parts), weighted_cross_entropy(LOGITS, TARGETS, ONES, 6.0))


def test_half_precision_logits_are_summed_in_float32():
    loss = weighted_cross_entropy(LOGITS.bfloat16(), TARGETS, ONES, 6.0)
    torch.testing.assert_close(loss, functional.cross_entropy(LOGITS.bfloat16().float(), TARGETS))
