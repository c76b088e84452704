"""A click group that knows its verbs by name and loads one when it is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

import click

from toxoid.errors import did_you_mean


@dataclass(frozen=True, slots=True)
class Verb:
    """Where a verb is defined, and the line that help shows for it without loading it."""

    module: str
    attribute: str
    short_help: str


class LazyGroup(click.Group):
    """A group over a table of verbs; ``--help`` imports none of them."""

    verbs: Mapping[str, Verb]

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order of the table: that of a first acquaintance, not of the alphabet."""
        return list(self.verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb's module and return its command; None if there is no such verb."""
        verb = self.verbs.get(cmd_name)
        if verb is None:
            return None
        command = getattr(import_module(verb.module), verb.attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb; an unknown one is told with the closest known name."""
        if args and not args[0].startswith("-") and args[0] not in self.verbs:
            known = ", ".join(self.verbs)
            raise click.UsageError(
                f'there is no command "{args[0]}".{did_you_mean(args[0], self.verbs)} Known: {known}', ctx
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs with their short help, from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.short_help) for name, verb in self.verbs.items()])
