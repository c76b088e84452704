"""Tests of the preallocated key-value cache."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.tiny_models import ARCHITECTURES, tiny_model
from toxoid.engines.kv_cache import CopiedCache, SlotCache, placement, row_cache


def written(rows=3, *, columns=2, most=8):
    """Return a cache of one layer in which row ``i`` holds ``i`` everywhere, and that layer."""
    cache = SlotCache(1, rows=rows, most=most)
    states = torch.arange(rows).float()[:, None, None, None].expand(rows, 1, columns, 4)
    cache.past.update(states, -states, 0)
    return cache, cache.past.layers[0]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=14))
@settings(max_examples=200, deadline=None)
def test_a_row_that_is_filled_is_never_copied_from(parents):
    sources = [parents[child] for child in placement(parents)]
    filled = {row for row, source in enumerate(sources) if row != source}
    assert sorted(sources) == sorted(parents)
    assert not filled & set(sources)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=14))
@settings(max_examples=100, deadline=None)
def test_no_more_rows_are_copied_than_must_be(parents):
    copied = sum(row != parents[child] for row, child in enumerate(placement(parents)))
    assert copied == len(parents) - len({parent for parent in parents if parent < len(parents)})


@given(st.lists(st.integers(0, 2), min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_rows_become_what_their_sources_were(parents):
    cache, layer = written()
    sources = [parents[child] for child in placement(parents)]
    cache.place(sources)
    assert layer.keys[: len(sources), 0, :2, 0].tolist() == [[float(source)] * 2 for source in sources]
    assert torch.equal(layer.keys[: len(sources), :, :2], -layer.values[: len(sources), :, :2])


def test_a_step_writes_in_place_and_returns_a_view():
    cache, layer = written()
    address = layer.keys.data_ptr()
    keys, values = cache.past.update(torch.ones(3, 1, 1, 4), torch.ones(3, 1, 1, 4), 0)
    assert keys.shape == values.shape == (3, 1, 3, 4)
    assert keys.data_ptr() == layer.keys.data_ptr() == address


def test_slots_double_and_stay_within_the_limit():
    cache, layer = written(3, most=8)
    cache.place([0, 1, 2, 0])
    assert layer.keys.shape[0] == 6
    cache.place([0, 1, 2, 3, 0, 0, 0])
    assert layer.keys.shape[0] == 8


def test_a_prefix_is_shared_at_the_column_it_is_needed_in():
    cache, layer = written(3)
    cache.share((2, 0), (0, 3), 2)
    assert layer.keys[0, 0, :6, 0].tolist() == [0, 0, 0, 2, 2, 0]
    assert layer.values[0, 0, :6, 0].tolist() == [0, 0, 0, -2, -2, 0]


def test_a_pass_over_some_rows_leaves_the_others():
    cache, layer = written(3)
    cache.seek(slice(1, 3), 1)
    keys, _ = cache.past.update(torch.full((2, 1, 1, 4), 9.0), torch.zeros(2, 1, 1, 4), 0)
    assert keys[:, 0, :, 0].tolist() == [[1, 9], [2, 9]]
    assert layer.keys[0, 0, :2, 0].tolist() == [0, 0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_models_that_remember_keys_and_values_only_get_slots(architecture):
    config = tiny_model(architecture).config
    assert isinstance(row_cache(config, rows=1, most=1), SlotCache)


@pytest.mark.parametrize("kinds", [["chunked_attention", "full_attention"], ["full_attention", "conv"]])
def test_layers_of_other_kinds_keep_the_cache_of_transformers(kinds):
    config = tiny_model().config
    config.layer_types, config.attention_chunk_size = kinds, 8
    assert isinstance(row_cache(config, rows=1, most=1), CopiedCache)
