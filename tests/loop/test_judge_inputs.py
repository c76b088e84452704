"""What a judge's training begins with is known by its content."""

from __future__ import annotations

import shutil

import pytest
from safetensors.torch import load_file, save_file

from tests.engines.classifiers.tiny import tiny_encoder
from tests.loop.judges import recipe
from toxoid.errors import UsageError
from toxoid.loop.judge_inputs import inputs_of
from toxoid.loop.models import model_source

ROUNDS = {"rounds": {"rounds": 1}, "truth": {"name": "lab-oracle"}}


def against(model):
    return recipe(**ROUNDS, adversary={"model": model})


def change(weights):
    tensors = load_file(weights)
    name = min(tensors)
    save_file({**tensors, name: tensors[name] + 1}, weights, metadata={"format": "pt"})


@pytest.fixture
def adversary(tmp_path):
    return shutil.copytree(model_source("lab-base"), tmp_path / "adversary")


def test_a_moved_adversary_is_the_same_and_a_changed_one_is_not(adversary, tmp_path):
    before = inputs_of(against({"source": str(adversary)}))
    assert before == inputs_of(against({"source": "lab-base"}))
    change(adversary / "model.safetensors")
    assert inputs_of(against({"source": str(adversary)})) != before


def test_only_what_is_used_counts():
    attacks = {"attacks": ["role_play"], "model": {"source": "./nowhere"}}
    rounds = {"rounds": {"rounds": 1}, "adversary": attacks, "truth": {}}
    assert inputs_of(recipe(**rounds)) == {}
    assert inputs_of(recipe(adversary={"model": {"source": "./nowhere"}})) == {}
    assert inputs_of(against({"source": "writer", "endpoint": "http://127.0.0.1:9/v1"})) == {}


def test_an_encoder_counts_by_its_weights_and_its_tokenizer(tmp_path):
    encoder = tiny_encoder()
    for folder in ("one", "other"):
        encoder.encoder.save_pretrained(tmp_path / folder)
        encoder.tokenizer.tokenizer.save_pretrained(tmp_path / folder)
    before, same = (inputs_of(recipe(start={"source": str(tmp_path / name)})) for name in ("one", "other"))
    assert before == same
    change(tmp_path / "one" / "model.safetensors")
    (tmp_path / "other" / "tokenizer_config.json").write_text("{}")
    for name in ("one", "other"):
        assert inputs_of(recipe(start={"source": str(tmp_path / name)})) != before


@pytest.mark.parametrize("start", ["./nowhere", "EMPTY"])
def test_a_start_that_cannot_be_loaded_is_told(tmp_path, start):
    with pytest.raises(UsageError) as told:
        inputs_of(recipe(start={"source": str(tmp_path) if start == "EMPTY" else start}))
    assert "\n" not in str(told.value)
