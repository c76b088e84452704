"""How rates, differences and p values are written; every text and table takes them from here."""

from __future__ import annotations

import math

DASH = "–"
MINUS = "−"
NOISE = 1e-9
"""Fractions closer than this are equal: what is left of sums in floating point."""

_MAX_DECIMALS = 7


def percent(rate: float | None) -> str:
    """Return a fraction as ``"31.4 %"``; a dash for ``None``.

    A rate that is not quite 0 or 1 never reads ``0.0 %`` or ``100.0 %``: it gets the decimals it needs.
    """
    value = finite(rate)
    return DASH if value is None else f"{_fixed(value * 100, kept=(0.0, 100.0))} %"


def points(difference: float | None) -> str:
    """Return a difference of fractions in signed percentage points, ``"+31.4"``; a dash for ``None``."""
    value = finite(difference)
    if value is None:
        return DASH
    text = signed(value)
    return text if text.startswith(MINUS) or text == "0.0" else f"+{text}"


def signed(fraction: float) -> str:
    """Return a fraction in percentage points with a real minus sign and no plus."""
    return _fixed(fraction * 100, kept=(0.0,))


def interval(low: float | None, high: float | None) -> str:
    """Return the two ends in percentage points, ``"24.0 to 38.5"``; a dash if one is missing."""
    ends = finite(low), finite(high)
    return DASH if ends[0] is None or ends[1] is None else f"{signed(ends[0])} to {signed(ends[1])}"


def p_value(p: float | None) -> str:
    """Return a p value as ``"< .001"``, ``".034"`` or ``"1"``; a dash for ``None``.

    A p value beside .05 never reads ``.050``: it gets the decimals that say on which side it lies.
    """
    value = finite(p)
    if value is None:
        return DASH
    if value < 0.001:
        return "< .001"
    for decimals in (3, 4, 5):
        text = f"{value:.{decimals}f}"
        if float(text) != 0.05 or value == 0.05:
            break
    return "1" if float(text) >= 1 else text.removeprefix("0")


def share(part: int, whole: int) -> str:
    """Return ``part`` of ``whole`` as a percentage; a dash if there is no whole."""
    return percent(part / whole) if whole else DASH


def finite(value: float | None) -> float | None:
    """Return the number, or ``None`` for ``None``, NaN and the infinities."""
    return None if value is None or not math.isfinite(value) else float(value)


def _fixed(value: float, *, kept: tuple[float, ...]) -> str:
    """Return one decimal, or more where fewer would move the value onto one of the ``kept`` numbers."""
    if abs(value) < NOISE * 100:
        return "0.0"
    for decimals in range(1, _MAX_DECIMALS + 1):
        text = f"{value:.{decimals}f}"
        if float(text) not in kept or value in kept:
            break
    return text.replace("-", MINUS)
