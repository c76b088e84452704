from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from toxoid.errors import ToxoidError, UsageError
from toxoid.progress import SilentProgress
from toxoid.training.artifacts import FACTS, Card, TrainingResult
from toxoid.training.checkpoints import last_whole
from toxoid.training.preference import Objective, PreferenceConfig, PreferenceExample, train_preferences
from toxoid.training.trainer import Diverged

from ..conftest import Loaded, make_loaded
from ..test_resume import Killed, Killer
from ..test_sft import Recorder, same
from .helpers import compared, loose_pair, prepared, random_examples, some_anchors

FULL = PreferenceConfig(
    mode="full",
    objective=Objective(beta=0.5, kl=1.0, anchor_nll=0.2, imitation=0.3),
    learning_rate=1e-2,
    epochs=2,
    batch_size=2,
    gradient_accumulation=2,
    save_steps=0,
    bf16=False,
)
LORA = replace(FULL, mode="lora", learning_rate=5e-2)
EXAMPLES = random_examples(0, count=7)
ANCHORS = some_anchors(5)


def train(
    loaded: Any,
    folder: Path,
    config: PreferenceConfig = FULL,
    examples: Sequence[PreferenceExample] = EXAMPLES,
    **more: Any,
) -> TrainingResult:
    given: dict[str, Any] = {"progress": SilentProgress(), "anchors": ANCHORS} | more
    return train_preferences(
        loaded, examples, config, output=folder / "out", checkpoints=folder / "checkpoints", **given
    )


def weights(result: TrainingResult) -> dict[str, torch.Tensor]:
    name = "adapter_model.safetensors" if result.kind == "adapter" else "model.safetensors"
    return load_file(result.path / name)


@pytest.mark.parametrize("config", [FULL, LORA], ids=["full", "lora"])
def test_training_orders_the_replies(config: PreferenceConfig, tmp_path: Path):
    progress = Recorder()
    result = train(make_loaded(), tmp_path, replace(config, epochs=8), progress=progress)
    accuracy = [
        float(note.split("accuracy ")[1].split(",")[0]) for note in progress.notes if "accuracy" in note
    ]
    assert result.losses[-1] < result.losses[0]
    assert accuracy[-1] > 0.9 > accuracy[0]


def test_before_the_first_step_the_model_is_the_reference(tmp_path: Path):
    config = replace(FULL, objective=Objective(kl=1.0), max_steps=1)
    assert train(make_loaded(), tmp_path, config).losses[0] == pytest.approx(0.6931472, rel=1e-5)


