from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxoid.errors import UsageError
from toxoid.training.settings import TrainingConfig, steps_for


def test_max_steps_overrides_epochs():
    assert steps_for(TrainingConfig(epochs=9, max_steps=7), 1000) == 7


def test_a_ragged_batch_is_a_step():
    assert steps_for(TrainingConfig(epochs=2, batch_size=4), 9) == 6


def test_part_of_an_epoch_is_rounded_up():
    assert steps_for(TrainingConfig(epochs=0.5, batch_size=4), 12) == 2


@given(
    n=st.integers(1, 200), batch=st.integers(1, 20), accumulation=st.integers(1, 5), epochs=st.integers(1, 4)
)
def test_steps_are_those_of_a_loop_that_counts_them(n, batch, accumulation, epochs):
    rows, steps = [list(range(n)) for _ in range(epochs)], 0
    for left in rows:
        while left:
            del left[: batch * accumulation]
            steps += 1
    config = TrainingConfig(epochs=epochs, batch_size=batch, gradient_accumulation=accumulation)
    assert steps_for(config, n) == steps


def test_no_examples_are_no_steps_but_an_error():
    with pytest.raises(UsageError, match="0 examples"):
        steps_for(TrainingConfig(max_steps=3), 0)


def test_alpha_is_twice_the_rank_unless_given():
    assert TrainingConfig(lora_rank=8).alpha == 16
    assert TrainingConfig(lora_rank=8, lora_alpha=4).alpha == 4


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("epochs", -1.0),
        ("max_steps", 0),
        ("batch_size", 0),
        ("lora_rank", 0),
        ("warmup_steps", -1),
        ("save_steps", -5),
        ("threads", 0),
        ("seed", -1),
    ],
)
def test_a_value_out_of_range_is_named(name, value):
    with pytest.raises(UsageError, match=name):
        TrainingConfig(**{name: value})


def test_an_unknown_schedule_gets_a_suggestion():
    with pytest.raises(UsageError, match='Did you mean "cosine"'):
        TrainingConfig(schedule="cosin")


def test_an_unknown_mode_lists_the_known_ones():
    with pytest.raises(UsageError, match="lora, qlora, full"):
        TrainingConfig(mode="dora")


def test_bf16_is_a_switch_or_auto():
    with pytest.raises(UsageError, match="auto"):
        TrainingConfig(bf16="yes")
