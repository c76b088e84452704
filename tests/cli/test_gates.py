"""``--fail-on``: every command that measures has it, and reads it before it starts."""

from __future__ import annotations

import pytest

from tests.report.synthetic import rate
from toxoid.cli import main
from toxoid.loop import api


@pytest.mark.parametrize(
    "command", [["run"], ["audit"], ["compare", "before", "after"], ["report", "run"]], ids=" ".join
)
def test_a_wrong_gate_is_told_before_anything_else(command, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main([*command, "--fail-on", "asr>200"]) == 2
    assert "fractions between -1 and 1" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_audit_ends_with_100_where_a_gate_is_breached(monkeypatch, tmp_path, capsys):
    rates = [rate(0.7, task="harmfulness", metric="harmless_rate")]
    systems = [{"name": "base", "label": "base", "cost": {}, "rates": rates}]
    measured = {"meta": {}, "rows": [], "systems": systems, "comparisons": []}
    monkeypatch.setattr(api, "run_recipe", lambda *arguments, **named: measured)
    command = ["audit", "--out", str(tmp_path), "--fail-on"]
    assert main([*command, "asr>20%"]) == 100
    told = capsys.readouterr()
    assert "report:" in told.out
    assert told.err.splitlines()[-2:] == ["toxoid: gate breached", "  asr>20%: harmfulness 30.0 %"]
    assert main([*command, "asr>30%"]) == 0
