from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from toxoid.engines.classifiers.base import Labels, positive
from toxoid.engines.classifiers.encoders import small_encoder
from toxoid.engines.classifiers.folders import load_module
from toxoid.engines.classifiers.inference import ModuleClassifier
from toxoid.engines.classifiers.modules import BagOfWordsModule, ClassifierModule
from toxoid.engines.classifiers.windows import Window
from toxoid.errors import UsageError
from toxoid.progress import SilentProgress
from toxoid.training.checkpoints import last_whole
from toxoid.training.classifier import (
    ClassifierConfig,
    ClassifierResult,
    labelled_rows,
    train_classifier,
    trainable,
)
from toxoid.training.labelled_texts import LabelledText, consistent, split

from .test_resume import Killed, Killer
from .test_sft import Recorder

LABELS = Labels(("harmless", "problematic"), frozenset({"problematic"}), "problematic")
WORDS = ["moss", "lamps", "turn", "blue", "when", "rain", "sings", "over", "copper", "hills", "and", "owls"]
FAST = ClassifierConfig(
    mode="full",
    learning_rate=1e-2,
    epochs=4,
    batch_size=8,
    save_steps=3,
    bf16=False,
    threads=1,
    calibration=0.0,
)


def made_up(count: int, seed: int = 0) -> list[LabelledText]:
    """Return texts that are problematic where "wasps" stands in them."""
    rng = random.Random(seed)
    texts = []
    for index in range(count):
        words = [*rng.choices(WORDS, k=rng.randint(2, 7)), "wasps" if index % 2 else "bees", str(index)]
        rng.shuffle(words)
        texts.append(LabelledText(" ".join(words), index % 2))
    return texts


def encoder(labels: Labels = LABELS) -> ClassifierModule:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        texts = [" ".join([*WORDS, "wasps", "bees", *map(str, range(60))])]
        return small_encoder(texts, labels, window=Window(24, 4), width=16, layers=1, vocabulary=200)


def bag(labels: Labels = LABELS) -> ClassifierModule:
    return BagOfWordsModule(labels, Window(24, 4), buckets=512)


def train(
    start: ClassifierModule, examples: list[LabelledText], config: ClassifierConfig, folder: Path, **more: Any
) -> ClassifierResult:
    given: dict[str, Any] = {"progress": SilentProgress(), "checkpoints": folder / "checkpoints"} | more
    return train_classifier(start, examples, config, output=folder / "out", **given)


def scores(folder: Path, examples: list[LabelledText]) -> np.ndarray:
    classifier = ModuleClassifier(load_module(folder))
    return positive(classifier.labels, classifier.probabilities([example.text for example in examples]))


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


# ---- learning ----


@pytest.mark.parametrize(
    ("make", "config"),
    [
        (bag, replace(FAST, learning_rate=0.3)),
        (encoder, replace(FAST, epochs=6)),
        (encoder, replace(FAST, mode="lora", lora_rank=8, learning_rate=2e-2, epochs=6)),
    ],
    ids=["bag", "full", "lora"],
)
def test_it_learns_what_can_be_told_apart(make: Any, config: ClassifierConfig, tmp_path: Path):
    result = train(make(), made_up(60), config, tmp_path)
    found, other = scores(result.path, made_up(60, seed=1)), made_up(60, seed=1)
    assert ((found > 0.5) == [bool(example.label) for example in other]).mean() > 0.9
    assert result.losses[-1] < result.losses[0]
    assert result.labelled == {"harmless": 30, "problematic": 30}


def test_three_labels_and_exchanges(tmp_path: Path):
    labels = Labels(
        ("compliance", "partial", "refusal"), frozenset({"partial", "refusal"}), "refusal", "exchange"
    )
    said = ["here it is", "some of it but not all", "sorry no"]
    examples = [LabelledText((f"moss {index}", said[index % 3]), index % 3) for index in range(36)]
    result = train(bag(labels), examples, replace(FAST, learning_rate=0.3, epochs=8), tmp_path)
    classifier = ModuleClassifier(load_module(result.path))
    assert classifier.probabilities([("rain", text) for text in said]).argmax(axis=1).tolist() == [0, 1, 2]


