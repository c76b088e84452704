from __future__ import annotations

import math

import pytest
import torch

from toxoid.training.preference import Objective
from toxoid.training.preference import losses as code
from toxoid.training.preference.losses import kl_divergences, pair_losses, selected_log_probabilities

D = torch.tensor([-3.0, 0.0, 0.5, 4.0], dtype=torch.float64)


def test_sigmoid_is_dpo():
    found = pair_losses(D, Objective(beta=0.5))
    assert found.tolist() == pytest.approx([math.log(1 + math.exp(-0.5 * d)) for d in D.tolist()])


def test_ipo_is_least_where_the_difference_is_half_of_one_over_beta():
    assert pair_losses(torch.tensor([5.0, 7.0]), Objective(loss="ipo", beta=0.1)).tolist() == [0.0, 4.0]


def test_hinge_saturates():
    found = pair_losses(D, Objective(loss="hinge", beta=1.0))
    assert found.tolist() == [4.0, 1.0, 0.5, 0.0]


def test_without_noise_conservative_and_robust_are_sigmoid():
    expected = pair_losses(D, Objective(beta=0.3))
    for loss in ("conservative", "robust"):
        assert torch.equal(pair_losses(D, Objective(loss=loss, beta=0.3)), expected)


def test_conservative_is_the_mean_over_both_orders():
    given = Objective(loss="conservative", beta=0.3, label_smoothing=0.2)
    plain = Objective(beta=0.3)
    expected = 0.8 * pair_losses(D, plain) + 0.2 * pair_losses(-D, plain)
    assert torch.allclose(pair_losses(D, given), expected)


def test_robust_is_unbiased_under_swapped_pairs():
    given = Objective(loss="robust", beta=0.3, label_smoothing=0.2)
    observed = 0.8 * pair_losses(D, given) + 0.2 * pair_losses(-D, given)
    assert torch.allclose(observed, pair_losses(D, Objective(beta=0.3)))


def test_simpo_asks_for_a_margin():
    found = pair_losses(torch.tensor([0.5]), Objective(loss="simpo", beta=2.0, gamma=1.0))
    assert found.item() == pytest.approx(math.log(2))


def random_logits(seed: int) -> torch.Tensor:
    return torch.randn(5, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_selected_log_probabilities_are_those_of_a_softmax():
    logits, rows, tokens = random_logits(0), torch.tensor([0, 0, 3, 4]), torch.tensor([1, 6, 2, 2])
    expected = logits.log_softmax(1)[rows, tokens]
    assert torch.allclose(selected_log_probabilities(logits, rows, tokens), expected)


@pytest.mark.parametrize("chunk", [1, 14, 10**6])
def test_their_gradient_is_exact_however_it_is_cut(chunk: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(code, "_CHUNK", chunk)
    rows, tokens = torch.tensor([0, 0, 3, 4]), torch.tensor([1, 6, 2, 2])
    given = random_logits(1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: selected_log_probabilities(x, rows, tokens), given)


@pytest.mark.parametrize("chunk", [1, 14, 10**6])
def test_the_gradient_of_the_divergence_is_exact(chunk: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(code, "_CHUNK", chunk)
    given, reference = random_logits(2).requires_grad_(), random_logits(3)
    assert torch.autograd.gradcheck(lambda x: kl_divergences(x, reference), given)


def test_the_divergence_is_that_of_the_reference_from_the_model():
    own, other = random_logits(4).log_softmax(1), random_logits(5).log_softmax(1)
    expected = torch.nn.functional.kl_div(own, other, reduction="none", log_target=True).sum(1)
    assert torch.allclose(kl_divergences(own, other), expected)
    assert kl_divergences(own, own).abs().max() < 1e-12


def test_nothing_selected_is_no_error():
    nothing = torch.zeros(0, dtype=torch.int64)
    logits = torch.zeros(0, 7, requires_grad=True)
    selected_log_probabilities(logits, nothing, nothing).sum().backward()
    assert logits.grad is not None
    assert logits.grad.shape == (0, 7)


def test_short_logits_are_summed_in_single_precision():
    logits, place = random_logits(6).bfloat16(), torch.tensor([0])
    assert selected_log_probabilities(logits, place, place).dtype == torch.float32
    assert kl_divergences(logits, logits).dtype == torch.float32
