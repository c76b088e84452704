"""The commands on one page: ``python -m toxoid.cli.reference > docs/commands.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import click

from toxoid.cli.app import app

_WIDE: dict[str, Any] = {"terminal_width": 110, "max_content_width": 110}
_HEAD = """# Commands

What `--help` says of every command. Written by `python -m toxoid.cli.reference > docs/commands.md`.
"""


def commands_page() -> str:
    """Return the page: the table of verbs, then each command with its arguments and options, in Markdown."""
    context = click.Context(app, info_name="toxoid", **app.context_settings, **_WIDE)
    return "\n".join((_HEAD, *_sections(app, context, 2)))


def _sections(command: click.Command, context: click.Context, level: int) -> Iterator[str]:
    yield f"{'#' * min(level, 3)} {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if not isinstance(command, click.Group):
        return
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        if inner is not None:
            yield from _sections(
                inner, click.Context(inner, info_name=name, parent=context, **_WIDE), level + 1
            )


if __name__ == "__main__":
    sys.stdout.write(commands_page())
