from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention.flex_attention import create_mask

from tests.helpers.tiny_models import tiny_model
from toxoid.errors import UsageError
from toxoid.training.preference.attention import (
    LayerKind,
    attention_masks,
    block_mask,
    candidates,
    dense_mask,
    layer_kinds,
    mask_function,
    obstacle,
)
from toxoid.training.preference.batches import GroupCollator, PreferenceRow
from toxoid.training.preference.layout import lay_out
from toxoid.training.preference.tokens import TokenisedGroup
from toxoid.training.preference.trie import build_trie

from .test_trie import random_replies

KINDS = [LayerKind(), LayerKind(window=3), LayerKind(chunk=4)]


def rows(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return depths and ends of rows of several tries, padded."""
    groups = []
    for number in range(3):
        context, replies = random_replies(100 * seed + number)
        groups.append(TokenisedGroup(np.array(context), tuple(map(np.array, replies)), (), ()))
    given = [PreferenceRow(lay_out(group, shared=True, whole=True), np.zeros(0)) for group in groups]
    batch = GroupCollator(pad=0, row_tokens=40, shared=True)(given)
    return batch["depths"], batch["ends"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_the_block_mask_of_flex_attention_is_the_dense_one(seed: int, kind: LayerKind):
    depths, ends = rows(seed)
    height, width = ends.shape
    flexible = create_mask(
        mask_function(depths, ends, kind), B=height, H=1, Q_LEN=width, KV_LEN=width, device="cpu"
    )
    assert torch.equal(flexible, dense_mask(depths, ends, kind, torch.float32) == 0)


def test_no_block_that_somebody_sees_is_left_out():
    depths, ends = rows(1)
    blocks = block_mask(depths, ends, LayerKind(), torch.float32).to_dense()
    assert blocks.shape[0] == len(ends)
    assert bool(blocks.bool().all())  # one block of 128 per row


@pytest.mark.parametrize("seed", range(10))
def test_a_window_holds_along_the_path(seed: int):
    trie = build_trie(*random_replies(seed))
    depths, ends = torch.from_numpy(trie.depths)[None], torch.from_numpy(trie.ends)[None]
    mask = dense_mask(depths, ends, LayerKind(window=3), torch.float32)[0, 0] == 0
    for path in trie.paths:
        for place in range(2, len(path)):
            seen = mask[path[place]].nonzero()[:, 0].tolist()
            assert seen == path[place - 2 : place + 1].tolist()


def test_padding_sees_only_itself():
    depths, ends = rows(2)
    mask = dense_mask(depths, ends, LayerKind(), torch.float32) == 0
    padding = [
        (row, place)
        for row, place in (depths == 0).nonzero().tolist()
        if place and ends[row, place] == place + 1
    ]
    assert padding
    for row, place in padding:
        assert mask[row, 0, place].nonzero()[:, 0].tolist() == [place]
        assert mask[row, 0, :, place].nonzero()[:, 0].tolist() == [place]


def test_the_mask_is_of_the_queries_type_and_lies_in_one_piece():
    mask = dense_mask(*rows(3), LayerKind(), torch.bfloat16)
    assert mask.dtype == torch.bfloat16
    assert mask.is_contiguous()
    assert not mask.requires_grad


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("llama", {"full_attention": LayerKind()}),
        ("mistral", {"full_attention": LayerKind(window=12)}),
        ("gemma2", {"sliding_attention": LayerKind(window=12), "full_attention": LayerKind()}),
        ("gemma3_text", {"sliding_attention": LayerKind(window=12), "full_attention": LayerKind()}),
    ],
)
def test_windows_are_read_off_the_configuration(name: str, kinds: dict[str, LayerKind]):
    assert layer_kinds(tiny_model(name).config) == kinds


def test_layers_that_run_along_the_row_are_an_obstacle():
    model = tiny_model("llama")
    model.config.layer_types = ["full_attention", "linear_attention"]
    assert layer_kinds(model.config) is None
    assert "no attention" in obstacle(model)


def test_a_kernel_without_masks_is_an_obstacle():
    model = tiny_model("llama")
    model.config._attn_implementation = "flash_attention_2"
    assert "flash_attention_2" in obstacle(model)


def test_several_kinds_of_layers_get_a_mask_each():
    depths, ends = rows(0)
    kinds = {"sliding_attention": LayerKind(window=2), "full_attention": LayerKind()}
    masks: Any = attention_masks(depths, ends, kinds, backend="sdpa", dtype=torch.float32)
    assert masks.keys() == kinds.keys()
    single = attention_masks(
        depths, ends, {"full_attention": LayerKind()}, backend="sdpa", dtype=torch.float32
    )
    assert torch.equal(masks["full_attention"], single)


def test_flex_on_a_cpu_is_refused():
    with pytest.raises(UsageError, match="attention is flex, which runs on a GPU only: give auto or sdpa"):
        candidates("flex", tiny_model("llama"))
    assert candidates("auto", tiny_model("llama")) == ("sdpa",)
