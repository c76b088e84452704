"""Draws the report's plots as inline SVG: intervals of differences, before/after by category, curves.

Horizontal positions are percentages of the drawing's width and letters keep their size, so that one drawing
fits a phone, a desk and a printed page without a script. Colours come from the page's style sheet by class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

from markupsafe import Markup, escape

from toxoid.report.format import MINUS, finite, interval, percent, points
from toxoid.report.text import one_line, visible

MARGIN = 3.0
"""Per cent of the width left free on both sides of an axis."""

_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5)
_ROW, _GROUP, _FOOT = 38, 30, 26
_TOP, _TALL = 10, 220
"""Pixels from the top to the highest and to the lowest place of a curve."""
_LEFT, _RIGHT = 12.0, 28.0
"""Per cent of the width that the labels of a vertical axis and those at the ends of curves take."""
_ASIDE = 1.6
"""Per cent of the width over which the points of several curves at one place are spread."""
_LINE = 17
"""Pixels from one label to the next below it."""
_SAID = 4000
"""Longest text of an element, which is the description that is read out."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A horizontal scale.

    Args:
        low: Value at the left end.
        high: Value at the right end; if it is ``low``, all is drawn in the middle.
        ticks: Values to mark.
        left: Where the room of the axis begins, in per cent of the width.
        right: Where it ends.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    left: float = 0.0
    right: float = 100.0

    def at(self, value: float) -> float:
        """Return a value's position in per cent of the width; what lies beyond the ends is drawn on them."""
        inside = min(max(value, self.low), self.high)
        share = (inside - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return self.left + MARGIN + (self.right - self.left - 2 * MARGIN) * share


@dataclass(frozen=True, slots=True)
class Difference:
    """One line of a forest plot. ``state`` is the CSS class: ``better``, ``worse`` or ``unclear``."""

    group: str
    label: str
    difference: float | None
    low: float | None
    high: float | None
    state: str
    note: str


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a before/after plot."""

    label: str
    before: float | None
    after: float | None
    state: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """One line of a plot of rates: a rate and its interval."""

    label: str
    rate: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a curve: a share at ``x`` with its interval, and the share among some of the items only."""

    x: float
    rate: float | None
    low: float | None
    high: float | None
    among: float | None = None


Mark: TypeAlias = Literal["circle", "square", "diamond", "triangle"]
_SIGNS: dict[Mark, str] = {"circle": "●", "square": "■", "diamond": "◆", "triangle": "▲"}
_OUTLINES: dict[Mark, str] = {
    "square": "M-4 -4H4V4H-4Z",
    "diamond": "M0 -5.5L5.5 0L0 5.5L-5.5 0Z",
    "triangle": "M0 -5L5 4H-5Z",
}


@dataclass(frozen=True, slots=True)
class Series:
    """One curve. ``name`` is what is read out, and the CSS class; ``label`` is written at its end."""

    name: str
    points: tuple[Point, ...]
    mark: Mark = "circle"
    label: str = ""


@dataclass(frozen=True, slots=True)
class Spot:
    """One point of a plane; ``x`` and ``y`` are a share each, with its interval."""

    letter: str
    x: tuple[float, float | None, float | None]
    y: tuple[float, float | None, float | None]


UNIT = Axis(0.0, 1.0, (0.0, 0.25, 0.5, 0.75, 1.0))


def difference_axis(values: Iterable[float | None]) -> Axis:
    """Return an axis that holds 0 and all given differences, with round ticks of about six steps."""
    known = [0.0, *(number for number in map(finite, values) if number is not None)]
    low, high = max(-1.0, min(known)), min(1.0, max(known))
    step = next((step for step in _STEPS if (high - low) / step <= 6), _STEPS[-1])
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if first == last:
        first, last = -1, 1
    return Axis(first * step, last * step, tuple(round(tick * step, 6) for tick in range(first, last + 1)))


def forest(rows: Sequence[Difference], *, ident: str, title: str) -> Markup:
    """Return a forest plot: per row a point and its interval on a common axis with a line at 0.

    Args:
        rows: In the order to draw; a heading is put where ``group`` changes.
        ident: Unique on the page; the prefix of the ids of title and description.
        title: Read out in place of the drawing.
    """
    axis = difference_axis(value for row in rows for value in (row.difference, row.low, row.high))
    parts: list[Markup] = []
    y, group = 0, None
    for row in rows:
        if row.group != group:
            parts.append(_text(row.group, x="0", y=y + 22, name="group"))
            y, group = y + _GROUP, row.group
        parts += _difference(row, axis, y)
        y += _ROW
    said = "; ".join(f"{row.group}, {row.label}: {_numbers(row)}" for row in rows)
    grid = _grid(axis, y, lambda tick: f"{tick * 100:g}".replace("-", MINUS))
    return _drawing([*grid, *parts], height=y + _FOOT, ident=ident, title=title, said=said)


def changes(rows: Sequence[Change], *, ident: str, title: str) -> Markup:
    """Return a dot plot of rates before (ring) and after (disc), a row per category, from 0 to 100 %."""
    parts = [part for index, row in enumerate(rows) for part in _change(row, index * _ROW)]
    said = "; ".join(f"{row.label}: {percent(row.before)} to {percent(row.after)}" for row in rows)
    return _on_unit(parts, len(rows) * _ROW, ident=ident, title=title, said=said)


def estimates(rows: Sequence[Estimate], *, ident: str, title: str) -> Markup:
    """Return a dot plot of rates with their intervals, a row per category, from 0 to 100 %."""
    parts = [part for index, row in enumerate(rows) for part in _estimate(row, index * _ROW)]
    said = "; ".join(f"{row.label}: {percent(row.rate)} ({interval(row.low, row.high)})" for row in rows)
    return _on_unit(parts, len(rows) * _ROW, ident=ident, title=title, said=said)


def curves(series: Sequence[Series], below: Mapping[float, str], *, ident: str, title: str) -> Markup:
    """Return curves of shares from 0 to 100 %, with bars for their intervals.

    A dashed line joins the shares among some of the items, where they are not the same.

    Args:
        series: A few curves.
        below: The numbers to mark on the horizontal axis, the least and the greatest at its ends, each with what
            stands under it.
        ident: Unique on the page; the prefix of the ids of title and description.
        title: Read out in place of the drawing.
    """
    right = 100 - (_RIGHT if any(one.label for one in series) else 0)
    axis = Axis(min(below), max(below), tuple(below), _LEFT, right)
    parts = [part for share in UNIT.ticks for part in _level(share, right)]
    for x, text in below.items():
        parts.append(_text(f"{x:g}", x=_at(axis.at(x)), y=_TALL + 30, name="tick"))
        if text:
            parts.append(_text(text, x=_at(axis.at(x)), y=_TALL + 46, name="tick"))
    for index, one in enumerate(series):
        aside = _ASIDE * (index / (len(series) - 1) - 0.5) if len(series) > 1 else 0.0
        parts += _curve(one, [axis.at(point.x) + aside for point in one.points])
    parts += _labels([one for one in series if one.label], axis)
    said = "; ".join(
        f"{one.name}, {point.x:g}: {percent(point.rate)} ({interval(point.low, point.high)})"
        for one in series
        for point in one.points
    )
    return _drawing(parts, height=_TALL + 54, ident=ident, title=title, said=said)


def plane(spots: Sequence[Spot], *, names: tuple[str, str], ident: str, title: str) -> Markup:
    """Return a plane of two shares, each from 0 to 100 %, with a lettered point and a cross of intervals per spot.

    Args:
        spots: A few; the letters tell them apart.
        names: Of the horizontal and of the vertical share.
        ident: Unique on the page; the prefix of the ids of title and description.
        title: Read out in place of the drawing.
    """
    axis = Axis(0.0, 1.0, UNIT.ticks, _LEFT)
    parts = [part for share in UNIT.ticks for part in _level(share, 100)]
    parts += [
        _text(f"{tick * 100:.0f} %", x=_at(axis.at(tick)), y=_TALL + 24, name="tick") for tick in axis.ticks
    ]
    parts.append(_text(f"across: {names[0]}, up: {names[1]}", x="100%", y=_TALL + 44, name="tick"))
    parts += [part for spot in spots for part in _spot(spot, axis)]
    said = "; ".join(
        f"{spot.letter}: {names[0]} {percent(spot.x[0])}, {names[1]} {percent(spot.y[0])}" for spot in spots
    )
    return _drawing(parts, height=_TALL + 54, ident=ident, title=title, said=said)


def _spot(spot: Spot, axis: Axis) -> list[Markup]:
    (across, left, right), (up, low, high) = spot.x, spot.y
    x, y = axis.at(across), _up(up)
    parts: list[Markup] = []
    if left is not None and right is not None:
        parts.append(
            _tag("line", x1=_at(axis.at(left)), x2=_at(axis.at(right)), y1=y, y2=y, class_="span after")
        )
    if low is not None and high is not None:
        parts.append(_tag("line", x1=_at(x), x2=_at(x), y1=_up(low), y2=_up(high), class_="span after"))
    label = _text(spot.letter, x=_at(x + 1.6), y=int(y) - 8, name="label", anchor="start")
    return [*parts, _tag("circle", cx=_at(x), cy=y, r=4, class_="point after"), label]


def _curve(series: Series, places: Sequence[float]) -> list[Markup]:
    """Return a curve's bars, lines and marks at the places of its points."""
    parts: list[Markup] = []
    among = [point.among for point in series.points]
    if among != [point.rate for point in series.points]:
        parts += _joined(places, among, name=f"line some {series.name}")
    parts += _joined(places, [point.rate for point in series.points], name=f"line {series.name}")
    for x, point in zip(places, series.points, strict=True):
        low, high, rate = finite(point.low), finite(point.high), finite(point.rate)
        if low is not None and high is not None:
            parts.append(
                _tag("line", x1=_at(x), x2=_at(x), y1=_up(low), y2=_up(high), class_=f"span {series.name}")
            )
        if rate is not None:
            parts.append(_point(x, _up(rate), series))
    return parts


def _point(x: float, y: float, series: Series) -> Markup:
    name = f"point {series.name}"
    if series.mark == "circle":
        return _tag("circle", cx=_at(x), cy=y, r=4, class_=name)
    outline = _tag("path", d=_OUTLINES[series.mark], class_=name)
    return _tag("svg", outline, x=_at(x), y=y, overflow="visible")


def _labels(series: Sequence[Series], axis: Axis) -> list[Markup]:
    """Return the label of each curve after its sign, to the right of the last point and about as high."""
    known = [[point for point in one.points if finite(point.rate) is not None] for one in series]
    ends = [(points[-1], one) for points, one in zip(known, series, strict=True) if points]
    ends.sort(key=lambda end: -(end[0].rate or 0.0))
    x = max((axis.at(point.x) for point, _ in ends), default=axis.right) + 3.5
    heights = _apart([_up(point.rate or 0.0) for point, _ in ends])
    return [
        _text(
            f"{_SIGNS[one.mark]} {one.label}", x=_at(x), y=int(y) + 5, name=f"name {one.name}", anchor="start"
        )
        for y, (_, one) in zip(heights, ends, strict=True)
    ]


def _apart(heights: Iterable[float]) -> list[float]:
    """Return heights, given from the top down, moved so far apart that a line of text fits at each."""
    found: list[float] = []
    for height in heights:
        found.append(max(height, found[-1] + _LINE) if found else height)
    lowest = float(_TALL)
    for index in reversed(range(len(found))):
        found[index] = min(found[index], lowest)
        lowest = found[index] - _LINE
    return found


def _joined(places: Sequence[float], shares: Sequence[float | None], *, name: str) -> list[Markup]:
    """Return a line between neighbouring points that are both known."""
    points = [(x, finite(share)) for x, share in zip(places, shares, strict=True)]
    return [
        _tag("line", x1=_at(x1), y1=_up(y1), x2=_at(x2), y2=_up(y2), class_=name)
        for (x1, y1), (x2, y2) in pairwise(points)
        if y1 is not None and y2 is not None
    ]


def _level(share: float, right: float) -> list[Markup]:
    y = _up(share)
    line = _tag("line", x1=_at(_LEFT), x2=f"{right:g}%", y1=y, y2=y, class_="grid")
    return [line, _text(f"{share * 100:.0f} %", x="0", y=int(y) + 4, name="tick")]


def _up(share: float) -> float:
    """Return the vertical place of a share, in pixels from the top."""
    return round(_TOP + (_TALL - _TOP) * (1 - min(max(share, 0.0), 1.0)), 1)


def _difference(row: Difference, axis: Axis, y: int) -> list[Markup]:
    parts = [
        _text(row.label, x="0", y=y + 15, name="label"),
        _text(_numbers(row), x="100%", y=y + 15, name=f"value {row.state}"),
    ]
    low, high, middle = finite(row.low), finite(row.high), finite(row.difference)
    if low is not None and high is not None:
        parts.append(_line(axis.at(low), axis.at(high), y + 26, name=f"bar {row.state}"))
        parts += [_cap(axis.at(end), y + 26, row.state) for end in (low, high)]
    if middle is not None:
        parts.append(_mark(axis.at(middle), y + 26, row.state))
    return parts


def _numbers(row: Difference) -> str:
    if finite(row.difference) is None:
        return row.note
    bounds = f" ({interval(row.low, row.high)})" if finite(row.low) is not None else ""
    return f"{points(row.difference)}{bounds}{' · ' if row.note else ''}{row.note}"


def _change(row: Change, y: int) -> list[Markup]:
    before, after = finite(row.before), finite(row.after)
    parts = [
        _text(row.label, x="0", y=y + 15, name="label"),
        _text(f"{percent(before)} → {percent(after)}", x="100%", y=y + 15, name="value"),
    ]
    if before is not None and after is not None:
        parts.append(_line(UNIT.at(before), UNIT.at(after), y + 26, name=f"bar {row.state}"))
    if before is not None:
        parts.append(_tag("circle", cx=_at(UNIT.at(before)), cy=y + 26, r=5, class_="ring"))
    if after is not None:
        parts.append(_tag("circle", cx=_at(UNIT.at(after)), cy=y + 26, r=4, class_=f"disc {row.state}"))
    return parts


def _estimate(row: Estimate, y: int) -> list[Markup]:
    rate, low, high = finite(row.rate), finite(row.low), finite(row.high)
    value = percent(rate) if low is None else f"{percent(rate)} ({interval(low, high)})"
    parts = [
        _text(row.label, x="0", y=y + 15, name="label"),
        _text(value, x="100%", y=y + 15, name="value"),
    ]
    if low is not None and high is not None:
        parts.append(_line(UNIT.at(low), UNIT.at(high), y + 26, name="bar changed"))
    if rate is not None:
        parts.append(_tag("circle", cx=_at(UNIT.at(rate)), cy=y + 26, r=4, class_="disc changed"))
    return parts


def _mark(x: float, y: int, state: str) -> Markup:
    """Return the point of a row; its shape says again what its colour says."""
    if state == "worse":
        shift = "translate(-5 -5)"
        return _tag("rect", x=_at(x), y=y, width=10, height=10, transform=shift, class_="disc worse")
    return _tag("circle", cx=_at(x), cy=y, r=5, class_="disc better" if state == "better" else "ring")


def _cap(x: float, y: int, state: str) -> Markup:
    return _tag("line", x1=_at(x), x2=_at(x), y1=y - 4, y2=y + 4, class_=f"bar {state}")


def _line(x1: float, x2: float, y: int, *, name: str) -> Markup:
    return _tag("line", x1=_at(x1), x2=_at(x2), y1=y, y2=y, class_=name)


def _grid(axis: Axis, height: int, write: Callable[[float], str]) -> list[Markup]:
    """Return the lines at the ticks, a 0 inside the axis stronger, and their labels below."""
    parts: list[Markup] = []
    for tick in axis.ticks:
        x = _at(axis.at(tick))
        parts.append(
            _tag("line", x1=x, x2=x, y1=0, y2=height, class_="zero" if tick == 0 > axis.low else "grid")
        )
        parts.append(_text(write(tick), x=x, y=height + 18, name="tick"))
    return parts


def _on_unit(parts: Sequence[Markup], height: int, *, ident: str, title: str, said: str) -> Markup:
    grid = _grid(UNIT, height, lambda tick: f"{tick * 100:.0f} %")
    return _drawing([*grid, *parts], height=height + _FOOT, ident=ident, title=title, said=said)


def _text(text: str, *, x: str, y: int, name: str, anchor: str = "") -> Markup:
    anchor = anchor or {"100%": "end", "0": "start"}.get(x, "middle")
    return _tag(
        "text", one_line(text, limit=60 if name == "group" else 36), x=x, y=y, class_=name, text_anchor=anchor
    )


def _drawing(parts: Sequence[Markup], *, height: int, ident: str, title: str, said: str) -> Markup:
    named = [_tag("title", title, id=f"{ident}-title"), _tag("desc", said, id=f"{ident}-desc")]
    inner = Markup("").join([*named, *parts])
    return _tag(
        "svg",
        inner,
        class_="plot",
        role="img",
        width="100%",
        height=height,
        aria_labelledby=f"{ident}-title",
        aria_describedby=f"{ident}-desc",
    )


def _at(position: float) -> str:
    return f"{position:.2f}%"


def _tag(name: str, content: str | Markup = "", **attributes: object) -> Markup:
    """Return one element; its text made visible and escaped; ``class_`` and ``text_anchor`` renamed."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"' for key, value in attributes.items()
    )
    inner = content if isinstance(content, Markup) else escape(visible(content, limit=_SAID))
    return Markup(f"<{name}{written}>{inner}</{name}>")
