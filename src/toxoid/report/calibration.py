"""Draws a reliability diagram (DeGroot and Fienberg 1983): whether of 10 texts called a hit with 70 %, 7 are one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from toxoid.errors import UsageError
from toxoid.report.format import count, finite, interval, percent
from toxoid.report.svg import UNIT, Axis
from toxoid.stats.intervals import wilson_interval

_AXIS = Axis(0.0, 1.0, UNIT.ticks, left=15.0)
_TOP, _TALL = 26, 246
"""Pixels from the top to an observed share of 1 and to one of 0."""
_BASE, _BAR = 328, 36
"""Pixels from the top to the foot of the counts, and the height of the greatest."""
_GAP = 0.3
"""Per cent of the width between a bar and the edge of its bin."""


@dataclass(frozen=True, slots=True)
class _Bin:
    """One bin that holds labels, with Wilson's interval of the observed share."""

    left: float
    right: float
    n: int
    claimed: float
    observed: float

    @property
    def ends(self) -> tuple[float, float]:
        return wilson_interval(round(self.observed * self.n), self.n)


def calibration_plot(bins: Sequence[Mapping[str, Any]]) -> Markup:
    """Return a reliability diagram as inline SVG, to be coloured by the page's style sheet.

    Across: the mean probability of a hit that a bin's answers claim. Up: the share of them that is labelled a hit, with
    its 95 % interval. Below: how many labels each bin holds.

    Args:
        bins: Mappings with ``low``, ``high``, ``n``, ``claimed``, ``observed``; the last two may be ``None`` where
            ``n`` is 0.

    Raises:
        UsageError: A bin is something else.
    """
    found = [each for each in map(_read, bins) if each]
    parts = [*_grid(), *(part for each in found for part in _drawn(each, max(one.n for one in found)))]
    said = "; ".join(
        f"claimed {percent(each.claimed)}, observed {percent(each.observed)} ({interval(*each.ends)}), "
        f"{count(each.n)} labels"
        for each in found
    )
    return Markup(
        '<svg class="plot" role="img" width="100%" height="{height}" aria-labelledby="calibration-plot-title" '
        'aria-describedby="calibration-plot-desc"><title id="calibration-plot-title">Claimed probability and observed '
        'share</title><desc id="calibration-plot-desc">{said}</desc>{parts}</svg>'
    ).format(height=_BASE + 6, said=said or "no labels", parts=Markup("").join(parts))


def _read(given: Mapping[str, Any]) -> _Bin | None:
    """Return a bin, or nothing if it is empty."""
    try:
        if not given["n"]:
            return None
        shares = [finite(given[key]) for key in ("low", "high", "claimed", "observed")]
        low, high, claimed, observed = (share for share in shares if share is not None and 0 <= share <= 1)
        return _Bin(low, high, int(given["n"]), claimed, observed)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"a bin of the calibration is {str(given)[:80]!r}, expected low, high, claimed and observed in [0, 1] "
            "and n: measure the judge again with `toxoid judge eval`"
        ) from error


def _grid() -> list[Markup]:
    """Return the levels, the diagonal on which a judge is calibrated, and what stands at the axes."""
    left, right = _AXIS.at(0), _AXIS.at(1)
    parts = [_line(left, right, _up(share), _up(share), "grid") for share in UNIT.ticks]
    parts += [_line(left, right, _up(0), _up(1), "line some"), _line(left, right, _BASE, _BASE, "grid")]
    parts += [_text(f"{share * 100:.0f} %", 0, int(_up(share)) + 4, "start") for share in UNIT.ticks]
    parts += [_text(f"{share * 100:.0f} %", _AXIS.at(share), _TALL + 20) for share in UNIT.ticks]
    rows = (("observed", _TOP - 14), ("claimed", _TALL + 20), ("labels", _BASE))
    return parts + [_text(title, 0, y, "start") for title, y in rows]


def _drawn(each: _Bin, most: int) -> list[Markup]:
    """Return a bin's point with its interval, and its count."""
    x, (low, high) = _AXIS.at(each.claimed), each.ends
    left, right = _AXIS.at(each.left), _AXIS.at(each.right)
    tall = max(1, round(_BAR * each.n / most))
    bar = Markup('<rect x="{:.2f}%" width="{:.2f}%" y="{}" height="{}" class="disc"></rect>')
    return [
        _line(x, x, _up(low), _up(high), "span after"),
        Markup('<circle cx="{:.2f}%" cy="{}" r="4" class="point after"></circle>').format(
            x, _up(each.observed)
        ),
        bar.format(left + _GAP, max(0.0, right - left - 2 * _GAP), _BASE - tall, tall),
        _text(_short(each.n), (left + right) / 2, _BASE - tall - 4),
    ]


def _short(n: int) -> str:
    """Return a count that fits over a bar: thousands from 10,000 on."""
    return count(n) if n < 10_000 else f"{n / 1000:.0f}k"


def _up(share: float) -> float:
    """Return the vertical place of a share, in pixels from the top."""
    return round(_TALL - (_TALL - _TOP) * share, 1)


def _line(x1: float, x2: float, y1: float, y2: float, name: str) -> Markup:
    line = Markup('<line x1="{:.2f}%" x2="{:.2f}%" y1="{}" y2="{}" class="{}"></line>')
    return line.format(x1, x2, y1, y2, name)


def _text(text: str, x: float, y: int, anchor: str = "middle") -> Markup:
    written = Markup('<text x="{:.2f}%" y="{}" class="tick" text-anchor="{}">{}</text>')
    return written.format(x, y, anchor, text)
