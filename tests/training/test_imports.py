from __future__ import annotations

import subprocess
import sys


def test_what_methods_and_recipes_need_imports_no_torch():
    code = (
        "import sys, toxoid.training.examples, toxoid.training.settings, toxoid.training.card, "
        "toxoid.training.checkpoints, toxoid.training.artifacts\n"
        "heavy = {'torch', 'transformers', 'peft', 'scipy', 'datasets'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
