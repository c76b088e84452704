"""Judge prompts and replies in a CSV file; print how many replies decline, and write the verdicts beside.

    python examples/judge_a_file.py replies.csv --judge refusal --aspect refusal

The file has the columns prompt and reply.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from pathlib import Path

import toxoid


def main() -> None:
    """Read, judge, count, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--judge", default="refusal", help="a name, a folder, a Hub name, or a plug-in")
    parser.add_argument("--aspect", default="refusal")
    given = parser.parse_args()

    with given.file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    verdicts = toxoid.judge_texts(
        toxoid.load_judges(given.judge),
        given.aspect,
        [row["prompt"] for row in rows],
        [row["reply"] for row in rows],
    )
    counts = Counter(verdict.outcome for verdict in verdicts)
    for outcome in toxoid.Outcome:  # what could not be scored is neither hit nor miss
        print(f"{outcome.value:9} {counts[outcome]}")
    target = given.file.with_suffix(".verdicts.csv")
    with target.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["prompt", "outcome", "score", "reason"])
        writer.writerows(
            (row["prompt"], verdict.outcome.value, verdict.score, verdict.reason)
            for row, verdict in zip(rows, verdicts, strict=True)
        )
    print(f"verdicts: {target}")


if __name__ == "__main__":
    main()
