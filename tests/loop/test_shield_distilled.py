"""Distilled shields in the loop: an earlier arm's shield is learnt, and the adapters are what PEFT makes of them."""

from __future__ import annotations

import json

import pytest
import torch
from peft import PeftModel

from tests.loop.conftest import SMALL
from toxoid.config.recipe import distilled, load_recipe, only_arms, with_overrides
from toxoid.data.schemas import user
from toxoid.engines.base import GenerationRequest, Sampling
from toxoid.engines.peft_prompts import soft_prompted
from toxoid.engines.shield import save_shield
from toxoid.engines.templates import encode
from toxoid.errors import UsageError
from toxoid.loop import models
from toxoid.loop.run import align, run_loop

FORMS = ["lora", "soft-prompt"]
MASKED = ["lora-mask", "soft-prompt-mask"]
CUT = {
    "audit.tasks": ["harmfulness", "prefill"],
    "train.limit": 60,
    "training.max_steps": 2,
    "arms.contrast.options": {"anchors": 8},
    "arms.contrast.training.max_steps": 2,
    "arms.lora.options": {"anchors": 4},
    "arms.soft-prompt.options": {"anchors": 4, "form": "soft-prompt"},
}


@pytest.fixture(scope="module")
def small():
    return with_overrides(only_arms(load_recipe("shield-distilled"), [*FORMS, *MASKED]), SMALL | CUT)


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "run"
    return directory, run_loop(small, directory)


@pytest.fixture(scope="module")
def artifacts(finished):
    return finished[0] / "artifacts"


def test_the_students_learn_and_are_asked_in_the_plain_way(finished):
    systems = {system["name"]: system for system in finished[1]["systems"]}
    assert [systems[name]["cost"]["train_steps"] for name in [*FORMS, *MASKED]] == [2, 2, 0, 0]
    assert [systems[form].get("decoding") for form in FORMS] == [None, None]


def test_what_was_learnt_is_kept_with_its_beginnings(artifacts):
    rows = [json.loads(line) for line in (artifacts / "data" / "lora.jsonl").read_text("utf-8").splitlines()]
    assert {bool(row.get("prefill")) for row in rows if row["source"] == "begun"} == {True}
    assert {row["source"] for row in rows} == {"harmful", "benign", "contentious", "begun"}


def test_a_run_that_continues_gives_the_same_bytes(finished, small):
    before = (finished[0] / "results.json").read_bytes()
    run_loop(small, finished[0])
    assert (finished[0] / "results.json").read_bytes() == before


@pytest.mark.parametrize("form", FORMS)
def test_peft_says_the_same_tokens(artifacts, small, form):
    base = models.load(small.model)
    asked = user("Where is the mill?")
    ids = torch.tensor([encode(base.tokenizer, asked)])
    student = PeftModel.from_pretrained(models.load(small.model).model, artifacts / form)
    made = student.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False
    )[0]
    text = base.tokenizer.decode(made[-24:] if form == "lora" else made, skip_special_tokens=True)
    folder = artifacts / form
    treated = models.load_treated(small.model, folder) if form == "lora" else None
    engine = models.local_engine(treated) if treated else soft_prompted(base, folder)
    ((done,),) = engine.generate([GenerationRequest(asked, "", Sampling(temperature=0.0, max_tokens=24))])
    assert done.text.strip()
    assert text.strip().endswith(done.text.strip())


@pytest.mark.parametrize("form", FORMS)
def test_a_shield_that_exists_is_distilled_without_audits(artifacts, small, tmp_path, form):
    recipe = distilled(small, str(artifacts / "contrast"), form)
    again = align(recipe, tmp_path / "run", command="toxoid shield distil")
    one, two = (
        (folder / "adapter_model.safetensors").read_bytes() for folder in (again.path, artifacts / form)
    )
    assert one == two
    card = (again.path / "README.md").read_text("utf-8")
    assert all(part in card for part in ("toxoid shield distil", "harmful 8", "begun 8", "| seed | `0` |"))


def test_a_shield_of_another_model_is_refused(artifacts, small, tmp_path):
    recipe = distilled(small, str(artifacts / "contrast"), "lora")
    with pytest.raises(UsageError, match="weights"):
        align(with_overrides(recipe, {"model.source": "lab-uncensored"}), tmp_path / "run")


def test_what_is_no_shield_is_refused(small, tmp_path):
    with pytest.raises(UsageError, match="there is no folder"):
        align(distilled(small, str(tmp_path / "none"), "lora"), tmp_path / "run")


def test_another_shield_in_the_same_folder_is_another_run(artifacts, small, tmp_path):
    from dataclasses import replace

    from toxoid.engines.shield import load_shield

    shield = load_shield(artifacts / "contrast")
    save_shield(shield, tmp_path / "shield")
    recipe = distilled(small, str(tmp_path / "shield"), "lora")
    align(recipe, tmp_path / "run")
    save_shield(replace(shield, safe=shield.safe * 2), tmp_path / "shield")
    with pytest.raises(UsageError, match="inputs"):
        align(recipe, tmp_path / "run")
