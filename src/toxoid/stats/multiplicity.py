"""Several tests at once: p values adjusted so that any false alarm among them stays rare."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return Holm's step-down adjusted p values, in the order given (Holm 1979).

    The i-th smallest of m is multiplied by ``m - i`` (i from 0), made monotone, and capped at 1. ``None``
    (a test that could not be made) stays ``None`` and does not count in m.

    Raises:
        ValueError: A p value outside [0, 1].
    """
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(known):
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"p value {p}; expected a number in [0, 1]")
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[place] = largest
    return adjusted
