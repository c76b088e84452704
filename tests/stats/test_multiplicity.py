"""Holm's adjustment: equality with statsmodels, and the tests that could not be made."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from toxoid.stats.multiplicity import holm


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_equals_statsmodels(p_values):
    assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]), abs=1e-12)


def test_missing_p_values_pass_through_and_do_not_count():
    assert holm([None, 0.01, None, 0.04]) == [None, 0.02, None, 0.04]


def test_nothing_to_adjust():
    assert holm([]) == []


def test_impossible_p_values_are_refused():
    with pytest.raises(ValueError, match="p value"):
        holm([0.5, 1.5])
