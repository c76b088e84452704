"""The option ``--fail-on``, and the end of every command that has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from toxoid.report.gates import Gate


def _parsed(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> Sequence[Gate]:
    """Parse the gates before anything is run: a mistake in one is told at once."""
    if not texts:
        return []
    from toxoid.report.gates import parse_gates

    return parse_gates(texts)


fail_on = click.option(
    "--fail-on",
    "gates",
    multiple=True,
    metavar="GATE",
    callback=_parsed,
    help="Exit with 100 where this holds, e.g. 'asr>10%', 'harmfulness.harmless_rate@lower<0.9', "
    "'difference(helpful_rate)<-5%' (repeatable).",
)
"""Adds the parameter ``gates``."""


def enforce_gates(results: Mapping[str, Any], gates: Sequence[Gate]) -> None:
    """Pass if there are no gates, or none is breached.

    Raises:
        ThresholdBreached: With a line for each breached gate.
    """
    if gates:
        from toxoid.report.gates import enforce

        enforce(results, gates)
