"""Options that several verbs share, and how they become a recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

if TYPE_CHECKING:
    from toxoid.config.recipe import Recipe
    from toxoid.config.shortcuts import Settings

F = TypeVar("F", bound=Callable[..., Any])

_MODEL_OPTIONS = (
    click.option("--revision", help="Revision of a Hub model."),
    click.option("--adapter", help="PEFT adapter to put on the model."),
    click.option("--chat-template", help="Jinja file for a tokenizer without a chat template."),
    click.option(
        "--trust-remote-code", is_flag=True, help="Run code that comes with the model. Off by default."
    ),
    click.option(
        "--dtype", type=click.Choice(["auto", "float32", "bfloat16"]), help="Of the weights in memory."
    ),
    click.option("--endpoint", help="Base URL of an OpenAI-compatible server; MODEL is then its model name."),
)

_REQUEST_OPTIONS = (
    click.option(
        "--requests", help="Harmful requests: a data set's name or a file (see `toxoid ls datasets`)."
    ),
    click.option("--limit", type=int, help="At most this many requests per set."),
    click.option(
        "--judge",
        help="auto, refusal, llm, encoder, lab-oracle, a judge's folder, a Hub name, guard:NAME; + joins several.",
    ),
    click.option("--judge-model", help="Model that the llm judge asks."),
    click.option("--judge-endpoint", help="Server of the judge's model."),
    click.option("--temperature", type=float, help="Sampling temperature; 0 is greedy."),
    click.option("--max-tokens", type=int, help="Tokens per reply."),
    click.option("--seed", type=int, help="Of everything random."),
)

_DATA_OPTIONS = (
    click.option("--benign", help="Benign requests: name or file."),
    click.option("--contentious", help="Requests that sound harmful and are not: name or file."),
    click.option("--task", "tasks", multiple=True, help="Only these audit tasks (repeatable)."),
    click.option("--samples", type=int, help="Replies per item."),
    click.option("--guided", is_flag=True, default=None, help="Ask under the safe system prompt."),
    click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any recipe value, dotted (repeatable).",
    ),
)


def model_options(function: F) -> F:
    """Add the options that say how a model is loaded."""
    return _with(function, _MODEL_OPTIONS)


def request_options(function: F) -> F:
    """Add the options that say which harmful requests are asked, how replies are drawn and who judges."""
    return _with(function, _REQUEST_OPTIONS)


def data_options(function: F) -> F:
    """Add the options of :func:`request_options` and those of an audit."""
    return _with(function, _REQUEST_OPTIONS + _DATA_OPTIONS)


def _with(function: F, options: tuple[Callable[[F], F], ...]) -> F:
    for option in reversed(options):
        function = option(function)
    return function


def resolve(recipe: Recipe, model: str | None, given: dict[str, Any]) -> Recipe:
    """Return the recipe with everything that was given on the command line.

    Args:
        recipe: See :func:`toxoid.config.shortcuts.with_settings`.
        model: The model's source; None leaves the recipe's.
        given: The options by name; what was not given is None, False or empty.

    Raises:
        UsageError: A value is wrong, or an arm would not train on the sets that were given; the text names it.
    """
    from toxoid.config.shortcuts import with_settings

    settings, overrides = said(given)
    return with_settings(recipe, settings, model=model, overrides=overrides)


def said(given: dict[str, Any]) -> tuple[Settings, dict[str, Any]]:
    """Return the settings that were given, and the values of ``--set`` by their dotted place.

    Raises:
        UsageError: A value of ``--set`` cannot be read.
    """
    from toxoid.config.recipe import parse_overrides
    from toxoid.config.shortcuts import SHORTCUTS, Settings

    settings = {name: value for name, value in given.items() if name in SHORTCUTS and not _is_default(value)}
    return cast(Settings, settings), parse_overrides(given.get("overrides", ()))


def _is_default(value: Any) -> bool:
    return value is None or value is False or value == ()
