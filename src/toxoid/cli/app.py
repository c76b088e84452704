"""The command line's table of verbs, and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Sequence

import click

from toxoid import __version__
from toxoid.cli.lazy_group import LazyGroup, Verb
from toxoid.errors import EXIT_INTERNAL, EXIT_OK, EXIT_USAGE, ToxoidError

EXIT_INTERRUPTED = 130
DEBUG_ENV = "TOXOID_DEBUG"
_MAIN_SPEAKS_SECONDS = 3.0
VERBS = {
    "run": Verb("toxoid.cli.run", "run", "Audit a model, treat it, audit it again, prove the difference."),
    "audit": Verb("toxoid.cli.audit", "audit", "Find out how a model fails."),
    "align": Verb("toxoid.cli.align", "align", "Treat a model, without the audits."),
    "train": Verb(
        "toxoid.cli.train", "train", "Train on groups or chats from a file, in one process or several."
    ),
    "synth": Verb("toxoid.cli.synth", "synth", "Make training data at scale: groups of ranked replies."),
    "shield": Verb("toxoid.cli.shield", "shield", "Make a shield: two opposite soft prompts for a model."),
    "judge": Verb("toxoid.cli.judge", "judge", "Train a judge, measure it against people, label prompts."),
    "generate": Verb(
        "toxoid.cli.generate", "generate", "Ask a model, plain or protected, and see why it answers so."
    ),
    "serve": Verb("toxoid.cli.serve", "serve", "Serve a protected model behind an OpenAI-compatible API."),
    "review": Verb(
        "toxoid.cli.review", "review", "Label a run's open verdicts, and measure its judge by a sample."
    ),
    "compare": Verb("toxoid.cli.compare", "compare", "Compare two runs, item by item."),
    "report": Verb("toxoid.cli.report", "report", "Write the report of a finished run again."),
    "lab": Verb("toxoid.cli.lab", "lab", "Build the lab's models, or look into its world."),
    "ls": Verb("toxoid.cli.ls", "ls", "List methods, attacks, judges, engines, datasets and recipes."),
    "cp": Verb("toxoid.cli.cp", "cp", "Copy a packaged recipe or launcher to a file, to edit it."),
    "doctor": Verb("toxoid.cli.doctor", "doctor", "Say what this machine can do."),
}


class _App(LazyGroup):
    verbs = VERBS


@click.group(cls=_App, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="toxoid", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help=f"Show tracebacks of errors (also {DEBUG_ENV}=1).")
def app(debug: bool) -> None:
    """Vaccinate language models with their own mistakes.

    Audit how a chat model fails, treat it, audit it again, and prove the difference.
    """
    if debug:
        os.environ[DEBUG_ENV] = "1"


def run_app(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 1 (internal), 2 (usage), 100 (threshold) or 130."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        given = None if arguments is None else list(arguments)
        returned = app.main(given, prog_name="toxoid", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except BaseException as error:
        return _tell(error)
    return returned if isinstance(returned, int) else EXIT_OK


def _tell(error: BaseException) -> int:
    """Say what went wrong in a line on stderr and return the exit code."""
    if isinstance(error, SystemExit):  # click ends so when the reader of a pipe has gone
        raise error
    if _told_by_main(error):
        return error.exit_code if isinstance(error, ToxoidError) else EXIT_USAGE
    if _debugging() and not isinstance(error, click.ClickException):
        traceback.print_exception(error)
    if isinstance(error, (click.Abort, KeyboardInterrupt)):
        _line("stopped; the same command continues the run")
        return EXIT_INTERRUPTED
    if isinstance(error, click.ClickException):
        return _tell_click(error)
    if isinstance(error, ToxoidError):
        _line(str(error))
        return error.exit_code
    text = _disk_text(error)
    if text is not None:
        _line(text)
        return EXIT_USAGE
    said = " ".join(str(error).split())
    hint = "" if _debugging() else f" (toxoid --debug ..., or {DEBUG_ENV}=1, shows where)"
    _line(f"internal error: {type(error).__name__}{f': {said}' if said else ''}{hint}")
    return EXIT_INTERNAL


def _told_by_main(error: BaseException) -> bool:
    """Return whether this process of a launch leaves it to the main one to tell a user's mistake, met by all alike.

    Launchers end every process as soon as one has ended: whatever goes wrong, the main one speaks first.
    """
    from toxoid.training.processes import is_main

    if is_main():
        return False
    time.sleep(_MAIN_SPEAKS_SECONDS)
    return isinstance(error, (ToxoidError, click.ClickException))


def _tell_click(error: click.ClickException) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return EXIT_USAGE
    context = getattr(error, "ctx", None)
    path = context.command_path if isinstance(context, click.Context) else "toxoid"
    said = " ".join(error.format_message().split()).removesuffix(".")
    _line(f"{said} (see `{path} --help`)")
    return EXIT_USAGE


def _disk_text(error: BaseException) -> str | None:
    """Return the line for a full disk and its like; libraries meet them too, outside the store."""
    from toxoid.store.files import explain_disk_error

    text = explain_disk_error(error)
    if text is None and "no space left on device" in str(error).lower():  # wrapped by some library
        return "the disk is full: free some space and run the same command again; what was stored is kept"
    return text


def _debugging() -> bool:
    return os.environ.get(DEBUG_ENV, "") not in ("", "0")


def _line(text: str) -> None:
    click.echo(f"toxoid: {text}", file=sys.stderr)
