"""Writes the report page: one self-contained file without scripts that opens from disk."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, cast

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape

from toxoid.audit.results import Comparison, Flip, Results, Row
from toxoid.audit.verdict import Finding
from toxoid.errors import UsageError
from toxoid.report import facts, svg, view
from toxoid.report.alpha import sweeps
from toxoid.report.attacks import attacks, sentences
from toxoid.report.beginnings import beginnings
from toxoid.report.capability import capability
from toxoid.report.flips import flip_sections, has_evidence
from toxoid.report.format import DASH, interval, metric_title, percent, task_title
from toxoid.report.pareto import pareto
from toxoid.report.text import one_line, past_marks, pieces, visible

MAX_BYTES = 300_000
"""Size of a page from which on it leaves out what can be read elsewhere."""

_FLIPS_ROOM = 32_000
"""Bytes kept free for changed replies before the tables of categories are left out."""

_MARGIN = 4_000
_PROMPT, _REPLY, _OUTCOME, _ANY = 1200, 1600, 300, 2000
_MAX_COMPARISONS = 12
_OPTIONAL = ("model", "description", "command", "toxoid_version")
_NEEDED = ("meta", "rows", "systems", "comparisons")


def render_html(results: Mapping[str, Any]) -> str:
    """Return the report of a run as one HTML page.

    Where the page would grow beyond :data:`MAX_BYTES`, changed replies and then categories are left out; the
    page says how many, or where they are.

    Text from models and data is escaped; characters that hide, reorder or control are shown as markers. The
    page loads nothing: its content security policy allows the page's own style sheet only.

    Args:
        results: As in ``results.json``, see :class:`toxoid.audit.results.Results`.

    Raises:
        UsageError: ``results`` does not have that layout.
    """
    whole = checked(results)
    for detail in ("tables", "plots", "none"):
        page = _page(whole, detail)
        size = len(_render(page, []).encode())
        if size <= MAX_BYTES - _FLIPS_ROOM or detail == "none":
            break
    sections = flip_sections(
        whole["comparisons"],
        render=lambda flip, comparison: _flip(flip, comparison, whole),
        budget=MAX_BYTES - _MARGIN - size,
    )
    return _render(page, sections)


def checked(results: Mapping[str, Any]) -> Results:
    """Return ``results`` with the parts that may be missing filled in.

    Raises:
        UsageError: A part without which nothing can be shown is missing.
    """
    missing = [key for key in _NEEDED if key not in results]
    if missing:
        raise UsageError(
            f"these are no results of a run: {', '.join(missing)} missing, "
            f"expected the layout of results.json ({', '.join(_NEEDED)}); give a finished run's directory"
        )
    return cast("Results", {"power": [], "judge_card": None, "notes": [], **results})


def _page(results: Results, detail: str) -> dict[str, Any]:
    """Return everything the template needs but the flips; ``detail`` says how much of the categories."""
    meta = results["meta"]
    others = [one for one in results["comparisons"] if not one["headline"]]
    card = results["judge_card"]
    return {
        "title": meta.get("name") or "run",
        "meta": dict.fromkeys(_OPTIONAL, "") | dict(meta),
        "created": facts.when(meta.get("created")),
        "tasks": list(meta.get("tasks", {}).values()),
        "level": f"{view.level_of(results) * 100:g} %",
        "sentences": sentences(results),
        "headline": next((one for one in results["comparisons"] if one["headline"]), None),
        "figures": view.figures(results),
        "rate_figures": view.rate_figures(results),
        "audit": not results["rows"],
        "groups": view.by_task(view.lines(view.overall(results["rows"]), results)),
        "forest": _forest(results["rows"], results, "forest"),
        "forced": facts.notes(meta.get("forced", [])),
        "attacks": attacks(results),
        "pareto": pareto(results),
        "capability": capability(results),
        "beginnings": beginnings(results),
        "sweeps": sweeps(results),
        "categories": _categories(results, detail),
        "detail": detail,
        "evidence": has_evidence(results["comparisons"]),
        "systems": results["systems"][: view.MAX_SYSTEMS],
        "systems_hidden": max(0, len(results["systems"]) - view.MAX_SYSTEMS),
        "systems_table": view.systems_table(results),
        "others": [_other(one, results, index) for index, one in enumerate(others[:_MAX_COMPARISONS])],
        "others_hidden": max(0, len(others) - _MAX_COMPARISONS),
        "judge": facts.judge_facts(card),
        "judge_warnings": facts.judge_warnings(card),
        "corrected": facts.corrected(results),
        "correction": facts.notes(meta.get("correction", [])),
        "power": facts.power_facts(results),
        "cost": facts.cost_rows(results),
        "provenance": facts.provenance(results),
        "fingerprint": marked(facts.fingerprint(results), limit=facts.FINGERPRINT_CHARACTERS),
        "warnings": facts.notes(meta.get("warnings", [])),
        "notes": facts.notes(results["notes"]),
    }


def _forest(rows: Sequence[Row], results: Results, ident: str) -> Markup | None:
    written = view.lines(view.overall(rows), results)
    if not written:
        return None
    points = [_point(line) for line in written]
    return svg.forest(points, ident=ident, title="Differences with their intervals, in percentage points")


def _point(line: view.Line) -> svg.Difference:
    """Return a line of the forest plot; that a ring is no measurable change is said by the legend."""
    row = line.row
    note = "" if line.note == Finding.UNCLEAR else line.note
    return svg.Difference(
        line.task,
        line.metric,
        row["difference"],
        row["ci_low"],
        row["ci_high"],
        line.state,
        line.reason or note,
    )


def _categories(results: Results, detail: str) -> list[tuple[view.CategoryTable, Markup | None]]:
    """Return the categories of the headline comparison, or of the audited system, metric by metric."""
    if detail == "none":
        return []
    if results["rows"]:
        tables = view.category_tables(results["rows"], results)
    else:
        tables = view.rate_tables(results["systems"][0]["rates"], results) if results["systems"] else []
    return [
        (table, _category_plot(table, f"categories-{index}") if table.first else None)
        for index, table in enumerate(tables)
        if table.first or detail == "tables"
    ]


def _category_plot(table: view.CategoryTable, ident: str) -> Markup:
    title = f"{table.metric} by {table.by}: {table.task}"
    if table.rates:
        rates = [
            svg.Estimate(row["category"], row["rate"], row["ci_low"], row["ci_high"]) for row in table.rates
        ]
        return svg.estimates(rates, ident=ident, title=title)
    changes = [
        svg.Change(line.category, line.row["before"], line.row["after"], line.state) for line in table.lines
    ]
    return svg.changes(changes, ident=ident, title=title)


def _other(comparison: Comparison, results: Results, index: int) -> dict[str, Any]:
    written = view.lines(view.overall(comparison["rows"]), results)
    return {
        "before": comparison["before"],
        "after": comparison["after"],
        "verdict": comparison["verdict"],
        "groups": view.by_task(written),
        "forest": _forest(comparison["rows"], results, f"forest-{index}"),
    }


def _flip(flip: Flip, comparison: Comparison, results: Results) -> Markup:
    text = (
        environment()
        .get_template("flip.html.jinja")
        .render(
            flip=flip,
            comparison=comparison,
            direction=flip.get("direction", "changed"),
            task=task_title(flip["task"], results["meta"].get("tasks", {})),
            metric=metric_title(flip.get("metric", "")),
            prompt=marked(flip["prompt"], limit=_PROMPT),
            prefill=marked(flip.get("prefill") or "", limit=_PROMPT),
            before=highlighted(flip["before_reply"], flip.get("before_evidence", ()), limit=_REPLY),
            after=highlighted(flip["after_reply"], flip.get("after_evidence", ()), limit=_REPLY),
            before_outcome=marked(flip["before_outcome"], limit=_OUTCOME),
            after_outcome=marked(flip["after_outcome"], limit=_OUTCOME),
        )
    )
    return Markup(text)


def _render(page: Mapping[str, Any], sections: Sequence[object]) -> str:
    template = environment().get_template("report.html.jinja")
    return template.render(**page, flip_sections=sections, **style_of("report.css"))


def style_of(*names: str) -> dict[str, Markup | str]:
    """Return a page's ``style``, made of these sheets, and the ``style_hash`` that its security policy allows."""
    style = "".join(map(part, names))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return {"style": Markup(style), "style_hash": digest}


