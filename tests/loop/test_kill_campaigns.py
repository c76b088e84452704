"""kill -9 in the middle of conversations, the same command again: the results are those of an uninterrupted audit."""

import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.slow
PATIENCE = 240.0  # seconds; a bound against hanging, not a measurement
SETTINGS = {
    "audit.attacks.campaigns": "[crescendo, adaptive]",
    "audit.campaigns.queries": 12,
    "audit.guided": "true",  # it declines often, so that campaigns take many turns
    "data.limit": 12,
}


def command(directory):
    settings = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    audit = [
        sys.executable,
        "-m",
        "toxoid",
        "audit",
        "lab-base",
        "--suite",
        "standard",
        "--task",
        "campaigns",
    ]
    return [*audit, "--out", str(directory), *settings]


def records(directory):
    """Return what is kept so far; nothing where the run has not begun to keep."""
    try:
        with sqlite3.connect(f"file:{directory / 'records.sqlite'}?mode=ro", uri=True) as connection:
            return connection.execute("SELECT key, payload FROM records ORDER BY key").fetchall()
    except sqlite3.OperationalError:
        return []


def run_until(directory, kept):
    """Start the audit and kill it as soon as ``kept`` records are there; return how many there were."""
    process = subprocess.Popen(
        command(directory), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None and len(records(directory)) < kept:
        time.sleep(0.005)
    assert process.poll() is None, "the audit ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return len(records(directory))


def test_conversations_that_were_killed_go_on_where_they_were(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run(command(whole), check=True, capture_output=True, timeout=PATIENCE)
    everything = records(whole)
    for part in (3, 2):
        assert run_until(cut, len(everything) // part) < len(everything)
        assert not (cut / "results.json").exists()
    subprocess.run(command(cut), check=True, capture_output=True, timeout=PATIENCE)
    assert (cut / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    assert records(cut) == everything
