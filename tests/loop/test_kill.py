"""kill -9 in every stage, the same command again: the results are those of an uninterrupted run."""

import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from tests.loop.conftest import SMALL

STAGES = {
    "the base audit": "records.sqlite",
    "the making of the training set": "artifacts/scored/base.jsonl",
    "training": "artifacts/checkpoints/mistake-analysis",
    "the audit of the treated model": "artifacts/mistake-analysis",
    "the second arm": "artifacts/scored/mistake-analysis.jsonl",
    "the end": "artifacts/scored/sft.jsonl",
}
PATIENCE = 120.0  # seconds; a bound against hanging, not a measurement


def command(directory):
    settings = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    return [
        sys.executable,
        "-m",
        "toxoid",
        "run",
        "--recipe",
        "demo",
        "--method",
        "sft",
        "--out",
        str(directory),
        *settings,
    ]


def run(directory):
    done = subprocess.run(command(directory), capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr


def run_until(directory, sign):
    """Start the run and kill it as soon as ``sign`` exists; True if it was killed before its end."""
    process = subprocess.Popen(
        command(directory), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        if sign.exists():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.005)
    process.kill()
    process.wait()
    return False


def records(directory):
    with sqlite3.connect(directory / "records.sqlite") as connection:
        return connection.execute("SELECT key, payload FROM records ORDER BY key").fetchall()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole") / "run"
    run(directory)
    return directory


def test_a_run_killed_in_every_stage_ends_like_one_that_was_not(uninterrupted, tmp_path):
    directory = tmp_path / "run"
    killed = [stage for stage, sign in STAGES.items() if run_until(directory, directory / sign)]
    assert killed == list(STAGES)
    run(directory)
    assert (directory / "results.json").read_bytes() == (uninterrupted / "results.json").read_bytes()
    assert records(directory) == records(uninterrupted)
    for arm in ("mistake-analysis", "sft"):
        name = f"artifacts/{arm}/model.safetensors"
        assert (directory / name).read_bytes() == (uninterrupted / name).read_bytes()
