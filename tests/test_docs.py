"""The code on the pages runs as it stands there."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tomllib

import pytest

from tests.helpers.distributions import install
from tests.helpers.documents import blocks
from toxoid.cli import main


def run_as_script(code, folder):
    (folder / "page.py").write_text(code, "utf-8")
    return subprocess.run(
        [sys.executable, "page.py"], cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False
    )


@pytest.mark.parametrize(("page", "runs"), [("python.md", 5), ("plugins.md", 2)])
def test_blocks_of_a_page_run_top_to_bottom(page, runs, tmp_path):
    done = run_as_script("\n".join(blocks(page)), tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "runs").iterdir())) == runs
    assert "Harmless rate" in done.stdout


def test_distribution_of_the_page_about_plugins_works_with_the_commands_there(tmp_path, monkeypatch, capsys):
    project = tomllib.loads(blocks("plugins.md", "toml")[0])["project"]
    groups = {
        group: {name: place.partition(":")[2] for name, place in entries.items()}
        for group, entries in project["entry-points"].items()
    }
    code = blocks("plugins.md")[0]
    monkeypatch.syspath_prepend(
        str(install(tmp_path / "site", project["name"], project["version"], code, groups))
    )
    monkeypatch.chdir(tmp_path)
    for command in blocks("plugins.md", "sh")[0].splitlines():
        program, *arguments = shlex.split(command)
        assert (program, main(arguments)) == ("toxoid", 0)
    told = capsys.readouterr().out
    assert "The request with its letters in reverse order (toxoid-backwards 1.0)" in told
    assert (tmp_path / "runs" / "backwards" / "report.html").is_file()
    sys.modules.pop("toxoid_backwards")
