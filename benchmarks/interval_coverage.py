"""How often a nominal 95 % interval holds the true rate: clustered by prompt, and with all replies pooled.

    python -m benchmarks.interval_coverage [--runs 4000] [--json]

Every simulated audit draws prompts with chances of their own from a beta distribution and a few replies to each. The
pooled interval (Wilson's) takes these replies for independent. With ``--json`` the last line is JSON: the coverage of
both for 50 prompts with 5 replies each at the intra-cluster correlation 0.4, and the whole table.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from toxoid.stats.intervals import clustered_rate, wilson_interval

PROMPTS, REPLIES, CORRELATION = 50, 5, 0.4
RATES = (0.05, 0.1, 0.3, 0.5)
CORRELATIONS = (0.0, 0.2, CORRELATION, 0.6)
RESAMPLES = 1000


@dataclass(frozen=True)
class Coverage:
    """Shares of simulated audits whose interval holds the true rate, and the standard error of the first.

    Args:
        rate: The true one.
        correlation: Of the replies to one prompt.
        clustered: Coverage of toxoid's interval.
        pooled: Coverage of Wilson's interval over all replies.
        error: Monte Carlo standard error of ``clustered``.
    """

    rate: float
    correlation: float
    clustered: float
    pooled: float
    error: float


def coverage(rate: float, correlation: float, *, runs: int, seed: int = 0) -> Coverage:
    """Simulate audits of :data:`PROMPTS` prompts with :data:`REPLIES` replies each."""
    rng = np.random.default_rng([seed, round(1000 * rate), round(1000 * correlation)])
    held = np.zeros(2)
    for run in range(runs):
        hits = rng.binomial(REPLIES, _chances(rate, correlation, rng))
        outcomes = [[1.0] * hit + [0.0] * (REPLIES - hit) for hit in hits.tolist()]
        found = clustered_rate(outcomes, resamples=RESAMPLES, seed=run)
        low, high = wilson_interval(int(hits.sum()), PROMPTS * REPLIES)
        held += (found.ci_low or 0.0) <= rate <= (found.ci_high or 0.0), low <= rate <= high
    clustered, pooled = (held / runs).tolist()
    return Coverage(rate, correlation, clustered, pooled, math.sqrt(clustered * (1 - clustered) / runs))


def _chances(rate: float, correlation: float, rng: np.random.Generator) -> np.ndarray:
    """Draw each prompt's chance of a hit: mean ``rate``, variance ``correlation * rate * (1 - rate)``."""
    if correlation == 0.0:
        return np.full(PROMPTS, rate)
    spread = 1 / correlation - 1
    return rng.beta(rate * spread, (1 - rate) * spread, size=PROMPTS)


def table(found: Sequence[Coverage]) -> str:
    """Return the coverages as Markdown."""
    lines = ["| true rate | correlation | clustered by prompt | pooled |", "|---|---|---|---|"]
    lines += [
        f"| {100 * each.rate:.0f} % | {each.correlation} | {100 * each.clustered:.1f} % (± {196 * each.error:.1f}) | "
        f"{100 * each.pooled:.1f} % |"
        for each in found
    ]
    return "\n".join(lines)


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=4000, help="simulated audits per row")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    given = parser.parse_args()
    found = [coverage(rate, part, runs=given.runs) for part in CORRELATIONS for rate in RATES]
    print(table(found))
    if given.json:
        chief = [each for each in found if each.correlation == CORRELATION]
        means = {
            "coverage": sum(each.clustered for each in chief) / len(chief),
            "pooled_coverage": sum(each.pooled for each in chief) / len(chief),
        }
        rounded = {name: round(value, 4) for name, value in means.items()}
        print(json.dumps({**rounded, "rows": [asdict(each) for each in found]}))


if __name__ == "__main__":
    main()
