from __future__ import annotations

import pytest

from toxoid.training import precision
from toxoid.training.precision import use_bf16


def test_a_plain_answer_is_taken():
    assert use_bf16(True, device="cpu", parameters=1) is True
    assert use_bf16(False, device="cpu", parameters=10**9) is False


@pytest.mark.parametrize("pays", [True, False])
def test_auto_is_where_it_pays(monkeypatch, pays):
    monkeypatch.setattr(precision, "bf16_pays", lambda device, parameters: pays)
    assert use_bf16("auto", device="cpu", parameters=5) is pays