def test_accumulated_micro_batches_equal_one_batch(tmp_path: Path):
    given = replace(FULL.objective, anchors_per_group=2.0)
    whole, cut = (
        train(make_loaded(), tmp_path / str(size), replace(FULL, objective=given, batch_size=size, epochs=1,
              gradient_accumulation=8 // size), examples=EXAMPLES[:1] * 8)
        for size in (8, 2)
    )  # fmt: skip
    assert whole.losses == pytest.approx(cut.losses, rel=1e-5)


@pytest.mark.parametrize("config", [FULL, LORA], ids=["full", "lora"])
def test_the_callers_model_is_not_changed(config: PreferenceConfig, tmp_path: Path):
    loaded = make_loaded()
    before = {name: weight.clone() for name, weight in loaded.model.state_dict().items()}
    settings, kernel = loaded.model.config.to_dict(), loaded.model.config._attn_implementation
    train(loaded, tmp_path, config)
    assert same(loaded.model.state_dict(), before)
    assert (loaded.model.config.to_dict(), loaded.model.config._attn_implementation) == (settings, kernel)
    assert all(weight.grad is None for weight in loaded.model.parameters())


def test_the_same_seed_gives_the_same_weights_and_another_one_others(tmp_path: Path):
    a, b, c = (
        weights(train(make_loaded(), tmp_path / name, replace(LORA, seed=seed)))
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert same(a, b)
    assert not same(a, c)


def test_counts_are_of_groups_and_distinct_tokens(tmp_path: Path):
    loaded = make_loaded()
    given = replace(FULL, objective=Objective(), epochs=1)
    once, alone = (
        train(loaded, tmp_path / kind, replace(given, attention=kind), anchors=())
        for kind in ("sdpa", "plain")
    )
    assert (once.examples, once.steps) == (7, 2)
    assert once.tokens < 0.6 * alone.tokens
    assert once.losses == pytest.approx(alone.losses, rel=1e-4)


def test_a_bfloat16_training_is_near_the_exact_one(tmp_path: Path):
    exact, rough = (
        train(make_loaded(), tmp_path / str(bf16), replace(FULL, bf16=bf16)).losses for bf16 in (False, True)
    )
    assert exact != rough
    assert exact == pytest.approx(rough, rel=3e-2)


def test_simpo_needs_no_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("toxoid.training.preference.train.reference_margins", None)
    result = train(
        make_loaded(), tmp_path, replace(FULL, objective=Objective(loss="simpo", beta=2.0, gamma=0.5))
    )
    assert result.losses[-1] < result.losses[0]


def test_every_part_of_the_loss_is_told_for_every_step(tmp_path: Path):
    given = replace(FULL.objective, anchors_per_group=0.1)  # most steps have no anchor
    found = prepared(make_loaded(), EXAMPLES, given, tmp_path, anchors=ANCHORS, max_steps=12).trainer.run()
    assert {name: len(values) for name, values in found.parts.items()} == dict.fromkeys(
        ("preference", "accuracy", "imitation", "kl", "anchor nll"), 12
    )
    told = zip(*(found.parts[name] for name in ("preference", "imitation", "kl", "anchor nll")), strict=True)
    sums = [p + 0.3 * i + 1.0 * k + 0.2 * n for p, i, k, n in told]
    assert sums == pytest.approx(found.losses, rel=1e-4)


def test_imitation_alone_needs_no_pairs(tmp_path: Path):
    examples = [replace(example, pairs=()) for example in EXAMPLES]
    config = replace(FULL, objective=Objective(weight=0.0, imitation=1.0), epochs=4)
    result = train(make_loaded(), tmp_path, config, examples)
    assert result.losses[-1] < result.losses[0] - 0.1


def test_the_facts_and_the_card_tell_the_objective(tmp_path: Path):
    result = train(make_loaded(), tmp_path, card=Card(method="course-correction"))
    facts = json.loads((result.path / FACTS).read_text())
    assert facts["fingerprint"]["settings"]["objective.kl"] == 1.0
    assert "objective.loss | `sigmoid`" in (result.path / "README.md").read_text()


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    train(make_loaded(), tmp_path, replace(LORA, save_steps=1))
    assert capfd.readouterr() == ("", "")


# ---- resume ----


def dropping_out() -> Loaded:
    return make_loaded(attention_dropout=0.1)


@pytest.mark.parametrize("steps", [(2,), (5,), (3, 6)])
@pytest.mark.parametrize("config", [FULL, LORA], ids=["full", "lora"])
def test_killed_and_resumed_equals_uninterrupted(
    config: PreferenceConfig, steps: tuple[int, ...], tmp_path: Path
):
    saving = replace(config, save_steps=2, epochs=4)
    whole = train(dropping_out(), tmp_path / "whole", saving)
    for step in steps:
        with pytest.raises(Killed):
            train(dropping_out(), tmp_path / "cut", saving, progress=TrainingKiller(step))
    resumed = train(dropping_out(), tmp_path / "cut", saving)
    assert same(weights(resumed), weights(whole))
    assert (resumed.losses, resumed.tokens) == (whole.losses, whole.tokens)


class TrainingKiller(Killer):
    """Fails at the end of a training step; the reference is left alone."""

    def task(self, name: str, total: int, unit: str = "items") -> Any:
        return super().task(name, total, unit) if name == "train" else SilentProgress().task(name, total)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"objective": replace(FULL.objective, beta=0.4)}, "settings.objective.beta"),
        ({"attention": "plain"}, "settings.attention"),
    ],
)
def test_checkpoints_of_other_settings_are_refused(tmp_path: Path, changed: dict[str, Any], named: str):
    saving = replace(FULL, save_steps=1)
    with pytest.raises(Killed):
        train(make_loaded(), tmp_path, saving, progress=TrainingKiller(2))
    with pytest.raises(UsageError, match=named):
        train(make_loaded(), tmp_path, replace(saving, **changed))


