"""Tests of distillation: what the teacher says, and that the student comes to say it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from toxoid.data.schemas import user
from toxoid.engines.contexts import chosen, prompted_engine
from toxoid.engines.contrast import Contrast
from toxoid.engines.explain import combined_logits
from toxoid.engines.loading import LoadedModel
from toxoid.engines.local import LocalEngine
from toxoid.engines.shield import Shield, made_for
from toxoid.engines.soft_prompt import Frame, embed
from toxoid.engines.templates import encode_target
from toxoid.errors import UsageError
from toxoid.progress import SilentProgress
from toxoid.training.examples import Example
from toxoid.training.soft_prompts.distil import (
    DistilCollator,
    distil_rows,
    initial_prompt,
    teacher_logits,
    train_distilled,
)
from toxoid.training.soft_prompts.settings import DistilConfig

from .conftest import make_examples, make_loaded
from .test_resume import Killed, Killer

CONFIG = DistilConfig(learning_rate=0.02, max_steps=30, batch_size=4, save_steps=0, bf16=False)
SOFT = replace(CONFIG, form="soft-prompt")
CONTRASTS = [
    Contrast(),
    Contrast(alpha=0.4, rescale=False, plausibility=0.0),
    Contrast(first=2),
    Contrast(divergence=0.3),
    Contrast(alpha=0.0, plausibility=0.0),
]


def decided() -> LoadedModel:
    """Return the tiny model with weights so large that what it reads makes a difference."""
    made = make_loaded(initializer_range=0.3)
    return LoadedModel(made.model, made.tokenizer, made.source, made.identity)


def make_teacher(contrast: Contrast | None = None, loaded: Any = None) -> LocalEngine:
    """Return the tiny model under a shield whose prompts say something to it."""
    loaded = loaded or decided()
    random = torch.Generator().manual_seed(3)
    size = loaded.model.config.hidden_size
    safe, opposite = (torch.randn(3, size, generator=random) for _ in range(2))
    shield = Shield(safe, opposite, Frame("front"), made_for(loaded), contrast or Contrast())
    return prompted_engine(loaded, chosen({}, shield), shield)


def train(
    folder: Path, teacher: LocalEngine | None = None, replies: list[Example] | None = None, **more: Any
):
    replies = make_examples(8) if replies is None else replies
    given = {
        "output": folder / "adapter",
        "checkpoints": folder / "checkpoints",
        "progress": SilentProgress(),
    }
    return train_distilled(teacher or make_teacher(), replies, more.pop("config", CONFIG), **given | more)


def alone(teacher: LocalEngine, example: Example) -> torch.Tensor:
    """Return the logits that a teacher draws a reply by, read in each context on its own."""
    target = encode_target(teacher.loaded.tokenizer, example.target, prefill=example.prefill or None)
    read = []
    for prompt in teacher.prompts(example.conversation, example.prefill):
        ids = torch.tensor([[*prompt, *target]])
        vectors = embed(teacher.loaded.model, ids, teacher.prompting.table)
        read.append(teacher.loaded.model(inputs_embeds=vectors).logits[0, len(prompt) - 1 : -1])
    positive, *negative = read
    pairs = combined_logits(positive, negative[0] if negative else None, teacher.prompting.contrast)
    return torch.stack([logits for logits, _ in pairs])


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_the_teacher_says_of_a_batch_what_it_says_of_each_reply_alone(contrast):
    teacher, replies = make_teacher(contrast), make_examples(5)
    replies[0] = replace(replies[0], prefill="when rain ")
    batch = DistilCollator(pad=2)(distil_rows(teacher, replies, 256))
    found = teacher_logits(teacher, batch["contexts"], batch["sizes"])
    expected = torch.cat([alone(teacher, example) for example in replies])
    assert found.isfinite().all()
    assert torch.allclose(found.softmax(-1), expected.softmax(-1), atol=1e-5)


def test_who_has_nothing_to_learn_has_no_loss_and_does_not_move(tmp_path):
    result = train(tmp_path, LocalEngine(decided()))
    assert max(map(abs, result.losses)) < 1e-6


def said(folder: Path, config: DistilConfig, replies: list[Example], teacher: LocalEngine) -> float:
    """Return how far an adapter is from the teacher, as PEFT reads it: the mean total variation of the tokens."""
    student = PeftModel.from_pretrained(decided().model, folder)
    batch = DistilCollator(pad=2)(distil_rows(teacher, replies, 256))
    goal = teacher_logits(teacher, batch["contexts"], batch["sizes"]).softmax(-1)
    with torch.no_grad():
        logits = student(input_ids=batch["input_ids"]).logits
    logits = logits[:, logits.shape[1] - batch["input_ids"].shape[1] :]  # PEFT counts its virtual tokens
    return float((logits.flatten(0, 1)[batch["picked"]].softmax(-1) - goal).abs().sum(-1).mean() / 2)


@pytest.mark.parametrize(("config", "left"), [(CONFIG, 0.5), (SOFT, 0.95)], ids=["lora", "soft-prompt"])
def test_the_student_comes_to_say_what_the_teacher_says_in_one_pass(tmp_path, config, left):
    """A prompt of three vectors can say less than an adapter, and begins nearer."""
    teacher, replies = make_teacher(), make_examples(8)
    begun = train(
        tmp_path / "begun", teacher, replies, config=replace(config, max_steps=1, learning_rate=1e-9)
    )
    result = train(tmp_path / "made", teacher, replies, config=replace(config, max_steps=100))
    before, after = (said(made.path, config, replies, teacher) for made in (begun, result))
    assert result.kind == "adapter"
    assert after < before * left
    assert result.losses[-1] < result.losses[0] * left


def test_a_soft_prompt_begins_as_the_shield_s_safe_prompt(tmp_path):
    teacher = make_teacher(
        Contrast(alpha=0.0, plausibility=0.0)
    )  # nothing but the safe prompt, before everything
    assert max(map(abs, train(tmp_path, teacher, config=replace(SOFT, max_steps=1)).losses)) < 1e-6


def test_a_prompt_in_a_system_message_s_place_begins_as_the_whole_message():
    loaded = decided()
    safe, opposite = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(3))
    shield = Shield(safe, opposite, Frame("system", "Be kind."), made_for(loaded))
    prompt = initial_prompt(prompted_engine(loaded, chosen({}, shield), shield))
    around = loaded.tokenizer.convert_tokens_to_ids(["<s>", "<|system|>", "<|end|>"])
    expected = loaded.model.get_input_embeddings()(torch.tensor(around)).detach()
    assert torch.equal(prompt, torch.cat([expected[:2], safe, expected[2:]]))


def test_a_teacher_without_a_prompt_gives_none_to_begin_from():
    with pytest.raises(UsageError, match="nothing to begin from"):
        initial_prompt(LocalEngine(decided()))


@pytest.mark.parametrize("config", [CONFIG, SOFT], ids=lambda config: config.form)
def test_killed_and_resumed_equals_uninterrupted(tmp_path, config):
    config = replace(config, max_steps=8, save_steps=3)
    whole = train(tmp_path / "whole", config=config)
    with pytest.raises(Killed):
        train(tmp_path / "cut", config=config, progress=Killer(5))
    resumed = train(tmp_path / "cut", config=config)
    one, two = ((made.path / "adapter_model.safetensors").read_bytes() for made in (whole, resumed))
    assert one == two
    assert resumed.losses == whole.losses


def test_the_same_training_has_the_same_result_and_leaves_the_teacher_as_it_was(tmp_path):
    teacher = make_teacher()
    before = {name: weight.clone() for name, weight in teacher.loaded.model.named_parameters()}
    folders = [train(tmp_path / name, teacher).path for name in ("one", "two")]
    one, two = ((folder / "adapter_model.safetensors").read_bytes() for folder in folders)
    assert one == two
    assert all(torch.equal(weight, before[name]) for name, weight in teacher.loaded.model.named_parameters())


def test_replies_too_long_in_one_context_are_left_out_whole():
    teacher, (example, *_) = make_teacher(), make_examples(1)
    longest = max(map(len, teacher.prompts(example.conversation)))
    needed = longest + len(encode_target(teacher.loaded.tokenizer, example.target))
    assert len(distil_rows(teacher, [example], needed)) == 1
    assert distil_rows(teacher, [example], needed - 1) == []


@pytest.mark.parametrize("replies", [[], [Example(user("x" * 400), "long")]])
def test_a_training_without_a_reply_that_fits_is_refused_with_one_line(tmp_path, replies):
    with pytest.raises(UsageError, match="none of") as error:
        train(tmp_path, replies=replies)
    assert "\n" not in str(error.value)


def test_a_folder_with_something_else_in_it_is_not_replaced(tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds no earlier training result"):
        train(tmp_path)


def test_only_the_modules_that_are_named_are_trained(tmp_path):
    from safetensors.torch import load_file

    result = train(tmp_path, config=replace(CONFIG, modules=("q_proj",)))
    assert {name.split(".")[-3] for name in load_file(result.path / "adapter_model.safetensors")} == {
        "q_proj"
    }


@pytest.mark.parametrize("name", ["q_prj", "lm_head", ""])
def test_modules_that_are_not_there_are_refused_with_those_that_are(tmp_path, name):
    with pytest.raises(
        UsageError, match=r"no linear layer of that name.*There are down_proj, .*q_proj"
    ) as error:
        train(tmp_path, config=replace(CONFIG, modules=(name,)))
    assert "\n" not in str(error.value)
    assert ('Did you mean "q_proj"' in str(error.value)) == (name == "q_prj")


@pytest.mark.parametrize(
    "settings",
    [{"form": "prefix"}, {"form": "soft-prompt", "modules": ("x",)}, {"mode": "full", "modules": ("x",)}],
)
def test_settings_that_do_not_go_together_are_refused(settings):
    with pytest.raises(UsageError):
        DistilConfig(**settings)


def test_the_card_says_which_form_it_is(tmp_path):
    card = (train(tmp_path, config=SOFT).path / "README.md").read_text("utf-8")
    assert "A soft prompt (PEFT) for" in card
    assert "lora" not in card