@pytest.mark.parametrize(("mode", "changed"), [("head", {"head"}), ("full", {"head", "encoder"})])
def test_the_mode_says_which_weights_change(mode: Any, changed: set[str], tmp_path: Path):
    start = encoder()
    result = train(start, made_up(16), replace(FAST, mode=mode, epochs=1), tmp_path)
    after = load_module(result.path).state_dict()
    differing = {
        name.split(".")[0] for name, old in start.state_dict().items() if not torch.equal(old, after[name])
    }
    assert differing == changed


def test_the_given_module_is_not_changed(tmp_path: Path):
    start = encoder()
    before = {name: weight.clone() for name, weight in start.state_dict().items()}
    train(start, made_up(16), replace(FAST, mode="lora", epochs=1), tmp_path)
    assert before.keys() == start.state_dict().keys()
    assert all(torch.equal(weight, before[name]) for name, weight in start.state_dict().items())
    assert (start.window.tokens, start.temperature) == (24, 1.0)


def test_a_second_training_goes_on_from_the_first_adapter(tmp_path: Path):
    config = replace(FAST, mode="lora", epochs=2)
    first = train(encoder(), made_up(16), config, tmp_path / "first")
    module = load_module(first.path)
    second = train(module, made_up(16), replace(config, learning_rate=1e-12), tmp_path / "second")
    assert second.kind == "adapter"
    assert scores(second.path, made_up(8)) == pytest.approx(scores(first.path, made_up(8)), abs=1e-5)


def test_full_training_after_an_adapter_starts_where_the_adapter_ended(tmp_path: Path):
    first = train(encoder(), made_up(16), replace(FAST, mode="lora", epochs=2), tmp_path / "first")
    again = replace(FAST, learning_rate=1e-12)
    second = train(load_module(first.path), made_up(16), again, tmp_path / "second")
    assert second.kind == "model"
    assert scores(second.path, made_up(8)) == pytest.approx(scores(first.path, made_up(8)), abs=1e-5)


# ---- weights of texts ----


def test_with_balance_every_label_has_the_same_weight_in_sum():
    examples = [replace(e, weight=1.0 + e.label) for e in made_up(12)] + made_up(9, seed=5)[::2]
    rows, dropped = labelled_rows(bag(), examples, balance=True)
    sums = [sum(row.weight for row in rows if row.label == label) for label in (0, 1)]
    assert sums[0] == pytest.approx(sums[1])
    assert dropped == 0


def test_the_windows_of_a_long_text_share_its_weight():
    long = LabelledText("moss owls " * 40, 1, weight=3.0)
    rows, _ = labelled_rows(bag(), [long, *made_up(2)], balance=False)
    windows = [row.weight for row in rows if row.row.text == 0]
    assert len(windows) > 3
    assert windows == pytest.approx([3.0 / len(windows)] * len(windows))


def test_max_length_shortens_the_window_of_the_result(tmp_path: Path):
    result = train(bag(), made_up(8), replace(FAST, epochs=1, max_length=12), tmp_path)
    assert load_module(result.path).window == Window(12, 3)


# ---- resumption ----


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_killed_and_resumed_equals_uninterrupted(mode: Any, tmp_path: Path):
    config = replace(FAST, mode=mode, epochs=2, calibration=0.2)
    whole = train(encoder(), made_up(30), config, tmp_path / "whole")
    with pytest.raises(Killed):
        train(encoder(), made_up(30), config, tmp_path / "cut", progress=Killer(4))
    assert last_whole(tmp_path / "cut" / "checkpoints") is not None
    resumed = train(encoder(), made_up(30), config, tmp_path / "cut")
    assert weights(resumed.path) == weights(whole.path)
    assert (resumed.losses, resumed.calibration) == (whole.losses, whole.calibration)
    assert not (tmp_path / "cut" / "checkpoints").exists()


