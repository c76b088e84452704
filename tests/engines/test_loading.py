"""Tests of loading: what is accepted, what is refused and how, what identifies a model."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers.tiny_models import ARCHITECTURES, FAMILIES, save_checkpoint, tiny_model
from toxoid.data.schemas import user
from toxoid.engines import loading
from toxoid.engines.base import GenerationRequest, Sampling
from toxoid.engines.loading import load_model, with_adapter
from toxoid.engines.local import LocalEngine
from toxoid.errors import UsageError


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def folder(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "tiny"))


def save_adapter(folder: Path, model, *, seed=0, **settings) -> Path:
    """Write a LoRA adapter whose weights are all random, so that it changes the output."""
    torch.manual_seed(seed)
    settings = {"target_modules": "all-linear", **settings}
    config = peft.LoraConfig(r=4, init_lora_weights=False, **settings)
    peft.get_peft_model(copy.deepcopy(model), config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapter(tmp_path_factory) -> Path:
    return save_adapter(tmp_path_factory.mktemp("adapters") / "lora", tiny_model())


def edit(path: Path, **values) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def refusal(*args, **kwargs) -> str:
    with pytest.raises(UsageError) as caught:
        load_model(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def logits(model):
    with torch.inference_mode():
        return model(input_ids=torch.tensor([[5, 6, 7, 8]])).logits


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_saved_checkpoint_comes_back(architecture, tmp_path):
    loaded = load_model(save_checkpoint(tmp_path, architecture))
    assert torch.equal(logits(loaded.model), logits(tiny_model(architecture)))
    assert not loaded.model.training
    assert loaded.tokenizer.chat_template == FAMILIES[ARCHITECTURES[architecture][1]].template


def test_a_loaded_model_generates(made):
    request = GenerationRequest(user("polish the bell"), sampling=Sampling(max_tokens=3))
    assert LocalEngine(load_model(str(made))).generate([request])[0][0].completion_tokens <= 3


def test_the_identity_is_json_and_holds_no_path(made):
    loaded = load_model(made)
    text = json.dumps(loaded.identity)
    assert str(made) not in text
    assert loaded.identity.keys() >= {"weights", "template", "dtype", "adapter", "revision"}


def test_a_copied_model_is_the_same_model(made, folder):
    assert load_model(made).identity == load_model(folder).identity


@pytest.mark.parametrize(
    ("file", "values"),
    [("config.json", {"rms_norm_eps": 0.1}), ("generation_config.json", {"eos_token_id": 9})],
)
def test_what_changes_the_output_changes_the_identity(made, folder, file, values):
    edit(folder / file, **values)
    assert load_model(made).identity != load_model(folder).identity


def test_other_weights_are_another_model(made, folder):
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] += 1e-6
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    before, after = load_model(made).identity, load_model(folder).identity
    assert {key for key in before if before[key] != after[key]} == {"weights"}


def test_weights_are_hashed_once_while_they_stay(folder, monkeypatch):
    load_model(folder)
    monkeypatch.setattr(loading, "file_sha256", lambda path: pytest.fail(f"read {path} again"))
    load_model(folder)


def test_sharded_weights_load(tmp_path, made):
    model = tiny_model()
    shutil.copytree(made, tmp_path / "sharded", ignore=shutil.ignore_patterns("model.safetensors"))
    model.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert not (tmp_path / "sharded" / "model.safetensors").exists()
    assert torch.equal(logits(load_model(tmp_path / "sharded").model), logits(model))


def test_a_missing_shard_is_named(tmp_path, made):
    tiny_model().save_pretrained(tmp_path, max_shard_size="20KB")
    lost = min(tmp_path.glob("model-*.safetensors"))
    lost.unlink()
    assert lost.name in refusal(tmp_path)


@pytest.mark.parametrize(("dtype", "expected"), [("auto", torch.float32), ("bfloat16", torch.bfloat16)])
def test_on_a_cpu_the_dtype_is_float32_unless_asked(folder, dtype, expected):
    edit(folder / "config.json", dtype="bfloat16")
    loaded = load_model(folder, dtype=dtype, device="cpu")
    assert loaded.model.dtype == expected
    assert loaded.identity["dtype"] == str(expected).removeprefix("torch.")


def test_an_unknown_dtype_is_refused(made):
    assert 'Did you mean "bfloat16"' in refusal(made, dtype="bfloat")


def test_an_unknown_device_is_refused(made):
    assert 'device "gpu"' in refusal(made, device="gpu")


def test_a_missing_folder_is_named_and_a_like_one_suggested(made):
    text = refusal(made.parent / "tinny")
    assert "no model folder" in text
    assert 'Did you mean "tiny"' in text


def test_a_file_in_place_of_a_folder_is_refused(made):
    assert "is a file" in refusal(made / "config.json")


def test_a_name_that_nobody_knows_says_both_possibilities(monkeypatch):
    def offline(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    text = refusal("some-org/some-model")
    assert "no folder here" in text
    assert "cannot be reached" in text


def test_the_hub_is_asked_for_safe_files_only_and_its_commit_is_kept(made, tmp_path, monkeypatch):
    asked = {}
    snapshot = shutil.copytree(made, tmp_path / "0123abc")

    def download(name, **kwargs):
        asked.update(kwargs, name=name)
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    loaded = load_model("some-org/tiny", revision="main")
    assert (asked["name"], asked["revision"], loaded.identity["revision"]) == (
        "some-org/tiny",
        "main",
        "0123abc",
    )
    assert not any(pattern.endswith((".bin", ".pt", ".py", "*")) for pattern in asked["allow_patterns"])


def test_a_revision_of_a_folder_is_refused(made):
    assert "--revision" in refusal(made, revision="main")


def test_a_folder_without_config_is_refused(tmp_path):
    assert "no config.json" in refusal(tmp_path)


def test_an_adapter_folder_is_told_from_a_model(adapter):
    assert "--adapter" in refusal(adapter)


def test_a_config_that_is_no_json_is_refused(folder):
    (folder / "config.json").write_text("{")
    assert "not readable JSON" in refusal(folder)


def test_an_architecture_that_is_unknown_is_refused(folder):
    edit(folder / "config.json", model_type="lamma")
    assert "cannot be loaded" in refusal(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "last.ckpt"])
def test_pickle_weights_are_refused_before_they_are_opened(folder, name, monkeypatch):
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"never read")
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("opened a pickle"))
    text = refusal(folder)
    assert name in text
    assert "pickle" in text


def test_pickle_weights_beside_safetensors_are_left_alone(folder):
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    load_model(folder)


def test_a_folder_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    assert "has no weights" in refusal(folder)


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: b"x" * 64, lambda data: b""])
def test_damaged_safetensors_are_refused(folder, damage):
    path = folder / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    assert "cannot be read as safetensors" in refusal(folder)


def test_weights_that_lack_a_tensor_are_refused(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert "model.layers.1.mlp.up_proj.weight" in refusal(folder)


def test_weights_of_another_size_are_refused(folder):
    edit(folder / "config.json", intermediate_size=64)
    assert "cannot be loaded" in refusal(folder)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_in_a_checkpoint_is_refused_unless_asked_for(folder, file):
    edit(folder / file, auto_map={"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.Config"})
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    text = refusal(folder)
    assert file in text
    assert "--trust-remote-code" in text


def test_no_tokenizer_is_refused(folder):
    for path in folder.glob("*token*"):
        path.unlink()
    assert "tokenizer" in refusal(folder)


def test_no_chat_template_says_how_to_give_one(folder):
    (folder / "chat_template.jinja").unlink()
    assert "--chat-template FILE.jinja" in refusal(folder)


@pytest.mark.parametrize("as_file", [True, False])
def test_a_given_chat_template_is_taken_and_counts(folder, made, tmp_path, as_file):
    (folder / "chat_template.jinja").unlink()
    template, path = FAMILIES["chatml"].template, tmp_path / "mine.jinja"
    path.write_text(template)
    loaded = load_model(folder, chat_template=path if as_file else template)
    assert loaded.tokenizer.chat_template == template
    assert loaded.identity["template"] != load_model(made).identity["template"]


def test_a_missing_template_file_is_named(made):
    assert "missing.jinja" in refusal(made, chat_template="missing.jinja")


@pytest.mark.parametrize("template", ["{% for m in messages %}", "{{ nobody.knows.me }}"])
def test_a_template_that_does_not_render_is_refused(made, template):
    assert "--chat-template" in refusal(made, chat_template=template)


def test_an_adapter_changes_the_model_and_its_identity(made, adapter):
    plain, adapted = load_model(made), load_model(made, adapter=adapter)
    assert not torch.allclose(logits(plain.model), logits(adapted.model), atol=1e-2)
    assert {k for k in plain.identity if plain.identity[k] != adapted.identity[k]} == {"adapter"}


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True, "lora_alpha": 3}, {"use_dora": True}])
def test_merged_equals_unmerged(made, tmp_path, settings):
    folder = save_adapter(tmp_path / "lora", tiny_model(), **settings)
    merged, unmerged = (with_adapter(load_model(made).model, folder, merge=m).eval() for m in (True, False))
    assert not hasattr(merged, "peft_config") or not isinstance(merged, peft.PeftModel)
    assert isinstance(unmerged, peft.PeftModel)
    torch.testing.assert_close(logits(merged), logits(unmerged), atol=2e-4, rtol=2e-4)


def test_an_unmerged_adapter_decodes_alike(made, adapter):
    request = GenerationRequest(user("polish the bell"), sampling=Sampling(temperature=0.0, max_tokens=8))
    merged = load_model(made, adapter=adapter)
    unmerged = load_model(made)
    object.__setattr__(unmerged, "model", with_adapter(unmerged.model, adapter, merge=False).eval())
    assert LocalEngine(merged).generate([request]) == LocalEngine(unmerged).generate([request])


def test_a_folder_that_is_no_adapter_is_refused(made):
    assert "is not a PEFT adapter" in refusal(made, adapter=made)


def test_a_pickled_adapter_is_refused(made, adapter, tmp_path):
    folder = Path(shutil.copytree(adapter, tmp_path / "pickled"))
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    assert "pickle" in refusal(made, adapter=folder)


@pytest.mark.parametrize("other", [{"hidden_size": 64}, {"num_hidden_layers": 3}, {"num_hidden_layers": 1}])
def test_an_adapter_of_another_model_is_refused(made, tmp_path, other):
    folder = save_adapter(tmp_path / "lora", tiny_model(**other), target_modules=["q_proj"])
    assert "does not fit the model" in refusal(made, adapter=folder)


def test_an_adapter_of_another_architecture_is_refused(made, tmp_path):
    folder = save_adapter(tmp_path / "lora", tiny_model("phi3"))
    assert "does not fit the model" in refusal(made, adapter=folder)


def test_an_adapter_that_is_a_soft_prompt_is_refused(made, tmp_path):
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    peft.get_peft_model(tiny_model(), config).save_pretrained(tmp_path)
    assert "PROMPT_TUNING" in refusal(made, adapter=tmp_path)


def test_loading_says_nothing(made, adapter, capfd):
    load_model(made, adapter=adapter)
    assert capfd.readouterr() == ("", "")
