"""Attacks for the audit task ``campaigns``, by name."""

from __future__ import annotations

from collections.abc import Callable

from toxoid.attacks.adaptive import Adaptive
from toxoid.attacks.best_of_n import BestOfN
from toxoid.attacks.crescendo import Crescendo
from toxoid.attacks.gcg import GCG
from toxoid.attacks.interactive import InteractiveAttack, OneByOne
from toxoid.attacks.interactive_names import NAMES
from toxoid.attacks.pair import Pair
from toxoid.attacks.registry import make_attack


def make_interactive(name: str, *, attacker: bool, rounds: int = 1) -> InteractiveAttack:
    """Return an attack that talks back.

    Args:
        name: One of ``NAMES``, or any other attack, which is then asked over and over: ``direct`` is the control.
        attacker: Whether there is a model to help.
        rounds: How often those others are asked.

    Raises:
        UsageError: An unknown name.
    """
    makers: dict[str, Callable[[], InteractiveAttack]] = {
        "crescendo": lambda: Crescendo(attacker=attacker),
        "pair": Pair,
        "best_of_n": BestOfN,
        "gcg": GCG,
        "adaptive": lambda: Adaptive(attacker=attacker),
    }
    return makers[name]() if name in NAMES else OneByOne(make_attack(name), rounds)