@pytest.mark.parametrize("what", ["weight", "imitated", "anchors"])
def test_checkpoints_of_other_data_are_refused(tmp_path: Path, what: str):
    saving = replace(FULL, save_steps=1)
    with pytest.raises(Killed):
        train(make_loaded(), tmp_path, saving, progress=TrainingKiller(2))
    first = EXAMPLES[0]
    changed = {
        "weight": replace(first, pairs=((0, 1, 9.0), *first.pairs[1:])),
        "imitated": replace(first, imitated=((0, 1),)),
        "anchors": first,
    }[what]
    anchors = ANCHORS[:-1] if what == "anchors" else ANCHORS
    with pytest.raises(UsageError, match="different: data"):
        train(make_loaded(), tmp_path, saving, [changed, *EXAMPLES[1:]], anchors=anchors)


# ---- what can be wrong ----


def test_a_loss_that_is_no_number_stops_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from toxoid.training.preference import trainer

    true_loss, calls = trainer.pair_losses, []

    def failing(*given: Any) -> Any:
        calls.append(1)
        return true_loss(*given) * (float("nan") if len(calls) == 7 else 1.0)

    monkeypatch.setattr(trainer, "pair_losses", failing)
    with pytest.raises(Diverged, match=r"step 4 of 4.*checkpoint of step 2 is kept"):
        train(make_loaded(), tmp_path, replace(FULL, save_steps=2))
    assert last_whole(tmp_path / "checkpoints") is not None
    assert not (tmp_path / "out").exists()


def test_damaged_weights_are_told(tmp_path: Path):
    loaded = make_loaded()
    loaded.model.model.norm.weight.data.fill_(float("inf"))
    with pytest.raises(ToxoidError, match="a log-probability that is no number: its weights are damaged"):
        train(loaded, tmp_path)


def test_a_group_without_pairs_is_an_error(tmp_path: Path):
    lonely = replace(EXAMPLES[1], pairs=())
    with pytest.raises(UsageError, match="group g1 has no pairs, and the weight of the preferences is 1"):
        train(make_loaded(), tmp_path, examples=[EXAMPLES[0], lonely])


def test_nothing_to_imitate_is_an_error(tmp_path: Path):
    with pytest.raises(UsageError, match=r"imitation is 0\.3 and no group has a reply to imitate"):
        train(make_loaded(), tmp_path, examples=[replace(EXAMPLES[0], imitated=())])


def test_no_groups_are_an_error(tmp_path: Path):
    with pytest.raises(UsageError, match="0 groups"):
        train(make_loaded(), tmp_path, examples=[])


def test_missing_anchors_are_an_error(tmp_path: Path):
    with pytest.raises(UsageError, match=r"kl is 1 and anchor_nll 0\.2, and of 0 anchors none"):
        train(make_loaded(), tmp_path, anchors=())


def test_anchors_that_do_nothing_are_told(tmp_path: Path):
    progress = Recorder()
    train(make_loaded(), tmp_path, replace(FULL, objective=Objective()), progress=progress)
    assert progress.notes[0] == "5 anchors are not used: kl and anchor_nll are both 0"


def test_what_does_not_fit_is_left_out_and_told(tmp_path: Path):
    progress, longer = Recorder(), loose_pair(random.Random(1), "long")
    replies = (replace(longer.replies[0], text="x" * 300), longer.replies[1])
    too_long = compared(replace(longer, replies=replies))
    result = train(
        make_loaded(), tmp_path, replace(FULL, max_length=100), [*EXAMPLES, too_long], progress=progress
    )
    assert (result.examples, result.dropped) == (7, 1)
    assert "1 lost the beginning of their context and 1 were left out: longer than 100" in progress.notes[0]


def test_groups_that_all_do_not_fit_are_an_error(tmp_path: Path):
    with pytest.raises(UsageError, match="none of 7 groups fits into 5 tokens with its longest reply"):
        train(make_loaded(), tmp_path, replace(FULL, max_length=5))
