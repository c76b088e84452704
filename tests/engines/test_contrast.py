"""The arithmetic of contrast, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch

from toxoid.engines.contrast import PUBLISHED, Contrast, contrasted, implausible, total_variation
from toxoid.errors import UsageError


def logits(seed: int, rows: int = 3, words: int = 11) -> torch.Tensor:
    return torch.randn(rows, words, generator=torch.Generator().manual_seed(seed)) * 3


def test_the_published_form_is_the_raw_difference():
    positive, negative = logits(0), logits(1)
    assert torch.allclose(contrasted(positive, negative, PUBLISHED), positive - 0.4 * negative)


@pytest.mark.parametrize("alpha", [0.1, 0.4, 0.9])
def test_rescaling_is_the_raw_form_at_temperature_one_minus_alpha(alpha):
    positive, negative = logits(0), logits(1)
    raw = contrasted(positive, negative, Contrast(alpha=alpha, rescale=False))
    assert torch.allclose(contrasted(positive, negative, Contrast(alpha=alpha)), raw / (1 - alpha), atol=1e-5)


def test_equal_contexts_are_left_as_they_are_by_rescaling_and_flattened_without():
    same = logits(0)
    assert torch.allclose(contrasted(same, same, Contrast(alpha=0.7)), same, atol=1e-5)
    assert torch.allclose(contrasted(same, same, Contrast(alpha=0.7, rescale=False)), 0.3 * same, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.99])
def test_equal_contexts_keep_the_most_probable_token(alpha):
    same = logits(0)
    for rescale in (True, False):
        found = contrasted(same, same, Contrast(alpha=alpha, rescale=rescale))
        assert found.argmax(-1).tolist() == same.argmax(-1).tolist()


def test_the_combination_has_32_bits_whatever_the_models_type():
    found = contrasted(logits(0).bfloat16(), logits(1).bfloat16(), Contrast())
    assert found.dtype == torch.float32


def test_the_mask_removes_what_has_less_than_its_share_of_the_highest_probability():
    positive = torch.tensor([[0.6, 0.3, 0.059, 0.041]]).log()
    removed = implausible(positive, 0.1)
    assert removed is not None
    assert removed.tolist() == [[False, False, True, True]]


def test_a_mask_of_one_leaves_the_most_probable_token_alone():
    removed = implausible(logits(0), 1.0)
    assert removed is not None
    assert (~removed).sum(-1).tolist() == [1, 1, 1]


def test_no_mask_at_zero():
    assert implausible(logits(0), 0.0) is None


def test_total_variation_against_a_hand_computation():
    one, other = torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor([[0.2, 0.5, 0.3]])
    assert total_variation(one.log(), other.log()).item() == pytest.approx(0.3)
    assert total_variation(one.log(), one.log()).item() == 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"alpha": -0.1}, "alpha is -0.1"),
        ({"alpha": 1.1}, "alpha is 1.1"),
        ({"alpha": 1.0}, "rescale: false"),
        ({"alpha": math.nan}, "alpha is nan"),
        ({"plausibility": 1.5}, "plausibility is 1.5"),
        ({"first": 0}, "first is 0"),
        ({"divergence": 2.0}, "divergence is 2.0"),
    ],
)
def test_what_is_out_of_range_is_named(settings, said):
    with pytest.raises(UsageError, match=said.replace(".", r"\.")):
        Contrast(**settings)


def test_alpha_one_works_without_rescaling():
    assert Contrast(alpha=1.0, rescale=False).contrasts
