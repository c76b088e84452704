"""A finished run in the formats of others: where it is written, and which system it tells of."""

from __future__ import annotations

import json
from typing import get_args
from xml.etree import ElementTree as ET

import pytest

from tests.report.scored import scored
from toxoid.audit.rates import Settings, comparison_rows, rate_rows
from toxoid.audit.scored_files import write_scored
from toxoid.cli import main
from toxoid.cli.report import FORMATS
from toxoid.errors import UsageError
from toxoid.loop.export import Format, export
from toxoid.store.run_directory import RunDirectory, write_json_atomic

SCORED = {
    "base": [scored("hit hit"), scored("hit miss", request="set/1")],
    "arm": [scored("miss miss"), scored("hit miss", request="set/1")],
    "twin": [scored("miss miss"), scored("miss miss", request="set/1")],
}
ARMS = [{"name": "arm"}, {"name": "twin", "artifact_of": "arm"}]


@pytest.fixture
def run(tmp_path):
    """A run directory with three systems, as the loop leaves it."""
    settings = Settings(resamples=100)
    rows = comparison_rows(SCORED["base"], SCORED["arm"], settings, names=("base", "arm"))
    systems = [
        {"name": name, "label": name, "description": "", "cost": {}, "rates": rate_rows(entries, settings)}
        for name, entries in SCORED.items()
    ]
    headline = {"before": "base", "after": "arm", "headline": True, "rows": rows, "flips": []}
    headline |= {"flips_total": {"better": 2, "worse": 0}, "verdict": ""}
    results = {"meta": {"name": "tiny", "systems": list(SCORED)}, "rows": rows, "systems": systems}
    with RunDirectory.open(tmp_path / "run", fingerprint={"recipe": {}}, recipe={"arms": ARMS}) as made:
        for name, entries in SCORED.items():
            path = made.artifact(f"scored/{name}.jsonl")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_scored(path, entries)
        card = made.artifact("arm") / "README.md"
        card.parent.mkdir()
        card.write_text("# A model\n")
        write_json_atomic(made.results_path, results | {"comparisons": [headline]})
    return tmp_path / "run"


def failures(path):
    return len(ET.parse(path).findall(".//failure"))


@pytest.mark.parametrize(
    ("format", "place"), [("html", "report.html"), ("junit", "junit.xml"), ("sarif", "report.sarif")]
)
def test_files_go_into_the_run_or_where_they_are_asked_for(run, tmp_path, format, place):
    assert export(run, format) == [run / place]
    asked = tmp_path / "new" / "file"
    assert export(run, format, out=asked) == [asked]
    assert asked.read_bytes() == (run / place).read_bytes()


def test_the_treated_system_is_told_of_unless_another_is_asked_for(run):
    assert failures(*export(run, "junit")) == 1
    assert failures(*export(run, "junit", system="base")) == 3
    (path,) = export(run, "sarif", system="base")
    (told,) = json.loads(path.read_text())["runs"]
    places = {r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for r in told["results"]}
    assert places == {"artifacts/scored/base.jsonl"}
    assert (run / places.pop()).is_file()


@pytest.mark.parametrize("system", [None, "arm", "twin"])
def test_a_model_card_goes_to_the_folder_of_the_treated_model(run, system):
    paths = export(run, "model-card", system=system)
    assert paths[0] == run / "artifacts" / "arm" / "README.md"
    assert "## Scores" in paths[0].read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "html", "system": "arm"}, "tells of every system"),
        ({"format": "junit", "system": "amr"}, 'Did you mean "arm"'),
        ({"format": "model-card", "system": "base"}, r"no treated model.*\(arm, twin\)"),
    ],
)
def test_what_cannot_be_written_is_refused(run, arguments, message):
    with pytest.raises(UsageError, match=message):
        export(run, **arguments)


def test_the_command_offers_every_format():
    assert get_args(Format) == FORMATS


def test_gates_decide_after_everything_is_written(run, capsys):
    place = run / "junit.xml"
    assert (
        main(["report", str(run), "--format", "junit", "--fail-on", "asr>20%", "--fail-on", "asr>30%"]) == 100
    )
    assert place.is_file()
    told = capsys.readouterr()
    assert f"junit: {place}" in told.out
    assert told.err.splitlines() == ["toxoid: 1 of 2 gates breached", "  asr>20%: harmfulness 25.0 %"]
    assert main(["report", str(run), "--fail-on", "asr>30%", "--fail-on", "difference(asr)>-50%"]) == 0


def test_a_mistake_in_a_gate_stops_before_anything_is_written(run, capsys):
    assert main(["report", str(run), "--format", "junit", "--fail-on", "arx>20%"]) == 2
    assert 'Did you mean "asr"' in capsys.readouterr().err
    assert not (run / "junit.xml").exists()
