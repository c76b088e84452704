from __future__ import annotations

import random

import torch
from hypothesis import given
from hypothesis import strategies as st

from toxoid.training.batches import Collator, EpochSampler, epoch_order
from toxoid.training.examples import IGNORED, TokenisedExample

LENGTHS = [random.Random(0).randint(5, 200) for _ in range(1)] + [
    random.Random(i).randint(5, 200) for i in range(499)
]
ROWS = [
    TokenisedExample((5, 6, 7, 8), (IGNORED, IGNORED, 7, 8), 2.0),
    TokenisedExample((9, 10, 11), (IGNORED, 10, 11)),
]


@given(
    lengths=st.lists(st.integers(1, 50), max_size=80),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 2**32),
    epoch=st.integers(0, 5),
)
def test_an_epoch_sees_every_row_once(lengths, batch_size, seed, epoch):
    order = epoch_order(lengths, batch_size=batch_size, seed=seed, epoch=epoch)
    assert sorted(order) == list(range(len(lengths)))


def test_the_order_depends_on_its_arguments_only():
    first = epoch_order(LENGTHS, batch_size=8, seed=3, epoch=2)
    random.seed(9)
    torch.manual_seed(9)
    assert epoch_order(LENGTHS, batch_size=8, seed=3, epoch=2) == first


def test_epochs_and_seeds_have_their_own_orders():
    orders = {tuple(epoch_order(LENGTHS, batch_size=8, seed=s, epoch=e)) for s in (0, 1) for e in (0, 1)}
    assert len(orders) == 4


def test_batches_of_like_lengths_need_less_padding_than_a_plain_shuffle():
    def padded(order: list[int]) -> int:
        batches = [order[i : i + 8] for i in range(0, len(order), 8)]
        return sum(max(LENGTHS[row] for row in batch) * len(batch) for batch in batches)

    plain = random.Random(0).sample(range(len(LENGTHS)), len(LENGTHS))
    waste = padded(epoch_order(LENGTHS, batch_size=8, seed=0, epoch=0)) - sum(LENGTHS)
    assert waste < 0.2 * (padded(plain) - sum(LENGTHS))


def test_long_rows_do_not_all_come_first_or_last():
    order = epoch_order(LENGTHS, batch_size=8, seed=0, epoch=0)
    halves = [sum(LENGTHS[row] for row in half) for half in (order[:250], order[250:])]
    assert 0.8 < halves[0] / halves[1] < 1.25


def test_the_sampler_asks_for_the_epoch_when_iteration_starts():
    now = {"epoch": 0}
    sampler = EpochSampler(lambda epoch: [epoch, epoch], epoch=lambda: now["epoch"], size=2)
    now["epoch"] = 4
    assert list(sampler) == [4, 4]


def test_rows_are_padded_on_the_right():
    batch = Collator(pad=0, narrow=True)(ROWS)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8], [9, 10, 11, 0]]
    assert batch["lengths"].tolist() == [4, 3]


def test_only_positions_that_predict_a_target_are_kept():
    assert Collator(pad=0, narrow=True)(ROWS)["positions"].tolist() == [0, 1, 2]
    late = [TokenisedExample((1, 2, 3, 4), (IGNORED, IGNORED, IGNORED, 4))]
    assert Collator(pad=0, narrow=True)(late)["positions"].tolist() == [2]


def test_the_picked_logits_stand_one_before_their_targets():
    for narrow in (True, False):
        batch = Collator(pad=0, narrow=narrow)(ROWS)
        before = batch["input_ids"][:, batch["positions"]].flatten()[batch["picked"]]
        assert before.tolist() == [6, 7, 9, 10]
        assert batch["targets"].tolist() == [7, 8, 10, 11]


def test_each_target_token_has_the_weight_of_its_row():
    assert Collator(pad=0, narrow=True)(ROWS)["weights"].tolist() == [2.0, 2.0, 1.0, 1.0]
