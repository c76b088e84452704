from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
import tomllib
from pathlib import Path
from types import MappingProxyType

import click
import pytest

import toxoid
from toxoid.cli import app as module
from toxoid.cli import main
from toxoid.cli.lazy_group import LazyGroup, Verb
from toxoid.errors import ThresholdBreached, ToxoidError, UsageError


@pytest.fixture
def raising(monkeypatch):
    """Make `toxoid boom` raise an error, or return a value."""

    def prepare(outcome):
        @click.command()
        def boom():
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        monkeypatch.setattr(sys.modules[__name__], "boom", boom, raising=False)
        monkeypatch.setitem(module.VERBS, "boom", Verb(__name__, "boom", "Fail."))

    monkeypatch.delenv("TOXOID_DEBUG", raising=False)
    return prepare


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UsageError("give x"), 2, "give x"),
        (ThresholdBreached("too low"), 100, "too low"),
        (ToxoidError("odd"), 1, "odd"),
        (KeyboardInterrupt(), 130, "stopped; the same command continues the run"),
        (click.BadParameter("no"), 2, "Invalid value: no (see `toxoid boom --help`)"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 2, "/x: the disk is full: "),
        (RuntimeError("write: No space left on device (28)"), 2, "the disk is full: "),
        (
            ValueError("a\nb"),
            1,
            "internal error: ValueError: a b (toxoid --debug ..., or TOXOID_DEBUG=1, shows where)",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_error_becomes_one_line_and_an_exit_code(raising, capsys, error, code, line):
    raising(error)
    assert main(["boom"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    said = [text for text in err.splitlines() if text]
    assert len(said) == 1
    assert said[0].startswith(f"toxoid: {line}")


def test_full_sqlite_disk_is_a_usage_error(raising, capsys, tmp_path):
    connection = sqlite3.connect(tmp_path / "a")
    connection.execute("CREATE TABLE t(a)")
    connection.execute("PRAGMA max_page_count = 2")
    with pytest.raises(sqlite3.OperationalError) as caught:
        connection.execute("INSERT INTO t VALUES (zeroblob(99999))")
    connection.close()
    raising(caught.value)
    assert main(["boom"]) == 2
    assert "the disk is full" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--debug", "boom"], ["boom"]])
def test_traceback_is_shown_on_request_only(raising, capsys, monkeypatch, arguments):
    monkeypatch.setenv("TOXOID_DEBUG", "0")
    raising(ValueError("x"))
    assert main(arguments) == 1
    assert ("Traceback" in capsys.readouterr().err) == ("--debug" in arguments)


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (100, 100), ("text", 0)])
def test_a_number_that_a_verb_returns_is_the_exit_code(raising, returned, code):
    raising(returned)
    assert main(["boom"]) == code


def test_unknown_verb_has_a_suggestion(capsys):
    assert main(["adit"]) == 2
    assert 'there is no command "adit". Did you mean "audit"?' in capsys.readouterr().err


def test_no_verb_shows_help_and_is_a_usage_error(capsys):
    assert main([]) == 2
    assert "Commands:" in capsys.readouterr().err


def test_help_lists_every_verb_with_its_line(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out and verb.short_help.split()[0] in out for name, verb in module.VERBS.items())


@pytest.mark.parametrize("name", sorted(module.VERBS))
def test_every_verb_is_a_command_of_its_name(name):
    context = click.Context(module.app)
    command = module.app.get_command(context, name)
    assert command is not None
    assert command.name == name
    assert command.help


def test_version_is_that_of_the_project(capsys):
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert toxoid.__version__ == project["version"]
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"toxoid {toxoid.__version__}\n"


def test_import_switches_telemetry_of_libraries_off_unless_the_user_says_otherwise():
    environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_DISABLE_TELEMETRY"}
    program = "import os, toxoid; print(os.environ['HF_HUB_DISABLE_TELEMETRY'], os.environ['DO_NOT_TRACK'])"
    out = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=environment | {"DO_NOT_TRACK": "0"},
    )
    assert out.stdout.split() == ["1", "0"]


def test_module_runs_as_a_program():
    out = subprocess.run([sys.executable, "-m", "toxoid", "lss"], capture_output=True, text=True, check=False)
    assert (out.returncode, out.stdout) == (2, "")
    assert out.stderr.startswith("toxoid: ")


def test_lazy_group_has_its_verbs_in_the_order_of_its_table():
    class Group(LazyGroup):
        verbs = MappingProxyType({"b": Verb("m", "b", "B."), "a": Verb("m", "a", "A.")})

    group = Group("group")
    assert group.list_commands(click.Context(group)) == ["b", "a"]
    assert group.get_command(click.Context(group), "z") is None


def test_public_names_load_on_first_use(monkeypatch):
    monkeypatch.setitem(toxoid._EXPORTS, "UsageError", "toxoid.errors")
    assert toxoid.UsageError is UsageError
    assert "UsageError" in dir(toxoid)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = toxoid.nonsense
