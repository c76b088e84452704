from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.tiny_models import tiny_loaded
from toxoid.training.preference import Objective
from toxoid.training.preference import attention as attention_code
from toxoid.training.preference.attention import LayerKind
from toxoid.training.preference.selfcheck import checked_attention
from toxoid.training.preference.tokens import tokenise_groups

from ..conftest import make_loaded
from ..test_sft import Recorder
from .helpers import random_examples
from .test_train import EXAMPLES, FULL, train


def checked(loaded: Any, asked: Any = "auto", bf16: bool = False) -> tuple[Any, list[str]]:
    groups = tokenise_groups(random_examples(0), loaded.tokenizer, Objective(), 200)
    progress = Recorder()
    return checked_attention(asked, loaded.model, groups, bf16=bf16, progress=progress), progress.notes


def test_a_sound_model_passes_in_silence():
    attention, notes = checked(make_loaded())
    assert (attention.backend, attention.dtype, notes) == ("sdpa", torch.float32, [])


def test_the_mask_of_a_bfloat16_training_is_bfloat16():
    assert checked(make_loaded(), bf16=True)[0].dtype == torch.bfloat16


def test_a_bfloat16_model_passes_too():
    loaded = tiny_loaded("llama")
    loaded.model.bfloat16()
    assert checked(loaded)[0].backend == "sdpa"


def test_a_broken_mask_is_found_and_told(monkeypatch: pytest.MonkeyPatch):
    true = attention_code.dense_mask

    def causal(depths: torch.Tensor, ends: torch.Tensor, kind: LayerKind, dtype: torch.dtype) -> torch.Tensor:
        return true(depths, torch.full_like(ends, ends.shape[1]), kind, dtype)

    monkeypatch.setattr(attention_code, "dense_mask", causal)
    attention, notes = checked(make_loaded())
    assert attention.backend == "plain"
    assert "shared tokens cannot be computed once by sdpa attention: its log-probabilities differ" in notes[0]
    assert notes[1] == "every reply is computed on its own: slower, with the same result"


def test_a_window_that_does_not_hold_along_the_path_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "toxoid.training.preference.selfcheck.layer_kinds", lambda config: {"full_attention": LayerKind()}
    )
    assert checked(tiny_loaded("mistral"))[0].backend == "plain"


def test_a_model_that_takes_no_such_mask_is_told(monkeypatch: pytest.MonkeyPatch):
    loaded = make_loaded()
    monkeypatch.setattr(loaded.model.model, "forward", None)
    true = loaded.model.forward

    def refusing(**given: Any) -> Any:
        if "attention_mask" in given:
            raise ValueError("no such mask\nand more")
        return true(**given)

    loaded = make_loaded()
    true = loaded.model.forward
    monkeypatch.setattr(loaded.model, "forward", refusing)
    attention, notes = checked(loaded)
    assert attention.backend == "plain"
    assert "its forward pass with a mask of its own fails (no such mask)" in notes[0]


def test_a_known_obstacle_is_told_without_trying():
    loaded = make_loaded()
    loaded.model.config._attn_implementation = "flash_attention_2"
    attention, notes = checked(loaded)
    assert attention.backend == "plain"
    assert "its attention implementation flash_attention_2 takes no such mask" in notes[0]


def test_plain_is_nothing_to_speak_of():
    attention, notes = checked(make_loaded(), "plain")
    assert (attention.backend, notes) == ("plain", [])


def test_training_goes_on_after_a_failed_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    expected = train(make_loaded(), tmp_path / "a").losses
    monkeypatch.setattr(attention_code, "dense_mask", lambda depths, ends, kind, dtype: None)
    progress = Recorder()
    assert train(make_loaded(), tmp_path / "b", FULL, EXAMPLES, progress=progress).losses == pytest.approx(
        expected, rel=1e-4
    )
    assert "every reply is computed on its own" in progress.notes[1]
