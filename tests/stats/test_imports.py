"""What the statistics may cost at import."""

from __future__ import annotations

import subprocess
import sys

import pytest


def loaded_after(statement):
    script = f"import sys; {statement}; print(*sorted(sys.modules))"
    return set(
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        ).stdout.split()
    )


def test_package_itself_loads_neither_numpy_nor_scipy():
    assert not {"numpy", "scipy"} & loaded_after("import toxoid.stats")


@pytest.mark.parametrize("module", ["intervals", "multiplicity", "power", "judge_error", "agreement"])
def test_modules_without_exact_tests_do_not_load_scipy(module):
    assert not {"scipy", "torch", "statsmodels"} & loaded_after(f"import toxoid.stats.{module}")


def test_paired_tests_load_no_more_of_scipy_than_special_functions():
    assert not {"scipy.stats", "torch", "statsmodels"} & loaded_after("import toxoid.stats.paired")
