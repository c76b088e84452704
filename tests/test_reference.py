"""The reference of all modules: minutes, so on demand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import toxoid

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_every_module_has_a_page_without_markup_left_over(tmp_path):
    pytest.importorskip("pdoc")
    command = [sys.executable, str(ROOT / "docs" / "reference.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    left_out = {line.split()[2] for line in done.stderr.splitlines() if line.startswith("left out:")}
    written = {
        ".".join(page.relative_to(tmp_path / "build/reference").with_suffix("").parts): page
        for page in (tmp_path / "build/reference").rglob("*.html")
    }
    sources = Path(toxoid.__file__).parent
    modules = {
        ".".join(file.relative_to(sources.parent).with_suffix("").parts).removesuffix(".__init__")
        for file in sources.rglob("*.py")
        if file.name != "__main__.py" and "lm_eval_tasks" not in file.parts
    }
    assert modules - left_out <= written.keys()
    shown = written["toxoid"].read_text("utf-8")
    assert 'id="audit_model"' in shown
    told = re.findall(r'<div class="docstring">(.*?)</div>', shown, re.DOTALL)
    assert told
    assert not any(re.search(r":(class|func|data|mod):`", text) for text in told)
