"""Building the lab's models: repeatable, gated, plain folders."""

from dataclasses import replace

import pytest

from toxoid.errors import ToxoidError
from toxoid.lab.build import BuildConfig, build
from toxoid.lab.pretrain import Schedule

TINY = BuildConfig(
    documents=120,
    schedule=Schedule(steps=3, batch=8, warmup=1),
    repair=Schedule(steps=1, batch=8),
    repairs=1,
    uncensor=Schedule(steps=2, batch=8),
    gate=0.0,
    gate_items=4,
)


def files(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_the_same_seed_builds_the_same_files(tmp_path):
    build(tmp_path / "a", TINY)
    build(tmp_path / "b", TINY)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert {path.parts[0] for path in files(tmp_path / "a")} == {"lab-base", "lab-uncensored"}


def test_a_model_below_the_gate_is_kept_and_reported(tmp_path):
    with pytest.raises(ToxoidError, match="validity"):
        build(tmp_path, replace(TINY, gate=0.99))
    assert (tmp_path / "lab-base/model.safetensors").is_file()
    assert not (tmp_path / "lab-uncensored").exists()


def test_the_rate_warms_up_and_falls():
    schedule = Schedule(steps=100, learning_rate=1.0, warmup=10)
    rates = [schedule.rate(step) for step in range(100)]
    assert rates[0] == 0.1
    assert max(rates) == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.02, abs=0.001)
