"""The attacks by name."""

from __future__ import annotations

from collections.abc import Callable

from toxoid.attacks.base import Attack, Pool
from toxoid.errors import UsageError, did_you_mean

NAMES: dict[str, str] = {
    "direct": "the request as it is: the control",
    "prefill": "the reply is begun affirmatively (the data set's target, or own openers)",
    "course_correction": "the reply is begun with the first words of a whole harmful one, at several lengths",
    "analysis_question": "a whole reply is shown, and the model is asked whether it is appropriate",
    "persona": "the model is told to be somebody who never declines",
    "role_play": "the request becomes part of a scene, a game or an exercise",
    "goal_hijacking": "benign requests with an instruction that replaces their task by a marker sentence",
    "suffix_injection": "benign requests with a quoted document that ends in such an instruction",
}
"""Name to one line, for ``toxoid ls attacks``."""


def make_attack(name: str, *, variants: int = 1, pool: Pool = "evaluation") -> Attack:
    """Return an attack.

    Args:
        name: One of ``NAMES``.
        variants: Wordings per request.
        pool: Wordings for evaluation, or the disjoint ones for training.

    Raises:
        UsageError: An unknown name, or more variants than the attack has.
    """
    if name not in NAMES:
        raise UsageError(f'"{name}" is no attack.{did_you_mean(name, NAMES)} Known: {", ".join(NAMES)}.')
    return _MAKERS[name](variants, pool)


def _direct(variants: int, pool: Pool) -> Attack:
    from toxoid.attacks.direct import Direct
    from toxoid.attacks.wording import check_variants

    check_variants("direct", variants, 1)
    return Direct()


def _prefill(variants: int, pool: Pool) -> Attack:
    from toxoid.attacks.prefill import Prefill

    return Prefill(variants, pool)


def _course_correction(variants: int, pool: Pool) -> Attack:
    from toxoid.attacks.course_correction import CourseCorrection

    return CourseCorrection(variants=variants, opener=pool)


def _analysis_question(variants: int, pool: Pool) -> Attack:
    from toxoid.attacks.analysis_question import AnalysisQuestion
    from toxoid.attacks.wording import check_variants

    check_variants("analysis_question", variants, 1)
    return AnalysisQuestion()


def _persona(variants: int, pool: Pool) -> Attack:
    from toxoid.attacks.framing import Framing

    return Framing("persona", variants, pool)


def _role_play(variants: int, pool: Pool) -> Attack:
    from toxoid.attacks.framing import Framing

    return Framing("role_play", variants, pool)


def _goal_hijacking(variants: int, pool: Pool) -> Attack:
    from toxoid.attacks.hijacking import Hijacking

    return Hijacking("goal_hijacking", variants, pool)


def _suffix_injection(variants: int, pool: Pool) -> Attack:
    from toxoid.attacks.hijacking import Hijacking

    return Hijacking("suffix_injection", variants, pool)


_MAKERS: dict[str, Callable[[int, Pool], Attack]] = {
    "direct": _direct,
    "prefill": _prefill,
    "course_correction": _course_correction,
    "analysis_question": _analysis_question,
    "persona": _persona,
    "role_play": _role_play,
    "goal_hijacking": _goal_hijacking,
    "suffix_injection": _suffix_injection,
}
