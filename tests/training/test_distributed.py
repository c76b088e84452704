from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from toxoid.training.checkpoints import last_whole

from . import distributed_child as child

ROOT = Path(__file__).parents[2]


def launched(folder: Path, *, kill: int = 0) -> list[int]:
    """Run the child in two processes that know of each other, as a launcher starts them; return their codes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launch = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.training.distributed_child", str(folder), str(kill)],
            cwd=ROOT,
            env={**os.environ, **launch, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    return [process.wait(timeout=120) for process in started]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same trainings in one process, and in two that were killed after three steps and started again."""
    made = {name: tmp_path_factory.mktemp(name) for name in ("one", "two")}
    child.sft(made["one"], 1)
    child.preferences(made["one"], 1)
    assert launched(made["two"], kill=3) == [9, 9]
    kept = last_whole(made["two"] / "sft" / "checkpoints")
    assert kept is not None
    assert kept.name == "checkpoint-2"
    assert launched(made["two"]) == [0, 0]
    return made


def facts(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "result" / "training.json").read_text("utf-8"))
    return read["result"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = (folder / "result").glob("*.safetensors")
    return load_file(file)


@pytest.mark.parametrize("kind", ["sft", "preferences"])
def test_two_processes_killed_and_resumed_have_the_loss_curve_of_one(folders, kind):
    one, two = (facts(folders[name] / kind) for name in ("one", "two"))
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-4)
    assert {key: two[key] for key in ("steps", "tokens", "examples")} == {
        key: one[key] for key in ("steps", "tokens", "examples")
    }


@pytest.mark.parametrize("kind", ["sft", "preferences"])
def test_two_processes_end_with_the_weights_of_one(folders, kind):
    one, two = (weights(folders[name] / kind) for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-3, atol=1e-5)


def test_checkpoints_of_all_processes_are_gone_after_success(folders):
    left = [path for path in folders["two"].rglob("*") if "checkpoint" in path.name or "partial" in path.name]
    assert left == []
