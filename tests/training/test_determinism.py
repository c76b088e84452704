from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from toxoid.training.determinism import seeded


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.random()), float(torch.rand(()))


def test_a_seed_gives_the_same_draws():
    with seeded(5):
        first = draws()
    with seeded(5):
        assert draws() == first


def test_the_callers_streams_go_on_as_if_nothing_had_happened():
    with seeded(1):
        expected = [draws(), draws()]
    with seeded(1):
        first = draws()
        with seeded(2):
            draws()
        assert [first, draws()] == expected


def test_threads_are_given_back_even_after_an_error():
    before = torch.get_num_threads()

    def fail() -> None:
        with seeded(0, threads=before + 1):
            assert torch.get_num_threads() == before + 1
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert torch.get_num_threads() == before