def test_the_mean_of_trainings_is_that_of_their_weights(tmp_path: Path):
    texts, config = made_up(20), replace(FAST, epochs=1, calibration=0.0, threshold=0.5)
    both = train(encoder(), texts, replace(config, trainings=2), tmp_path / "both")
    alone = [train(encoder(), texts, replace(config, seed=seed), tmp_path / str(seed)) for seed in (0, 1)]
    states = [load_module(result.path).state_dict() for result in alone]
    for name, weight in load_module(both.path).state_dict().items():
        torch.testing.assert_close(weight, (states[0][name] + states[1][name]) / 2)
    assert both.losses == alone[0].losses + alone[1].losses


@pytest.mark.parametrize("step", [1, 4])
def test_several_trainings_are_resumed(step: int, tmp_path: Path):
    config = replace(FAST, epochs=1, save_steps=1, trainings=2, calibration=0.2)
    whole = train(bag(), made_up(30), config, tmp_path / "whole")
    with pytest.raises(Killed):
        train(bag(), made_up(30), config, tmp_path / "cut", progress=Killer(step))
    resumed = train(bag(), made_up(30), config, tmp_path / "cut")
    assert weights(resumed.path) == weights(whole.path)
    assert not (tmp_path / "cut" / "checkpoints").exists()


def test_checkpoints_of_other_texts_are_refused(tmp_path: Path):
    with pytest.raises(Killed):
        train(bag(), made_up(30), FAST, tmp_path, progress=Killer(4))
    with pytest.raises(UsageError, match="data"):
        train(bag(), made_up(30, seed=9), FAST, tmp_path)


# ---- calibration ----


def noisy(count: int, seed: int) -> list[LabelledText]:
    """Return texts of which a third has the wrong label: who learns them by heart is too sure of himself."""
    rng = random.Random(seed)
    return [
        LabelledText(f"{e.text} {seed}-{i}", e.label ^ (rng.random() < 1 / 3))
        for i, e in enumerate(made_up(count, seed))
    ]


def test_calibration_lowers_the_error_of_what_was_learnt_by_heart(tmp_path: Path):
    config = replace(FAST, learning_rate=0.5, epochs=8, calibration=0.4)
    result = train(bag(), noisy(120, seed=0), config, tmp_path)
    found = result.calibration
    assert found is not None
    assert found.temperature > 1.5
    assert found.ece_after < found.ece_before
    assert load_module(result.path).temperature == found.temperature
    assert found.texts + result.examples == 120


def test_the_threshold_is_found_by_its_rule_and_saved(tmp_path: Path):
    config = replace(FAST, learning_rate=0.1, calibration=0.3, threshold={"recall": 0.9})
    examples = made_up(60)
    result = train(bag(), examples, config, tmp_path)
    assert result.calibration is not None
    threshold = load_module(result.path).labels.threshold
    assert threshold == result.calibration.threshold
    kept = [example for example in split(examples, 0.3, seed=0)[1] if example.label]
    assert (scores(result.path, kept) >= threshold).mean() >= 0.9


def test_without_calibration_the_threshold_is_the_number_given(tmp_path: Path):
    result = train(bag(), made_up(8), replace(FAST, epochs=1, threshold=0.3), tmp_path)
    module = load_module(result.path)
    assert (module.labels.threshold, module.temperature, result.calibration) == (0.3, 1.0, None)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_group_falls_on_one_side_and_every_label_on_both(share: float):
    pairs = [replace(e, group=f"pair {i // 2}") for i, e in enumerate(made_up(40))]
    alone = made_up(10, seed=3)
    learnt, kept = split([*pairs, *alone], share, seed=0)
    sides = [{example.group for example in side if example.group} for side in (learnt, kept)]
    assert not sides[0] & sides[1]
    assert {example.label for example in kept} == {example.label for example in learnt} == {0, 1}
    assert len(kept) == round(share * 20) * 2 + 2 * max(1, round(share * 5))


def test_the_split_does_not_depend_on_the_order():
    examples = made_up(30)
    assert set(split(examples, 0.3, seed=1)[1]) == set(split(examples[::-1], 0.3, seed=1)[1])


