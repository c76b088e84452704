"""Scores in a model's folder: the card keeps its own text, the Hub can read the rest."""

from __future__ import annotations

import pytest
import yaml

from tests.report.synthetic import rate, row
from toxoid.errors import UsageError
from toxoid.report.model_card import eval_results, scores_section, with_scores, write_model_card

CARD = "---\nbase_model: lab-base\n---\n\n# A model\n\n## Limits\n\nNone known.\n"
SYSTEM = {
    "name": "arm",
    "label": "Arm",
    "rates": [
        rate(0.8, task="harmfulness", metric="harmless_rate"),
        rate(0.1, task="harmfulness", metric="harmless_rate", category="fraud"),
        rate(None, task="harmfulness", metric="validity_rate"),
        rate(0.05, task="over-refusal", metric="over_refusal_rate", better="lower", unscored=48),
    ],
}


def results(**meta):
    recipe = {"data": {"sets": {"harmful": "folder/own set.jsonl", "contentious": "xstest"}}}
    rows = [row(0.3, half=0.05)]
    return {
        "meta": {"seed": 0, "samples": 2, "fingerprint": {"recipe": recipe}, **meta},
        "rows": rows,
        "systems": [SYSTEM],
        "comparisons": [{"before": "base", "after": "arm", "headline": True, "rows": rows}],
        "judge_card": {"name": "lab-oracle"},
    }


def test_the_section_has_a_line_per_overall_rate_and_the_verdict():
    section = scores_section(results(), SYSTEM)
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    assert len(lines) == 2 + 3
    assert "| 80.0 % | 74.0 to 85.0 | 50.0 % | +30.0 | 25.0 to 35.0 | 240 |" in lines[2]
    assert "| – | – | – | – | – | 240 |" in lines[3]
    assert "Harmless rate rose by 30.0 points" in section
    assert "judge lab-oracle" in section


def test_scores_are_added_once_and_replaced_in_place():
    first = with_scores(CARD, "## Scores\n\nold")
    assert first == f"{CARD}\n## Scores\n\nold\n"
    assert with_scores(first, "## Scores\n\nold") == first
    between = CARD.replace("## Limits", "## Scores\n\nold\n\n## Limits")
    assert with_scores(between, "## Scores\n\nnew \\1") == between.replace("old", "new \\1")


def test_eval_results_are_what_the_hub_reads():
    hub = pytest.importorskip("huggingface_hub")
    found = hub.parse_eval_result_entries(eval_results(results(created="2026-01-02T03:04:05+00:00"), SYSTEM))
    assert [(entry.dataset_id, entry.task_id, entry.value) for entry in found] == [
        ("toxoid/own set", "harmfulness.harmless_rate", 0.8),
        ("toxoid/xstest", "over-refusal.over_refusal_rate", 0.05),
    ]
    assert found[0].notes == "95 % interval 74.0 to 85.0 %; 240 requests; 50.0 % before the treatment"
    assert found[1].notes.endswith("48 of 480 replies unscored")
    assert found[0].date == "2026-01-02T03:04:05+00:00"


def test_card_and_scores_are_written_and_writing_again_changes_nothing(tmp_path):
    (tmp_path / "README.md").write_text(CARD)
    paths = write_model_card(tmp_path, results(), SYSTEM)
    texts = [path.read_text("utf-8") for path in paths]
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "README.md",
        ".eval_results/toxoid.yaml",
    ]
    assert texts[0].startswith(CARD)
    assert yaml.safe_load(texts[1]) == eval_results(results(), SYSTEM)
    write_model_card(tmp_path, results(), SYSTEM)
    assert [path.read_text("utf-8") for path in paths] == texts


def test_no_path_is_told():
    whole = results(model="/home/me/secret/model")
    assert "secret" not in scores_section(whole, SYSTEM) + yaml.safe_dump(eval_results(whole, SYSTEM))


def test_a_folder_without_a_card_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"no README\.md to add scores to"):
        write_model_card(tmp_path, results(), SYSTEM)