def marked(text: object, *, limit: int = _ANY) -> Markup:
    """Return hostile text as markup: escaped, cut, with its markers set apart from their doubles."""
    return Markup("").join(
        Markup('<b class="esc">{}</b>').format(piece.text) if piece.escaped else escape(piece.text)
        for piece in pieces(text, limit=limit)
    )


def highlighted(text: str, evidence: Sequence[Sequence[int]], *, limit: int) -> Markup:
    """Return hostile text as :func:`marked` does, with the passages that decided its verdict highlighted.

    Of passages that overlap, the later one begins where the earlier one ends; beyond the limit there are none.
    """
    parts, at, shown = Markup(""), 0, text[:limit]
    for passage in sorted(map(tuple, evidence)):
        start, end = (past_marks(shown, max(place, at)) for place in passage)
        if start < end:
            parts += marked(text[at:start])
            parts += Markup("<mark>{}</mark>").format(marked(text[start:end]))
            at = end
    return parts + marked(text[at:], limit=limit - at)


def _finalise(value: Any) -> Any:
    """Make every value that a template prints safe to look at, whatever the template's author thought of."""
    if isinstance(value, Markup):
        return value
    return DASH if value is None else visible(value, limit=_ANY)


@cache
def environment() -> Environment:
    """Return the environment of the page templates: everything escaped, nothing missing passed over."""
    made = Environment(
        loader=FunctionLoader(part),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalise,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"line": one_line, "mark": marked, "percent": percent}
    made.globals |= {"cell_interval": interval}
    return made


@cache
def part(name: str) -> str:
    """Return a template or the style sheet, which are data of this package."""
    return resources.files("toxoid.report").joinpath("templates", name).read_text("utf-8")
