"""What the page says of a contrast's strength: rates over alpha, for systems that differ in nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from markupsafe import Markup

from toxoid.audit.results import Decoding, RateRow, Results, System
from toxoid.audit.tasks import HARMLESS, HELPFUL, OVER_REFUSED, VALID_SAFE
from toxoid.audit.verdict import ALL
from toxoid.report import svg, view
from toxoid.report.format import finite, percent
from toxoid.report.text import one_line

FEWEST = 3
"""Values of alpha from which on they are drawn."""

_MARKS = {0.0: "", 0.25: "", 0.5: "alpha", 0.75: "", 1.0: ""}
_CONTEXTS = {
    "sp": "safe soft prompt",
    "safe": "safe prompt",
    "ap": "adversarial soft prompt",
    "opposite": "opposite prompt",
    "bare": "no prompt",
}
_Key: TypeAlias = tuple[str, frozenset[tuple[str, object]]]
_CONTRAST_ONLY = ("negative", "alpha", "rescale", "first", "divergence")
"""What has no effect where there is no negative context."""


@dataclass(frozen=True, slots=True)
class _Line:
    """A rate to draw; ``name`` is its name in words and the CSS class of its curve."""

    name: str
    task: str
    metric: str
    mark: svg.Mark


_LINES = (
    _Line("valid-and-safe", "harmfulness", VALID_SAFE.name, "circle"),
    _Line("harmless", "harmfulness", HARMLESS.name, "square"),
    _Line("helpful", "helpfulness", HELPFUL.name, "triangle"),
    _Line("over-refusal", "over-refusal", OVER_REFUSED.name, "diamond"),
)


@dataclass(frozen=True, slots=True)
class Sweep:
    """One figure: what is contrasted and how, its drawing, a caption, and by system alpha, label and rates."""

    title: str
    details: str
    drawing: Markup
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[view.Cell, ...]], ...]


def sweeps(results: Results) -> list[Sweep]:
    """Return a figure for each method and decoding of which the results have several values of alpha.

    A system without a negative context is what a contrast is at alpha 0, and stands there where no other does. Where
    two systems have one alpha, they differ in something else, and there is no figure.
    """
    decoded = [system for system in results["systems"] if system.get("decoding")]
    alone = [system for system in decoded if system["decoding"]["negative"] is None]
    groups: dict[_Key, list[System]] = {}
    for system in decoded:
        if system not in alone:
            groups.setdefault(_key(system, but=("alpha",)), []).append(system)
    whole = [sorted(_begun(group, alone), key=_alpha) for group in groups.values()]
    return [
        _sweep(group, lines, f"alpha-{index}")
        for index, group in enumerate(whole)
        if len({_alpha(system) for system in group}) == len(group) >= FEWEST and (lines := _measured(group))
    ]


def _begun(group: list[System], alone: Sequence[System]) -> list[System]:
    """Return the group with its positive context alone, unless it begins at alpha 0 by itself."""
    if any(_alpha(system) == 0 for system in group):
        return group
    wanted = _key(group[0], but=_CONTRAST_ONLY)
    return [*(system for system in alone if _key(system, but=_CONTRAST_ONLY) == wanted), *group]


def _key(system: System, *, but: Sequence[str]) -> _Key:
    """Return what systems of one figure have in common."""
    kept = {name: value for name, value in system["decoding"].items() if name not in but}
    return system["description"], frozenset(kept.items())


def _alpha(system: System) -> float:
    return 0.0 if system["decoding"]["negative"] is None else system["decoding"]["alpha"]


def _measured(group: Sequence[System]) -> tuple[_Line, ...]:
    return tuple(line for line in _LINES if any(_rate(system, line) for system in group))


def _rate(system: System, line: _Line) -> RateRow | None:
    wanted = (line.task, line.metric, ALL)
    return next(
        (row for row in system["rates"] if (row["task"], row["metric"], row["category"]) == wanted), None
    )


def _sweep(group: Sequence[System], lines: tuple[_Line, ...], ident: str) -> Sweep:
    title = _title(group[-1]["decoding"])
    series = [svg.Series(line.name, _points(group, line), line.mark, _capital(line.name)) for line in lines]
    return Sweep(
        title=title,
        details=_details(group[-1]),
        drawing=svg.curves(series, _MARKS, ident=ident, title=f"Rates by alpha: {title}"),
        caption=_caption(group, lines),
        columns=tuple(_capital(line.name) for line in lines),
        rows=tuple(
            (
                f"{_alpha(system):g}",
                one_line(system["label"] or system["name"], limit=60),
                tuple(view.cell(_rate(system, line)) for line in lines),
            )
            for system in group
        ),
    )


def _points(group: Sequence[System], line: _Line) -> tuple[svg.Point, ...]:
    found = [(_alpha(system), _rate(system, line)) for system in group]
    return tuple(svg.Point(x, row["rate"], row["ci_low"], row["ci_high"]) for x, row in found if row)


def _title(decoding: Decoding) -> str:
    positive, negative = (
        _CONTEXTS.get(name, one_line(name)) for name in (decoding["positive"], str(decoding["negative"]))
    )
    return _capital(f"{positive} against {negative}")


def _details(system: System) -> str:
    """Return how it is contrasted, in a few words."""
    decoding = system["decoding"]
    first, divergence, plausibility = decoding["first"], decoding["divergence"], decoding["plausibility"]
    parts = [
        one_line(system["description"], limit=60),
        "rescaled" if decoding["rescale"] else "not rescaled",
        f"plausibility {plausibility:g}" if plausibility else "no mask",
        "" if first is None else "first token only" if first == 1 else f"first {first} tokens only",
        "" if divergence is None else f"from divergence {divergence:g} on",
    ]
    return ", ".join(part for part in parts if part)


def _caption(group: Sequence[System], lines: Sequence[_Line]) -> str:
    """Say at which alpha most replies are safe, and what the other rates are there; of equals, the smallest."""
    line = next((one for one in lines if one.name in ("valid-and-safe", "harmless")), None)
    rates = [finite(row["rate"]) if line and (row := _rate(system, line)) else None for system in group]
    known = [rate for rate in rates if rate is not None]
    if line is None or not known:
        return ""
    best = group[rates.index(max(known))]
    others = [f"{one.name} {view.cell(_rate(best, one)).rate}" for one in lines if one is not line]
    start = f"{_capital(line.name)} is highest at alpha {_alpha(best):g}, with {percent(max(known))}"
    return f"{start}; there: {', '.join(others)}." if others else f"{start}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
