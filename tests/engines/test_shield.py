"""Tests of shields on disk, and of the models they fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.helpers.tiny_models import tiny_loaded
from toxoid.engines import shield as shields
from toxoid.engines.contrast import Contrast
from toxoid.engines.loading import LoadedModel
from toxoid.engines.shield import FACTS, TENSORS, Shield, check_fit, load_shield, made_for, save_shield
from toxoid.engines.soft_prompt import Frame
from toxoid.errors import UsageError
from toxoid.store.keys import file_sha256

HASHES = {name: name[0] * 64 for name in ("weights", "adapter", "tokenizer", "template")}


def loaded(**changes: Any) -> LoadedModel:
    return replace(tiny_loaded(), identity={"kind": "local", "dtype": "float32", **HASHES, **changes})


def make(**changes: Any) -> Shield:
    generator = torch.Generator().manual_seed(5)
    safe, opposite = torch.randn(2, 4, 32, generator=generator)
    given: dict[str, Any] = {
        "frame": Frame("system", "Be\ncareful, “clerk”."),
        "model": made_for(loaded()),
        "contrast": Contrast(alpha=0.25, first=2),
        "facts": {"anchors": {"kept": 3}, "seconds": 1.5},
    }
    return Shield(safe, opposite, **given | changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_shield(make(), tmp_path / "shield")
    return tmp_path / "shield"


def refusal(folder: Path) -> str:
    with pytest.raises(UsageError) as caught:
        load_shield(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(folder: Path, **values: Any) -> None:
    document = json.loads((folder / FACTS).read_text())
    (folder / FACTS).write_text(json.dumps({**document, **values}))


def put(folder: Path, **tensors: torch.Tensor) -> None:
    """Replace the tensors, and the hash of their file."""
    save_file(tensors, folder / TENSORS)
    edit(folder, sha256=file_sha256(folder / TENSORS))


def test_a_shield_comes_back_as_it_was(folder: Path):
    written, read = make(), load_shield(folder)
    assert torch.equal(read.safe, written.safe)
    assert torch.equal(read.opposite, written.opposite)
    assert (read.frame, read.model, read.contrast, read.facts) == (
        written.frame,
        written.model,
        written.contrast,
        written.facts,
    )
    assert read.identity() == written.identity()


def test_the_same_shield_is_the_same_bytes(folder: Path, tmp_path: Path):
    save_shield(make(), tmp_path / "again")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()
    }


def test_both_prompts_are_one_tensor_safe_first(folder: Path):
    (prompts,) = load_file(folder / TENSORS).values()
    assert (prompts.shape, prompts.dtype) == ((2, 4, 32), torch.float32)
    assert torch.equal(prompts[0], make().safe)
    with safe_open(folder / TENSORS, framework="pt") as tensors:
        assert tensors.metadata() is None


@pytest.mark.parametrize(
    "changes",
    [
        {"frame": Frame("system", "Be careful")},
        {"frame": Frame("front")},
    ],
)
def test_the_identity_is_of_what_replies_depend_on(changes: dict[str, Any]):
    one = make()
    assert replace(one, **changes).identity() != one.identity()
    assert replace(one, safe=one.safe * 1.0001).identity() != one.identity()
    assert replace(one, safe=one.opposite, opposite=one.safe).identity() != one.identity()
    assert replace(one, facts={}, contrast=Contrast()).identity() == one.identity()


def test_the_card_says_what_it_is_and_warns(folder: Path):
    card = (folder / "README.md").read_text()
    assert "tiny-llama" in card
    assert "ready-made jailbreak" in card
    assert "toxoid generate MODEL --shield DIR" in card
    assert "| anchors | kept 3 |" in card


def test_an_earlier_shield_is_replaced(folder: Path):
    save_shield(make(facts={"second": 1}), folder)
    assert load_shield(folder).facts == {"second": 1}
    assert [path.name for path in folder.parent.iterdir()] == ["shield"]


def test_an_empty_folder_is_used(tmp_path: Path):
    save_shield(make(), tmp_path)
    assert load_shield(tmp_path).length == 4


def test_something_else_is_not_replaced(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("precious")
    for place in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(UsageError, match="holds no earlier shield"):
            save_shield(make(), place)


def test_a_shield_that_cannot_be_written_leaves_the_earlier_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*given: Any) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(shields, "write_json_atomic", full)
    with pytest.raises(UsageError, match="the disk is full"):
        save_shield(make(facts={}), folder)
    assert load_shield(folder).facts == make().facts
    assert [path.name for path in folder.parent.iterdir()] == ["shield"]


def test_facts_that_are_no_json_are_a_mistake_of_the_program(tmp_path: Path):
    with pytest.raises(ValueError):
        save_shield(make(facts={"loss": float("nan")}), tmp_path / "s")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_none_is_named(tmp_path: Path):
    assert "there is no folder" in refusal(tmp_path / "nowhere")
    assert "is no shield" in refusal(tmp_path)


def test_another_format_is_refused(folder: Path):
    edit(folder, format=2)
    assert "has format 2, expected 1" in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"frame": {"placement": "middle", "manual": ""}}, "frame.placement is 'middle'"),
        ({"contrast": {"alpha": 7}}, "alpha is 7"),
        ({"contrast": {"alpha": "much"}}, "contrast.alpha"),
        ({"model": None}, "model"),
        ({"colour": 1}, "colour"),
        ({"format": None}, "format"),
    ],
)
def test_a_document_with_a_wrong_value_names_it(folder: Path, changes: dict[str, Any], told: str):
    edit(folder, **changes)
    assert told in refusal(folder)


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_a_document_that_is_no_object_is_refused(folder: Path, text: str):
    (folder / FACTS).write_text(text)
    assert FACTS in refusal(folder)


def test_other_tensors_than_described_are_refused(folder: Path):
    save_file({"prompts": make().safe[None].repeat(2, 1, 1)}, folder / TENSORS)
    assert "other sha256" in refusal(folder)


def test_missing_and_damaged_tensors_are_told(folder: Path):
    (folder / TENSORS).write_bytes(b"half")
    assert "cannot be read as safetensors" in refusal(folder)
    (folder / TENSORS).unlink()
    assert "is missing" in refusal(folder)


@pytest.mark.parametrize(
    "tensors",
    [
        {"prompts": torch.zeros(2, 5, 32)},
        {"prompts": torch.zeros(3, 4, 32)},
        {"prompts": torch.zeros(2, 4)},
        {"prompts": torch.zeros(2, 4, 32, dtype=torch.float16)},
        {"safe": torch.zeros(2, 4, 32)},
    ],
)
def test_tensors_of_another_form_are_refused(folder: Path, tensors: dict[str, torch.Tensor]):
    put(folder, **tensors)
    assert "expected one float32 tensor `prompts` of the shape (2, 4, size of an embedding)" in refusal(
        folder
    )


def test_numbers_that_are_none_are_refused(folder: Path):
    put(folder, prompts=torch.full((2, 4, 32), float("nan")))
    assert "not finite" in refusal(folder)


def test_a_shield_fits_its_model_in_any_type():
    check_fit(make(), loaded(dtype="bfloat16"))


@pytest.mark.parametrize("name", HASHES)
def test_what_differs_is_named(name: str):
    with pytest.raises(UsageError, match=rf"made for tiny-llama and does not fit .*\(different: {name}\)"):
        check_fit(make(), loaded(**{name: "another"}))


def test_another_size_of_embeddings_does_not_fit():
    one = make()
    with pytest.raises(UsageError, match="different: weights, embedding size"):
        check_fit(replace(one, safe=one.safe[:, :16]), loaded(weights="another"))


def test_of_a_local_model_the_name_is_told_and_no_path(tmp_path: Path):
    model = replace(loaded(), source=str(tmp_path / "me" / ".." / "my-model"))
    (tmp_path / "my-model").mkdir()
    (tmp_path / "me").mkdir()
    assert made_for(model)["name"] == "my-model"
    assert made_for(replace(model, source="org/some-model"))["name"] == "org/some-model"
