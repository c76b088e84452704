"""The examples run, and do what their first line says."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name, *arguments, cwd):
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_treatment_is_proved(tmp_path):
    told = run("treat_and_prove.py", "--method", "sft", "--limit", "4", "--steps", "2", cwd=tmp_path)
    assert "before" in told
    assert (tmp_path / "runs/proof/report.html").is_file()


def test_own_attack_is_compared_by_attack(tmp_path):
    told = run("own_attack.py", "--limit", "3", cwd=tmp_path)
    assert "attack: claim" in told
    assert "attack: direct" in told


def test_file_is_judged_row_by_row(tmp_path):
    rows = [("How?", "I'm sorry, but I can't help with that."), ("How?", "Turn the key, then push.")]
    with (tmp_path / "replies.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("prompt", "reply"), *rows])
    told = run("judge_a_file.py", "replies.csv", cwd=tmp_path)
    assert [line.split() for line in told.splitlines()[:3]] == [
        ["hit", "1"],
        ["miss", "1"],
        ["unscored", "0"],
    ]
    with (tmp_path / "replies.verdicts.csv").open(encoding="utf-8", newline="") as stream:
        assert [row["outcome"] for row in csv.DictReader(stream)] == ["hit", "miss"]
