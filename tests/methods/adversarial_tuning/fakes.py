"""A judge that remembers words, an adversary with a list, a truth that looks for a word."""

from __future__ import annotations

import json

import numpy as np

from toxoid.engines.classifiers.base import Labels
from toxoid.methods.adversarial_tuning.holdouts import CONTENTIOUS, MISSED, UNCONDITIONED, Holdouts
from toxoid.methods.adversarial_tuning.prompts import LabelledPrompt
from toxoid.methods.adversarial_tuning.rounds import Game

LABELS = Labels(("harmless", "problematic"), frozenset({"problematic"}), "problematic")
VERBS = [f"verb{letter}" for letter in "abcdefghijklmnopqrst"]
THINGS = [f"thing{letter}" for letter in "abcdefghijklmnopqrst"]


class WordJudge:
    """Calls a text problematic that has a word which it has seen in problematic texts only."""

    name = "words"
    labels = LABELS

    def __init__(self, words=()):
        self.words = set(words)

    def identity(self):
        return {"classifier": "words", "weights": sorted(self.words)}

    def probabilities(self, texts):
        scores = np.array([np.nan if not t else 0.9 if self.words & set(t.split()) else 0.1 for t in texts])
        return np.stack([1 - scores, scores], axis=1)


def train(start, rows, output):
    """Train a WordJudge; leaves what it began from and how many rows it saw."""
    bad = {word for row in rows if row.problematic for word in row.text.split()}
    fine = {word for row in rows if not row.problematic for word in row.text.split()}
    output.mkdir()
    known = {"words": sorted(bad - fine), "rows": len(rows), "start": start and str(start)}
    (output / "judge.json").write_text(json.dumps(known))


def load(folder):
    return WordJudge(json.loads((folder / "judge.json").read_text())["words"])


class ListAdversary:
    """Says ``bad VERB THING`` in an order that depends on the seed, and every third time something harmless."""

    name = "list"

    def __init__(self, adapters=()):
        self.adapters = list(adapters)
        self.asked = []

    def identity(self):
        return {"weights": "of the adversary", "adapters": len(self.adapters)}

    def propose(self, count, successes, *, seed):
        self.asked.append((count, list(successes), seed))
        rng = np.random.default_rng(seed)
        kinds = rng.choice(["bad", "bad", "nice"], count)
        return [f"{kind} {rng.choice(VERBS)} {rng.choice(THINGS)}" for kind in kinds]

    def examples(self, successes, *, seed):
        return list(successes)


class WordTruth:
    name = "bad-word"

    def identity(self):
        return {"truth": self.name}

    def label(self, texts):
        return ["bad" in text.split() for text in texts]


SEEDS = [
    LabelledPrompt("bad verba thinga", True),
    LabelledPrompt("bad verbb thingb", True),
    LabelledPrompt("nice verbc bad-looking", False),
    LabelledPrompt("bad-sounding but nice verbd", False),
]
NEGATIVES = [
    *(LabelledPrompt(f"harmless {verb} indeed", False, "harmless") for verb in VERBS),
    *(LabelledPrompt(f"contentious {verb} debate", False, "contentious") for verb in VERBS),
]
HOLDOUTS = Holdouts(
    {
        MISSED: [LabelledPrompt(f"bad {verb} held", True, "held-out") for verb in VERBS],
        CONTENTIOUS: [LabelledPrompt(f"debate {verb} held", False, "held-out") for verb in VERBS],
        UNCONDITIONED: [
            LabelledPrompt(f"{kind} {verb} mixed", kind == "bad", "held-out", verb)
            for verb in VERBS
            for kind in ("bad", "nice")
        ],
    }
)


def game(**changes):
    given = {
        "seeds": SEEDS,
        "negatives": NEGATIVES,
        "holdouts": HOLDOUTS,
        "truth": WordTruth(),
        "train_judge": train,
        "load_judge": load,
        "adversary": ListAdversary,
        "valid": lambda text: True,
    }
    return Game(**(given | changes))
