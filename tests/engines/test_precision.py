"""Where bfloat16 pays."""

from __future__ import annotations

import pytest

from toxoid.engines import precision
from toxoid.engines.precision import bf16_pays


def test_it_does_not_pay_for_small_models_on_a_cpu(monkeypatch):
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: True)
    assert bf16_pays("cpu", 10_000) is False
    assert bf16_pays("cpu", 5_000_000) is True


def test_it_does_not_pay_on_a_cpu_without_the_instructions(monkeypatch):
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: False)
    assert bf16_pays("cpu", 5_000_000) is False


@pytest.mark.parametrize("feature", ["avx512_bf16", "amx_bf16", "sve_bf16"])
def test_any_instruction_set_will_do(monkeypatch, feature):
    monkeypatch.setattr(precision.torch.cpu, "get_capabilities", lambda: {feature: True})
    assert precision.cpu_has_bf16() is True
    monkeypatch.setattr(precision.torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert precision.cpu_has_bf16() is False


def test_a_gpu_is_asked(monkeypatch):
    monkeypatch.setattr(precision.torch.cuda, "is_bf16_supported", lambda: True)
    assert bf16_pays("cuda", 10) is True


def test_it_is_off_on_devices_nobody_measured():
    assert bf16_pays("mps", 10**9) is False
