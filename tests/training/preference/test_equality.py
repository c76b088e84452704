from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.tiny_models import tiny_loaded
from toxoid.training.preference import Objective

from ..conftest import make_loaded
from .helpers import (
    apart,
    compared,
    gradients,
    moved_copy,
    plain_loss,
    prepared,
    random_examples,
    some_anchors,
)

OBJECTIVES = {
    "sigmoid": Objective(beta=0.3),
    "ipo": Objective(loss="ipo", beta=0.2),
    "hinge": Objective(loss="hinge", beta=0.2),
    "conservative": Objective(loss="conservative", beta=0.5, label_smoothing=0.1),
    "robust": Objective(loss="robust", beta=0.5, label_smoothing=0.2),
    "simpo": Objective(loss="simpo", beta=2.0, gamma=0.5),
    "all terms": Objective(beta=0.3, weight=0.7, imitation=0.4, kl=2.0, anchor_nll=0.5, anchors_per_group=1),
}


def doubled(**changes: Any) -> Any:
    loaded = make_loaded(**changes)
    loaded.model.double()
    return loaded


@pytest.fixture(autouse=True)
def _in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the copies in the model's own type: in float64 only mistakes are left, no rounding."""
    monkeypatch.setattr(
        "toxoid.training.preference.train.trainable_copy", lambda model, config: copy.deepcopy(model)
    )


@pytest.mark.parametrize("mode", ["lora", "full"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_loss_and_gradients_are_those_of_every_pair_alone(name: str, mode: str, tmp_path: Path):
    loaded, given = doubled(), OBJECTIVES[name]
    examples, anchors = random_examples(seed=len(name)), some_anchors(3)
    model = moved_copy(loaded, mode)
    found = prepared(loaded, examples, given, tmp_path, anchors=anchors, model=model)
    expected = plain_loss(model, loaded, examples, given, anchors)
    assert found.loss().item() == pytest.approx(expected.item(), rel=1e-6)  # margins are kept in float32
    assert apart(found.gradients(), gradients(model, expected)) < 1e-6


@pytest.mark.parametrize(
    "name", ["llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gemma3_text", "phi3"]
)
def test_it_holds_for_the_common_families(name: str, tmp_path: Path):
    loaded = tiny_loaded(name, **({"sliding_window": 12} if name == "phi3" else {}))
    loaded.model.double()
    examples, given = random_examples(3, count=2), Objective(beta=0.3)
    model = moved_copy(loaded, "full")
    found = prepared(loaded, examples, given, tmp_path, model=model)
    expected = plain_loss(model, loaded, examples, given)
    assert found.trainer._attention.shared
    assert found.loss().item() == pytest.approx(expected.item(), rel=1e-5)
    assert apart(found.gradients(), gradients(model, expected)) < 1e-5


def test_single_precision_is_near_enough(tmp_path: Path):
    loaded = make_loaded()
    examples, model = random_examples(1), moved_copy(loaded, "full")
    found = prepared(loaded, examples, OBJECTIVES["sigmoid"], tmp_path, model=model)
    expected = plain_loss(model, loaded, examples, OBJECTIVES["sigmoid"])
    assert found.loss().item() == pytest.approx(expected.item(), rel=1e-5)
    assert apart(found.gradients(), gradients(model, expected)) < 1e-5


def test_plain_rows_give_the_same(tmp_path: Path):
    loaded, given = doubled(), OBJECTIVES["all terms"]
    examples, anchors, model = random_examples(4), some_anchors(2), moved_copy(loaded, "full")
    shared, plain = (
        prepared(loaded, examples, given, tmp_path, anchors=anchors, model=model, attention=kind)
        for kind in ("sdpa", "plain")
    )
    assert plain.loss().item() == pytest.approx(shared.loss().item(), rel=1e-6)
    assert apart(plain.gradients(), shared.gradients()) < 1e-6
    assert plain.batch["lengths"].sum() > shared.batch["lengths"].sum()


def test_tries_that_share_a_row_do_not_see_each_other(tmp_path: Path):
    loaded, given = doubled(), OBJECTIVES["sigmoid"]
    examples, model = random_examples(6, count=4), moved_copy(loaded, "full")
    packed, apart_ = (
        prepared(loaded, examples, given, tmp_path, model=model, row_tokens=tokens) for tokens in (4096, 1)
    )
    assert len(packed.batch["input_ids"]) == 1
    assert len(apart_.batch["input_ids"]) == 4
    assert packed.loss().item() == pytest.approx(apart_.loss().item(), rel=1e-9)
    assert apart(packed.gradients(), apart_.gradients()) < 1e-9


def test_only_tokens_that_tell_the_replies_apart_predict(tmp_path: Path):
    loaded = doubled()
    group = random_examples(0, count=2)[1].group  # with a trunk
    example = compared(group)
    batch = prepared(loaded, [example], OBJECTIVES["sigmoid"], tmp_path).batch
    alone = prepared(loaded, [example], OBJECTIVES["sigmoid"], tmp_path, attention="plain").batch
    assert len(batch["targets"]) < batch["lengths"].sum() < alone["lengths"].sum()
    assert len(batch["heads"]) <= len(batch["targets"])


def test_replies_that_nothing_is_learnt_from_are_left_out(tmp_path: Path):
    from toxoid.training.preference import PreferenceExample

    group = random_examples(0)[0].group
    one = prepared(doubled(), [PreferenceExample(group, ((0, 3, 1.0),))], OBJECTIVES["sigmoid"], tmp_path)
    assert len(one.batch["reply_lengths"]) == 2


@pytest.mark.filterwarnings("ignore")  # of torch, about its own slow way
@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2"])
def test_flex_attention_gives_the_same(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Forward only: torch has no gradient of it on a CPU."""
    import transformers.integrations.flex_attention as integration
    from torch.nn.attention import flex_attention as kernel

    def uncompiled(query: Any, key: Any, value: Any, training: bool = False, **given: Any) -> Any:
        return kernel.flex_attention(query, key, value, **given)

    monkeypatch.setattr(kernel, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    monkeypatch.setattr(integration, "compile_friendly_flex_attention", uncompiled)
    monkeypatch.setattr("toxoid.training.preference.selfcheck.candidates", lambda asked, model: ("flex",))
    monkeypatch.setattr("toxoid.training.preference.selfcheck._difference", lambda *given: "")  # done below
    loaded, examples, given = tiny_loaded(name), random_examples(3, count=2), Objective(beta=0.3)
    with torch.no_grad():
        found = prepared(loaded, examples, given, tmp_path)
        assert found.trainer._attention.backend == "flex"
        assert found.trainer.model.config._attn_implementation == "flex_attention"
        kept = loaded.model.config._attn_implementation
        for weight in found.trainer.model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
        own = copy.deepcopy(found.trainer.model)
        own.set_attn_implementation(kept)
        expected = plain_loss(own, loaded, examples, given)
        assert kept != "flex_attention"
        assert found.loss().item() == pytest.approx(expected.item(), rel=1e-4)
