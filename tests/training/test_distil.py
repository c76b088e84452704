"""Tests of distillation: what the teacher says, and that the student comes to say it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from toxoid.data.schemas import user
from toxoid.engines.base import Sampling
from toxoid.engines.contexts import chosen, prompted_engine
from toxoid.engines.contrast import Contrast
from toxoid.engines.explain import combined_logits
from toxoid.engines.local import LocalEngine
from toxoid.engines.shield import Shield, made_for
from toxoid.engines.soft_prompt import Frame, embed
from toxoid.engines.templates import encode_target
from toxoid.errors import UsageError
from toxoid.progress import SilentProgress
from toxoid.training.examples import Example
from toxoid.training.settings import TrainingConfig
from toxoid.training.soft_prompts.distil import (
    DistilCollator,
    distil_rows,
    teacher_logits,
    teacher_replies,
    train_distilled,
)

from .conftest import make_examples, make_loaded

CONFIG = TrainingConfig(learning_rate=0.02, max_steps=30, batch_size=4, save_steps=0, bf16=False)
CONTRASTS = [
    Contrast(),
    Contrast(alpha=0.4, rescale=False, plausibility=0.0),
    Contrast(first=2),
    Contrast(divergence=0.3),
    Contrast(alpha=0.0, plausibility=0.0),
]


def decided() -> Any:
    """Return the tiny model with weights so large that what it reads makes a difference."""
    return make_loaded(initializer_range=0.3)


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


def test_the_student_comes_to_say_what_the_teacher_says_in_one_pass_without_prompts(tmp_path):
    from peft import PeftModel

    teacher = make_teacher()
    replies = make_examples(8)
    result = train(tmp_path, teacher, replies, config=TrainingConfig(**{**vars(CONFIG), "max_steps": 100}))
    student = PeftModel.from_pretrained(decided().model, result.path)
    batch = DistilCollator(pad=2)(distil_rows(teacher, replies, 256))
    goal = teacher_logits(teacher, batch["contexts"], batch["sizes"]).softmax(-1)

    def distance(model):
        logits = model(input_ids=batch["input_ids"]).logits.flatten(0, 1)[batch["picked"]]
        return float((logits.softmax(-1) - goal).abs().sum(-1).mean() / 2)

    with torch.no_grad():
        before, after = distance(teacher.loaded.model), distance(student)
    assert result.kind == "adapter"
    assert after < before / 2
    assert result.losses[-1] < result.losses[0] / 4


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


def test_replies_to_learn_from_depend_on_seed_and_place_alone():
    teacher, asked = (
        make_teacher(),
        [(user(word), word[:begun]) for begun, word in enumerate(("moss", "lamps", "rain"))],
    )

    def drawn(requests):
        found = teacher_replies(
            teacher,
            requests,
            each=2,
            sampling=Sampling(max_tokens=5),
            seed=1,
            progress=SilentProgress(),
        )
        return [(reply.conversation, reply.prefill, reply.target) for reply in found]

    assert [tuple(given) for *given, _ in drawn(asked)] == [each for each in asked for _ in range(2)]
    assert drawn(asked)[:4] == drawn(asked[:2])
    assert len(set(drawn(asked))) > 3
