"""Tests of the exchange with PEFT's prompt tuning."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers.tiny_models import tiny_loaded
from toxoid.data.schemas import Message, user
from toxoid.engines.base import GenerationRequest, Sampling
from toxoid.engines.contexts import chosen, prompted_engine
from toxoid.engines.contrast import Contrast
from toxoid.engines.loading import LoadedModel
from toxoid.engines.peft_prompts import export_peft, import_peft, soft_prompted
from toxoid.engines.shield import Shield, made_for
from toxoid.engines.soft_prompt import Frame, Place, Placement, embed, embeddings_of
from toxoid.errors import UsageError

MANUAL = "You are a careful clerk."
CHAT = (*user("polish the bell"), Message("assistant", "Sorry."), Message("user", "count the stones"))


def make(loaded: LoadedModel, placement: Placement = "front") -> Shield:
    safe, opposite = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(2)) / 4
    frame = Frame(placement, MANUAL if placement == "system" else "")
    return Shield(safe, opposite, frame, made_for(loaded))


def exported(tmp_path: Path, loaded: LoadedModel, **changes: object) -> tuple[Path, Path]:
    shield = replace(make(loaded), **changes)
    export_peft(shield, "safe", tmp_path / "safe", loaded=loaded)
    export_peft(shield, "opposite", tmp_path / "opposite", loaded=loaded)
    return tmp_path / "safe", tmp_path / "opposite"


def edit(folder: Path, **values: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("half", ["safe", "opposite"])
@pytest.mark.parametrize("placement", ["system", "front"])
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma", "mistral"])
def test_peft_gives_the_logits_of_our_own_embedding(tmp_path: Path, architecture, placement, half):
    loaded = tiny_loaded(architecture)
    shield = make(loaded, placement)
    export_peft(shield, half, tmp_path / "adapter", loaded=loaded)
    place = Place(loaded.tokenizer, shield.frame)
    rest = place.rest(CHAT)
    own = embeddings_of(loaded.model).num_embeddings
    ids = torch.tensor([[*place.head, *range(own, own + 5), *rest]])
    adapted = peft.PeftModel.from_pretrained(copy.deepcopy(loaded.model), tmp_path / "adapter")
    with torch.no_grad():
        found = adapted(input_ids=torch.tensor([rest])).logits[:, -len(rest) :]
        table = shield.safe if half == "safe" else shield.opposite
        expected = loaded.model(inputs_embeds=embed(loaded.model, ids, table)).logits[:, -len(rest) :]
    torch.testing.assert_close(found, expected)


def test_what_was_exported_comes_back(tmp_path: Path):
    loaded = tiny_loaded()
    shield = make(loaded)
    again = import_peft(*exported(tmp_path, loaded), loaded=loaded, contrast=Contrast(alpha=0.2))
    assert torch.equal(again.safe, shield.safe)
    assert torch.equal(again.opposite, shield.opposite)
    assert (again.frame, again.model, again.contrast) == (Frame("front"), shield.model, Contrast(alpha=0.2))
    assert str(tmp_path) not in json.dumps(again.facts)


def test_an_adapter_that_peft_has_saved_is_imported(tmp_path: Path):
    loaded = tiny_loaded()
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    model = peft.get_peft_model(copy.deepcopy(loaded.model), config)
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    shield = import_peft(tmp_path, tmp_path, loaded=loaded, contrast=Contrast())
    assert torch.equal(shield.safe, load_file(tmp_path / "adapter_model.safetensors")["prompt_embeddings"])
    assert shield.length == 3


def test_the_model_is_left_as_it_was(tmp_path: Path):
    loaded = tiny_loaded()
    exported(tmp_path, loaded)
    assert all(weight.requires_grad for weight in loaded.model.parameters())


def test_the_card_says_which_ids_follow_a_prompt_in_the_systems_place(tmp_path: Path):
    loaded = tiny_loaded()
    shield = make(loaded, "system")
    export_peft(shield, "safe", tmp_path / "a", loaded=loaded)
    card = (tmp_path / "a" / "README.md").read_text()
    assert f"the ids to give are {list(Place(loaded.tokenizer, shield.frame).rest(user('Hello')))}" in card
    assert MANUAL in card
    assert "jailbreak" not in card


def test_the_card_of_the_adversarial_half_warns(tmp_path: Path):
    _, opposite = exported(tmp_path, tiny_loaded())
    assert "ready-made jailbreak" in (opposite / "README.md").read_text()


def test_a_shield_of_another_model_is_not_exported(tmp_path: Path):
    loaded = tiny_loaded()
    other = replace(loaded, identity={"weights": "other"})
    with pytest.raises(UsageError, match="different: weights"):
        export_peft(make(loaded), "safe", tmp_path / "a", loaded=other)


def test_nothing_is_overwritten(tmp_path: Path):
    exported(tmp_path, tiny_loaded())
    with pytest.raises(UsageError, match="is not empty"):
        exported(tmp_path, tiny_loaded())


def test_prompts_of_unlike_length_are_no_shield(tmp_path: Path):
    loaded = tiny_loaded()
    safe, opposite = exported(tmp_path, loaded)
    save_file({"prompt_embeddings": torch.zeros(4, 32)}, opposite / "adapter_model.safetensors")
    with pytest.raises(UsageError, match=r"has 5 virtual tokens and .* has 4"):
        import_peft(safe, opposite, loaded=loaded, contrast=Contrast())


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"prompt_embeddings": torch.zeros(5, 16)}, "have 16 numbers, and the model's embeddings 32"),
        ({"prompt_embeddings": torch.zeros(5, 32, 1)}, "holds no prompt"),
        ({"prompt_embeddings": torch.zeros(0, 32)}, "holds no prompt"),
        ({"prompt_embeddings": torch.zeros(5, 32, dtype=torch.int32)}, "holds no prompt"),
        ({"other": torch.zeros(5, 32)}, "holds no prompt"),
        ({"prompt_embeddings": torch.full((5, 32), float("inf"))}, "not finite"),
    ],
)
def test_an_adapter_that_holds_something_else_is_refused(tmp_path: Path, tensors, told: str):
    loaded = tiny_loaded()
    safe, opposite = exported(tmp_path, loaded)
    save_file(tensors, safe / "adapter_model.safetensors")
    with pytest.raises(UsageError, match=told):
        import_peft(safe, opposite, loaded=loaded, contrast=Contrast())


@pytest.mark.parametrize("kind", ["LORA", "PREFIX_TUNING", None])
def test_an_adapter_of_another_type_is_refused(tmp_path: Path, kind: str | None):
    loaded = tiny_loaded()
    safe, opposite = exported(tmp_path, loaded)
    edit(opposite, peft_type=kind)
    with pytest.raises(UsageError, match=f"of type {kind}: give one of type PROMPT_TUNING"):
        import_peft(safe, opposite, loaded=loaded, contrast=Contrast())


def test_pickled_weights_are_refused(tmp_path: Path):
    loaded = tiny_loaded()
    safe, opposite = exported(tmp_path, loaded)
    (safe / "adapter_model.safetensors").rename(safe / "adapter_model.bin")
    with pytest.raises(UsageError, match="only safetensors are read"):
        import_peft(safe, opposite, loaded=loaded, contrast=Contrast())


def test_a_folder_that_is_no_adapter_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="not a PEFT adapter"):
        import_peft(tmp_path, tmp_path, loaded=tiny_loaded(), contrast=Contrast())
    for text in ("{", "[]"):
        (tmp_path / "adapter_config.json").write_text(text)
        with pytest.raises(UsageError, match="JSON"):
            import_peft(tmp_path, tmp_path, loaded=tiny_loaded(), contrast=Contrast())


def test_a_prompt_before_everything_is_asked_as_the_shield_it_came_from(tmp_path: Path):
    loaded = tiny_loaded()
    safe, opposite = exported(tmp_path, loaded)
    alone = {"positive": "sp", "negative": None}
    expected = prompted_engine(loaded, chosen(alone, make(loaded)), make(loaded))
    asked = [GenerationRequest(CHAT, "", Sampling(max_tokens=8), 3, seed) for seed in range(4)]
    engine = soft_prompted(loaded, safe)
    assert engine.generate(asked) == expected.generate(asked)
    assert engine.identity() != soft_prompted(loaded, opposite).identity()


def test_only_a_prompt_is_asked_as_a_prompt(tmp_path: Path):
    with pytest.raises(UsageError, match="is not a PEFT adapter"):
        soft_prompted(tiny_loaded(), tmp_path)
