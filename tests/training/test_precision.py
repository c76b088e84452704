from __future__ import annotations

import pytest

from toxoid.training import precision
from toxoid.training.precision import use_bf16


def test_a_plain_answer_is_taken():
    assert use_bf16(True, device="cpu", parameters=1) is True
    assert use_bf16(False, device="cpu", parameters=10**9) is False


def test_auto_is_off_for_small_models_on_a_cpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: True)
    assert use_bf16("auto", device="cpu", parameters=10_000) is False
    assert use_bf16("auto", device="cpu", parameters=5_000_000) is True


def test_auto_is_off_on_a_cpu_without_the_instructions(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: False)
    assert use_bf16("auto", device="cpu", parameters=5_000_000) is False


@pytest.mark.parametrize("feature", ["avx512_bf16", "amx_bf16"])
def test_either_instruction_set_will_do(monkeypatch: pytest.MonkeyPatch, feature: str):
    monkeypatch.setattr(precision.torch.cpu, "get_capabilities", lambda: {feature: True})
    assert precision.cpu_has_bf16() is True
    monkeypatch.setattr(precision.torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert precision.cpu_has_bf16() is False


def test_auto_on_a_gpu_asks_the_gpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(precision.torch.cuda, "is_bf16_supported", lambda: True)
    assert use_bf16("auto", device="cuda", parameters=10) is True


def test_auto_is_off_on_devices_nobody_measured():
    assert use_bf16("auto", device="mps", parameters=10**9) is False
