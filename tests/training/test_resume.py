from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from toxoid.errors import ToxoidError, UsageError
from toxoid.training.checkpoints import last_whole
from toxoid.training.sft import SFTConfig

from .conftest import make_examples, make_loaded
from .test_sft import Recorder, same, train, weights

# Three epochs of five steps (the last of each with one micro-batch), dropout: every state has to come back.
CONFIG = SFTConfig(
    learning_rate=1e-2,
    epochs=3,
    batch_size=2,
    gradient_accumulation=2,
    weight_decay=0.1,
    warmup_steps=2,
    save_steps=3,
    bf16=False,
    seed=7,
)
ONE_THREAD = replace(CONFIG, mode="full", threads=1)
EXAMPLES = make_examples(17)


class Killed(BaseException):
    """Stands for the end of the process."""


class Killer(Recorder):
    """Fails at the end of a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def advance(self, count: int = 1) -> None:
        super().advance(count)
        if self.done == self.step:
            raise Killed


def model() -> Any:
    return make_loaded(attention_dropout=0.1)


def killed_at(step: int, config: SFTConfig, folder: Path) -> None:
    with pytest.raises(Killed):
        train(model(), EXAMPLES, config, folder, progress=Killer(step))


# before the first checkpoint; within an epoch; at the last step of one; in the last epoch; twice
@pytest.mark.parametrize("steps", [(2,), (4,), (10,), (14,), (5, 8)])
@pytest.mark.parametrize("mode", ["lora", "full"])
def test_killed_and_resumed_equals_uninterrupted(mode: str, steps: tuple[int, ...], tmp_path: Path):
    config = replace(CONFIG, mode=mode)
    whole = train(model(), EXAMPLES, config, tmp_path / "whole")
    for step in steps:
        killed_at(step, config, tmp_path / "cut")
    resumed = train(model(), EXAMPLES, config, tmp_path / "cut")
    assert same(weights(resumed), weights(whole))
    assert (resumed.losses, resumed.tokens, resumed.steps) == (whole.losses, whole.tokens, whole.steps)


def test_a_checkpoint_at_the_end_of_an_epoch_resumes_with_the_next(tmp_path: Path):
    config = replace(CONFIG, mode="full", save_steps=5)
    whole = train(model(), EXAMPLES, config, tmp_path / "whole")
    killed_at(6, config, tmp_path / "cut")
    assert same(weights(train(model(), EXAMPLES, config, tmp_path / "cut")), weights(whole))


def test_resumption_reports_the_steps_already_done(tmp_path: Path):
    killed_at(7, CONFIG, tmp_path)
    progress = Recorder()
    train(model(), EXAMPLES, CONFIG, tmp_path, progress=progress)
    assert progress.notes[0] == "continuing the training after step 6"
    assert progress.done == progress.total == 15


def test_a_half_written_checkpoint_is_passed_over(tmp_path: Path):
    whole = train(model(), EXAMPLES, CONFIG, tmp_path / "whole")
    killed_at(8, CONFIG, tmp_path / "cut")
    half = tmp_path / "cut" / "checkpoints" / "checkpoint-9"
    half.mkdir()
    (half / "trainable.safetensors").write_bytes(b"half")
    assert same(weights(train(model(), EXAMPLES, CONFIG, tmp_path / "cut")), weights(whole))


def test_one_checkpoint_is_kept(tmp_path: Path):
    killed_at(10, CONFIG, tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["checkpoint-9"]


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"learning_rate": 1e-3}, "settings.learning_rate"), ({"epochs": 4}, "settings.steps")],
)
def test_checkpoints_of_other_settings_are_refused(tmp_path: Path, changed: dict[str, Any], named: str):
    killed_at(4, CONFIG, tmp_path)
    with pytest.raises(UsageError, match=named):
        train(model(), EXAMPLES, replace(CONFIG, **changed), tmp_path)
    assert last_whole(tmp_path / "checkpoints") is not None


def test_checkpoints_of_other_data_are_refused(tmp_path: Path):
    killed_at(4, CONFIG, tmp_path)
    with pytest.raises(UsageError, match="data"):
        train(model(), make_examples(17, seed=9), CONFIG, tmp_path)


CHILD = """
import os, sys
from pathlib import Path
from tests.training.test_resume import EXAMPLES, ONE_THREAD, Recorder, model
from tests.training.test_sft import train

class Exit(Recorder):
    def advance(self, count=1):
        super().advance(count)
        if self.done == 8:
            os._exit(9)

train(model(), EXAMPLES, ONE_THREAD, Path(sys.argv[1]), progress=Exit())
"""


def test_a_killed_process_is_continued_by_another(tmp_path: Path):
    root = Path(__file__).parents[2]
    child = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path / "cut")], cwd=root, check=False)
    assert child.returncode == 9
    assert last_whole(tmp_path / "cut" / "checkpoints") is not None
    cut, whole = (train(model(), EXAMPLES, ONE_THREAD, tmp_path / name) for name in ("cut", "whole"))
    assert same(weights(cut), weights(whole))


def test_weights_under_other_names_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    killed_at(4, CONFIG, tmp_path)
    monkeypatch.setattr("toxoid.training.trainer.load_file", lambda path: {})
    with pytest.raises(ToxoidError, match="does not hold the weights of this model"):
        train(model(), EXAMPLES, CONFIG, tmp_path)
