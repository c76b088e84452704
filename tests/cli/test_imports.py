from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "scipy", "datasets", "numpy", "peft", "httpx", "tokenizers", "safetensors"}
PROGRAM = """
import sys
from toxoid.cli import main
code = main({arguments})
sys.stdout.flush()
print("\\nMODULES", code, *sorted(sys.modules))
"""


def modules_after(*arguments):
    program = PROGRAM.format(arguments=list(arguments))
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    code, *modules = out.splitlines()[-1].split()[1:]
    assert code == "0", out
    return set(modules)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        *(["ls", kind] for kind in ("methods", "attacks", "judges", "engines", "datasets", "recipes")),
    ],
    ids=" ".join,
)
def test_light_commands_load_no_heavy_library(arguments):
    assert not HEAVY & modules_after(*arguments)


@pytest.mark.parametrize(
    "verb",
    ["run", "audit", "align", "generate", "shield", "synth", "compare", "report", "lab", "cp", "doctor"],
)
def test_help_of_a_verb_loads_no_heavy_library(verb):
    assert not HEAVY & modules_after(verb, "--help")


def test_help_loads_neither_verbs_nor_pydantic_nor_rich():
    loaded = modules_after("--help")
    assert not {"pydantic", "rich", "yaml", "sqlite3"} & loaded
    verbs = {
        f"toxoid.cli.{verb}" for verb in ("run", "audit", "align", "compare", "report", "lab", "ls", "cp")
    }
    assert not verbs & loaded


def test_import_of_toxoid_loads_only_itself():
    program = (
        "import sys; before = set(sys.modules); import toxoid; print(*sorted(set(sys.modules) - before))"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert {name for name in out.split() if "toxoid" in name} == {"toxoid"}
    assert not (HEAVY | {"pydantic", "rich", "yaml", "click"}) & set(out.split())
