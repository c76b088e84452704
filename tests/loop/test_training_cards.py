"""The data card beside a training set."""

from __future__ import annotations

from toxoid.loop.run import align
from toxoid.loop.training_cards import licence_of


def test_card_names_sets_hashes_licences_and_counts(tmp_path, small_recipe):
    align(small_recipe, tmp_path / "run")
    card = (tmp_path / "run/artifacts/data/mistake-analysis.md").read_text("utf-8")
    assert "license: apache-2.0" in card
    assert "| lab-harmful" in card
    assert "data_files: mistake-analysis.jsonl" in card
    rows = (tmp_path / "run/artifacts/data/mistake-analysis.jsonl").read_text("utf-8").splitlines()
    counted = [
        line.split("|")[2] for line in card.split("## Rows")[1].split("##")[0].splitlines()[4:] if "|" in line
    ]
    assert sum(map(int, counted)) == len(rows)


def test_licences_are_joined_and_unknown_ones_named():
    assert licence_of(["lab-harmful", "contrast"]) == "Apache-2.0"
    told = licence_of(["advbench", "alpaca", "mine.csv"])
    assert told == "CC-BY-NC-4.0; MIT; unknown (mine.csv)"
