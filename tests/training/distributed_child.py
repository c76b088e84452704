"""What one process of a launch does in the tests of distributed training: train, twice."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from toxoid.data.groups import Group, RankedReply
from toxoid.data.schemas import user
from toxoid.progress import SILENT
from toxoid.training.artifacts import TrainingResult
from toxoid.training.preference import Objective, PreferenceConfig, PreferenceExample, train_preferences
from toxoid.training.sft import SFTConfig, train_sft
from toxoid.training.trainer import StepTrainer

from .conftest import make_examples, make_loaded

SETTINGS: dict[str, Any] = {
    "mode": "full",
    "learning_rate": 1e-3,
    "gradient_accumulation": 2,
    "epochs": 2,
    "save_steps": 2,
    "bf16": False,
    "threads": 1,
    "seed": 3,
}
GLOBAL_BATCH = 4
CHATS = make_examples(19)  # of 16 per step: the last forward pass of an epoch is short, and uneven


def sft(folder: Path, processes: int) -> TrainingResult:
    config = SFTConfig(**SETTINGS, batch_size=GLOBAL_BATCH // processes)
    return train_sft(make_loaded(), CHATS, config, **places(folder / "sft"))


def preferences(folder: Path, processes: int) -> TrainingResult:
    objective = Objective(beta=0.5, imitation=0.5, kl=1.0, anchor_nll=0.2)
    config = PreferenceConfig(**SETTINGS, batch_size=GLOBAL_BATCH // processes, objective=objective)
    config = replace(config, mode="lora", learning_rate=1e-2)
    return train_preferences(
        make_loaded(), groups(), config, anchors=CHATS[:7], **places(folder / "preferences")
    )


def groups() -> list[PreferenceExample]:
    made = []
    for index, (first, second) in enumerate(
        zip(make_examples(9, seed=1), make_examples(9, seed=2), strict=True)
    ):
        texts = [first.target, f"{first.target} {second.target}", f"so {second.target} then"]
        replies = tuple(RankedReply(text, rank) for rank, text in enumerate(texts))
        group = Group(str(index), user(f"say {index}"), replies)
        made.append(PreferenceExample(group, ((0, 1, 1.0), (0, 2, 2.0)), ((0, 0),)))
    return made


def places(folder: Path) -> dict[str, Any]:
    return {"output": folder / "result", "checkpoints": folder / "checkpoints", "progress": SILENT}


def killed_at(step: int) -> None:
    """Let this process end without a word after a step."""
    done = StepTrainer._step_done

    def die(trainer: StepTrainer, number: int) -> None:
        done(trainer, number)
        if number == step:
            os._exit(9)

    StepTrainer._step_done = die  # type: ignore[method-assign]


if __name__ == "__main__":
    target, kill = Path(sys.argv[1]), int(sys.argv[2])
    if kill:
        killed_at(kill)
    for run in (sft, preferences):
        run(target, int(os.environ["WORLD_SIZE"]))