# ---- the folder ----


def test_the_card_says_how_it_was_trained(tmp_path: Path):
    result = train(bag(), made_up(16), FAST, tmp_path, card={"data": ["made up"], "licence": "CC0-1.0"})
    card = json.loads((result.path / "classifier.json").read_text("utf-8"))["card"]
    assert card["data"] == ["made up"]
    assert card["training"]["labelled"] == {"harmless": 8, "problematic": 8}
    assert card["fingerprint"]["settings"]["learning_rate"] == 1e-2
    assert str(tmp_path) not in json.dumps(card)


# ---- bad input ----


def test_texts_with_contradicting_labels_are_counted_and_left_out(tmp_path: Path):
    progress = Recorder()
    twice = [LabelledText("Moss, owls!", 0), LabelledText("moss owls", 1)]
    result = train(bag(), [*made_up(16), *twice], FAST, tmp_path, progress=progress)
    assert (result.contradicting, result.examples) == (2, 16)
    assert any("2 were left out" in note for note in progress.notes)


def test_a_text_given_twice_with_one_label_counts_twice():
    twice = [LabelledText("moss owls", 1), LabelledText("moss owls", 1)]
    assert consistent(twice, LABELS) == (twice, 0)


def test_texts_with_nothing_to_read_are_counted_and_left_out(tmp_path: Path):
    result = train(bag(), [*made_up(16), LabelledText(" \n", 1), LabelledText("\x00", 0)], FAST, tmp_path)
    assert (result.dropped, result.examples) == (2, 16)


@pytest.mark.parametrize(
    ("examples", "said"),
    [
        ([], "0 harmless, 0 problematic"),
        ([LabelledText("moss", 1), LabelledText("owls", 1)], "0 harmless, 2 problematic"),
        ([LabelledText("moss", 0), LabelledText("owls", 2)], "label 2"),
        ([LabelledText("moss", 0), LabelledText("owls", -1)], "label -1"),
        ([LabelledText("moss", 0), LabelledText("owls", 1, weight=0.0)], "weight 0.0"),
        ([LabelledText("\x00", 0), LabelledText("\x01", 1)], "nothing to read"),
        ([LabelledText(("moss", "owls"), 0), LabelledText(("moss", "blue"), 1)], "reads requests"),
    ],
)
def test_what_cannot_be_learnt_is_refused(examples: list[LabelledText], said: str, tmp_path: Path):
    with pytest.raises(UsageError, match=said):
        train(bag(), examples, FAST, tmp_path)


def test_one_text_of_each_label_is_too_few_to_calibrate(tmp_path: Path):
    with pytest.raises(UsageError, match="0 harmless, 0 problematic"):
        train(bag(), made_up(2), replace(FAST, calibration=0.1), tmp_path)


def test_a_folder_with_something_else_is_refused_before_training(tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds no earlier classifier"):
        train(bag(), made_up(8), FAST, tmp_path)


def test_a_bag_of_words_takes_no_adapter():
    with pytest.raises(UsageError, match="set mode to full"):
        trainable(bag(), replace(FAST, mode="lora"))


def test_an_adapter_of_another_size_is_refused():
    small = trainable(encoder(), replace(FAST, mode="lora", lora_rank=4))
    with pytest.raises(UsageError, match="lora_rank"):
        trainable(small, replace(FAST, mode="lora", lora_rank=8))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"mode": "qlora"}, "mode"),
        ({"smoothing": 1.0}, "smoothing"),
        ({"calibration": -0.1}, "calibration"),
        ({"threshold": 2.0}, "threshold"),
        ({"threshold": "balanced", "calibration": 0.0}, "set calibration above 0"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"trainings": 0}, "trainings"),
        ({"trainings": 2, "mode": "lora"}, "adapters have no mean"),
    ],
)
def test_settings_out_of_range_are_refused(given: dict[str, Any], said: str):
    with pytest.raises(UsageError, match=said):
        ClassifierConfig(**given)
