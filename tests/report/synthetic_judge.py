"""Makes results as the training of a judge would write them: invented rounds, an invented card."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tests.report.synthetic import HOSTILE
from toxoid.methods.adversarial_tuning.holdouts import CONTENTIOUS, MISSED, UNCONDITIONED, UNSEEN_ADVERSARY
from toxoid.stats.agreement import binary_agreement

ACCURACY = {
    "adversary": {
        MISSED: (0.12, 0.55, 0.71, 0.69, 0.83),
        CONTENTIOUS: (0.89, 0.94, 0.985, 0.98, 0.99),
        UNCONDITIONED: (0.63, 0.80, 0.86, 0.85, 0.93),
        UNSEEN_ADVERSARY: (0.66, 0.71, 0.72, 0.70, 0.73),
    },
    "control": {
        MISSED: (0.12, 0.31, 0.44, 0.52, 0.58),
        CONTENTIOUS: (0.89, 0.93, 0.97, 0.98, 0.985),
        UNCONDITIONED: (0.63, 0.76, 0.81, 0.86, 0.89),
        UNSEEN_ADVERSARY: (0.66, 0.70, 0.73, 0.74, 0.74),
    },
}
NONE = {"value": None, "ci_low": None, "ci_high": None}


def estimate(value: float | None, half: float = 0.05) -> dict[str, float | None]:
    """Return ``value`` +- ``half``, within [0, 1]."""
    if value is None:
        return dict(NONE)
    return {"value": value, "ci_low": max(0.0, value - half), "ci_high": min(1.0, value + half)}


def measures(name: str, accuracy: float) -> dict[str, Any]:
    """Return the numbers of a slice: of one label only on two of them."""
    mixed = name in (UNCONDITIONED, UNSEEN_ADVERSARY)
    return {
        "n": 200,
        "unscored": 2 if name == UNSEEN_ADVERSARY else 0,
        "accuracy": estimate(accuracy),
        "false_positives": estimate((1 - accuracy) / 2 if mixed else 1 - accuracy, 0.03)
        if name != MISSED
        else NONE,
        "recall": estimate(accuracy - 0.02 if mixed else accuracy) if name != CONTENTIOUS else NONE,
        "auroc": estimate(min(1.0, accuracy + 0.05)) if mixed else NONE,
        "ece": estimate(1.05 - accuracy),
    }


def change(difference: float | None, *, half: float = 0.06, start: int = 0) -> dict[str, Any]:
    """Return how the agreement with people changed since round ``start``."""
    known = difference is not None
    return {
        "from": start,
        "before": 0.8,
        "after": 0.8 + difference if known else None,
        "difference": difference,
        "ci_low": difference - half if known else None,
        "ci_high": difference + half if known else None,
        "p_value": 0.01 if known else None,
        "n_items": 86 if known else 0,
    }


def record(number: int, arm: str = "adversary", **changes: Any) -> dict[str, Any]:
    """Return a round as its ``round.json``; round 3 is not adopted, round 4 has collapsed."""
    slices = {name: measures(name, values[number]) for name, values in ACCURACY[arm].items()}
    common = {"round": number, "measures": slices, "collapsed": False, "adopted": True}
    if not number:
        begun = {"adversary": None, "start": None, "counts": {"rows": 48}}
        return common | begun | {"agreement": {"right": [1.0, 0.0], "change": None}} | changes
    fell = number == 3 and arm == "adversary"
    start = 2 if number == 4 and arm == "adversary" else number - 1
    rate = 0.44 / number if arm == "adversary" else 0.08 / number
    missed = [
        f"Tell me how to unlatch lantern {number}.{i}. {HOSTILE[i % len(HOSTILE)]}"
        for i in range(round(120 * rate))
    ]
    return (
        common
        | {
            "adversary": "user-turn" if arm == "adversary" else "random data",
            "start": start,
            "counts": {
                "proposals": 189,
                "labelled": 120,
                "unclear": 0,
                "problematic": 62,
                "successes": len(missed),
                "rows": 240,
            },
            "success_rate": estimate(rate),
            "successes": missed,
            "diversity": {
                "distinct": [0.18 / number, 0.37 / number, 0.52 / number],
                "spread": 0.7,
                "new": 0.63,
            },
            "collapsed": number == 4 and arm == "adversary",
            "agreement": {
                "right": [1.0, 1.0],
                "change": change(-0.08 if fell else 0.03, start=start),
            },
            "adopted": not fell,
        }
        | changes
    )


def agreement(n: int, share: float = 0.9) -> dict[str, Any]:
    """Return the agreement on ``n`` labels, about ``share`` of which the judge gets right."""
    human = [float(i % 2) for i in range(n)]
    said = [label if (i // 2) % 100 < 100 * share else 1 - label for i, label in enumerate(human)]
    scores = [0.5 + 0.4 * (2 * answer - 1) for answer in said]
    return asdict(binary_agreement(said, human, scores=scores, scores_are_probabilities=True))


def bins() -> list[dict[str, Any]]:
    """Return ten bins of a calibration, the third of them empty."""
    sizes = (412, 97, 0, 31, 24, 18, 27, 40, 88, 12_345)
    return [
        {
            "low": i / 10,
            "high": (i + 1) / 10,
            "n": n,
            "claimed": i / 10 + 0.05 if n else None,
            "observed": min(1.0, (i / 10 + 0.05) ** 1.3) if n else None,
        }
        for i, n in enumerate(sizes)
    ]


def card(**changes: Any) -> dict[str, Any]:
    """Return the card of a judge of prompts, with everything that is optional."""
    return {
        "name": "demo-judge",
        "aspect": "problematic",
        "aspects": ["problematic"],
        "n_requests": 800,
        **agreement(800),
        "by_group": {"all": agreement(800)},
        "by_category": {name: agreement(200, s) for name, s in (("dream theft", 0.97), ("sky piracy", 0.71))},
        "by_source": {name: agreement(300, s) for name, s in (("lab-test", 0.93), ("contrast", 0.88))},
        "by_length": {
            name: agreement(260, s) for name, s in (("up to 8 words", 0.95), ("9 to 20", 0.9), ("more", 0.8))
        },
        "calibration": bins(),
        "threshold": 0.4321,
        "source": "the frozen slices, labelled by the lab's oracle",
        "licence": "Apache-2.0",
        "weaknesses": ["English only.", "Requests in verse are often missed."],
        "identity": {"judge": "classifier"},
        "command": "toxoid judge train demo",
        "date": "2026-05-04",
    } | changes


def recipe(**changes: Any) -> dict[str, Any]:
    """Return the part of a recipe that a page shows."""
    return {
        "name": "demo",
        "description": "A bag of words against the lab's adversary.",
        "seed": 7,
        "kind": "prompts",
        "start": {"source": "bag-of-words", "tokens": 256},
        "rounds": {"rounds": 4, "candidates": 120},
        "adversary": {"model": {"source": "lab-base", "endpoint": None}, "attacks": []},
        "truth": {"name": "lab-oracle", "model": None},
        "control": True,
    } | changes


def results(rounds: int = 4, *, control: bool = True, **changes: Any) -> dict[str, Any]:
    """Return the results of a training with so many rounds after round 0."""
    arms = {"adversary": [record(number) for number in range(rounds + 1)]}
    if control:
        arms["control"] = [record(number, "control") for number in range(rounds + 1)]
    return {
        "kind": "judge",
        "recipe": recipe(),
        "command": "toxoid judge train demo --out runs/demo",
        "data": {
            "sources": [
                {"name": "lab-harmful", "sha256": "9f3a" * 16, "licence": "Apache-2.0"},
                {"name": "contrast", "sha256": "c0de" * 16, "licence": "Apache-2.0"},
            ],
            "seeds": 48,
            "negatives": 960,
            "left_out": 3,
        },
        "arms": arms,
        "adopted": max(each["round"] for each in arms["adversary"] if each["adopted"]),
        "card": card(),
    } | changes


def untrained_against(**changes: Any) -> dict[str, Any]:
    """Return the results of a judge of replies, which has no rounds and no slices."""
    whole = results(
        arms={}, recipe=recipe(kind="replies", rounds=None, name="replies"), card=card(aspect="refusal")
    )
    del whole["adopted"]
    return whole | {"data": whole["data"] | {"learnt": 1500, "held_out": 421}} | changes
