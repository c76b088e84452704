"""Counters, gauges and histograms in the text format that Prometheus reads (version 0.0.4)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Histogram:
    counts: list[int]
    total: float = 0.0


@dataclass(slots=True)
class Metrics:
    """What a server counts. All of it is written from one thread, that of the event loop.

    A metric is made by its first value; a name is used for one kind only.
    """

    _values: dict[str, dict[_Labels, float]] = field(default_factory=dict)
    _histograms: dict[str, dict[_Labels, _Histogram]] = field(default_factory=dict)
    _bounds: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Add to a counter, whose name ends in ``_total``."""
        series, key = self._values.setdefault(name, {}), _key(labels)
        series[key] = series.get(key, 0.0) + amount

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge, or a counter that somebody else counts (``_total``)."""
        self._values.setdefault(name, {})[_key(labels)] = value

    def observe(self, name: str, value: float, bounds: tuple[float, ...] = SECONDS, **labels: str) -> None:
        """Put a value into a histogram.

        Args:
            name: Of the metric.
            value: What was seen.
            bounds: Upper ends of the buckets, the same at every call.
            **labels: Names and values of labels.
        """
        bounds = self._bounds.setdefault(name, bounds)
        series = self._histograms.setdefault(name, {})
        histogram = series.setdefault(_key(labels), _Histogram([0] * (len(bounds) + 1)))
        histogram.counts[bisect_left(bounds, value)] += 1
        histogram.total += value

    def value(self, name: str, **labels: str) -> float:
        """Return what a counter or gauge says, 0 if it has never been set."""
        return self._values.get(name, {}).get(_key(labels), 0.0)

    def text(self) -> str:
        """Return all metrics."""
        return "".join(f"{line}\n" for line in (*self._plain(), *self._buckets()))

    def _plain(self) -> Iterator[str]:
        for name, series in sorted(self._values.items()):
            kind: Literal["counter", "gauge"] = "counter" if name.endswith("_total") else "gauge"
            yield f"# TYPE {name} {kind}"
            for labels, value in sorted(series.items()):
                yield f"{name}{_braces(labels)} {value!r}"

    def _buckets(self) -> Iterator[str]:
        for name, series in sorted(self._histograms.items()):
            yield f"# TYPE {name} histogram"
            for labels, histogram in sorted(series.items(), key=lambda item: item[0]):
                seen = 0
                for bound, count in zip((*self._bounds[name], None), histogram.counts, strict=True):
                    seen += count
                    end = "+Inf" if bound is None else f"{bound:g}"
                    yield f"{name}_bucket{_braces((*labels, ('le', end)))} {seen}"
                yield f"{name}_sum{_braces(labels)} {histogram.total!r}"
                yield f"{name}_count{_braces(labels)} {seen}"


def _key(labels: Mapping[str, str]) -> _Labels:
    return tuple(sorted(labels.items()))


def _braces(labels: _Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
