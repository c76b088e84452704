"""The attacks by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from toxoid.attacks.base import Attack, Pool
from toxoid.attacks.codes import CODES
from toxoid.attacks.interactive_names import NAMES as INTERACTIVE
from toxoid.errors import UsageError, did_you_mean
from toxoid.plugins import ATTACKS

if TYPE_CHECKING:
    from toxoid.attacks.many_shot import ManyShotName, Room
    from toxoid.attacks.splitting import SplittingName

NAMES: dict[str, str] = {
    "direct": "the request as it is: the control",
    "prefill": "the reply is begun affirmatively (the data set's target, or own openers)",
    "course_correction": "the reply is begun with the first words of a whole harmful one, at several lengths",
    "analysis_question": "a whole reply is shown, and the model is asked whether it is appropriate",
    "persona": "the model is told to be somebody who never declines",
    "role_play": "the request becomes part of a scene, a game or an exercise",
    "goal_hijacking": "benign requests with an instruction that replaces their task by a marker sentence",
    "suffix_injection": "benign requests with a quoted document that ends in such an instruction",
    "payload_splitting": "the request in pieces to be joined, in one message",
    "payload_splitting_turns": "the request in pieces to be joined, one per turn",
    "many_shot": "after 32 turns that comply; many_shot:N for N, many_shot:N:DATASET for the replies of a data set",
    "many_shot_inline": "the same as a dialogue inside one message",
    "template:FILE": "published templates: a file of prompts with a placeholder such as [INSERT PROMPT HERE]",
    **{f"encoding_{name}": f"the request in a code: {code.summary}" for name, code in CODES.items()},
}
"""Name to one line, for ``toxoid ls attacks``."""


def make_attack(
    name: str, *, variants: int = 1, pool: Pool = "evaluation", room: Room | None = None
) -> Attack:
    """Return an attack.

    Args:
        name: One of ``NAMES``, with what it takes behind a colon: ``many_shot:64``, ``many_shot:64:c2-eval``,
            ``template:FILE``; or a plug-in's.
        variants: Wordings per request.
        pool: Wordings for evaluation, or the disjoint ones for training.
        room: The context that many-shot may fill; ``None`` for no limit.

    Raises:
        UsageError: An unknown name, one with a wrong argument, more variants than the attack has, or a plug-in that
            fails.
    """
    kind, _, argument = name.partition(":")
    if kind == "template":
        return _template(argument, variants)
    if kind == "many_shot":
        return _many_shot("many_shot", argument, variants, pool, room)
    if kind == "many_shot_inline":
        return _many_shot("many_shot_inline", argument, variants, pool, room)
    if name in INTERACTIVE:
        raise UsageError(f'Attack "{name}" asks more than once: name it under audit.attacks.campaigns.')
    if name in _MAKERS:
        return _MAKERS[name](variants, pool)
    plugin: Attack | None = None if kind in _MAKERS else ATTACKS.make(name, variants=variants, pool=pool)
    if plugin is None:
        hint = did_you_mean(name, [*NAMES, *ATTACKS.names()])
        raise UsageError(f'"{name}" is no attack.{hint} See `toxoid ls attacks`.')
    return plugin


def _template(argument: str, variants: int) -> Attack:
    from toxoid.attacks.templates import PublishedTemplates, read_templates

    if not argument:
        raise UsageError('Attack "template" was given no file; write template:FILE, with the path of one.')
    return PublishedTemplates(read_templates(argument), variants)


def _many_shot(kind: ManyShotName, argument: str, variants: int, pool: Pool, room: Room | None) -> Attack:
    from toxoid.attacks.many_shot import SHOTS, ManyShot
    from toxoid.data.loading import load_requests

    shots, _, examples = argument.partition(":")
    if not (shots or str(SHOTS)).isdecimal():
        raise UsageError(f'"{kind}:{argument}" was given; expected a number of shots, as in "{kind}:64".')
    return ManyShot(
        name=kind,
        shots=int(shots or SHOTS),
        variants=variants,
        pool=pool,
        examples=load_requests(examples).requests if examples else (),
        room=room,
    )


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


def _splitting(name: SplittingName) -> Callable[[int, Pool], Attack]:
    def make(variants: int, pool: Pool) -> Attack:
        from toxoid.attacks.splitting import Splitting

        return Splitting(name, variants, pool)

    return make


def _encoding(code: str) -> Callable[[int, Pool], Attack]:
    def make(variants: int, pool: Pool) -> Attack:
        from toxoid.attacks.encoding import Encoding

        return Encoding(code, variants, pool)

    return make


_MAKERS: dict[str, Callable[[int, Pool], Attack]] = {
    "direct": _direct,
    "prefill": _prefill,
    "course_correction": _course_correction,
    "analysis_question": _analysis_question,
    "persona": _persona,
    "role_play": _role_play,
    "goal_hijacking": _goal_hijacking,
    "suffix_injection": _suffix_injection,
    "payload_splitting": _splitting("payload_splitting"),
    "payload_splitting_turns": _splitting("payload_splitting_turns"),
    **{f"encoding_{code}": _encoding(code) for code in CODES},
}
