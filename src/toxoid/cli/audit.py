"""``toxoid audit``: how does this model fail, and how sure are we."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toxoid.cli.gates import fail_on
from toxoid.cli.options import data_options, model_options, said

if TYPE_CHECKING:
    from toxoid.report.gates import Gate

_BUDGET = {
    "max_requests": "budget.requests",
    "max_total_tokens": "budget.tokens",
    "price_in": "budget.price_in",
    "price_out": "budget.price_out",
}


@click.command()
@click.argument("model", required=False)
@click.option(
    "--suite",
    type=click.Choice(["quick", "standard", "full"]),
    help="What to ask: minutes, the audit to decide by, or everything.",
)
@click.option("--recipe", help="Packaged recipe or YAML file (by default audit); its arms are left out.")
@click.option("--out", type=click.Path(path_type=Path), help="Run directory; the same command continues it.")
@click.option("--shield", help="Audit the model behind this shield (see `toxoid shield`).")
@click.option("--dry-run", is_flag=True, help="Tell what it would cost and could show, and stop.")
@click.option("--max-requests", type=int, help="Refuse to ask the model for more replies than this.")
@click.option("--max-total-tokens", type=int, help="Refuse to let it read and write more tokens than this.")
@click.option("--price-in", type=float, help="Of a million tokens read, for the preview.")
@click.option("--price-out", type=float, help="Of a million tokens written.")
@fail_on
@model_options
@data_options
def audit(
    model: str | None,
    suite: str | None,
    recipe: str | None,
    out: Path | None,
    dry_run: bool,
    gates: Sequence[Gate],
    **given: Any,
) -> None:
    """Audit MODEL: a checkpoint folder, a Hub id, lab-base (the default), or with --endpoint a server's model."""
    from toxoid.cli.execute import execute
    from toxoid.config.suites import audit_recipe

    settings, overrides = said(given)
    budget = {place: given[key] for key, place in _BUDGET.items() if given[key] is not None}
    resolved = audit_recipe(model, settings, suite=suite, recipe=recipe, overrides={**overrides, **budget})
    if dry_run:
        from toxoid.loop.run import preview

        click.echo("\n".join(preview(resolved)))
    else:
        execute(resolved, out, gates)
