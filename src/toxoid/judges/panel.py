"""Which judge answers which aspect: the panel that an audit works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from toxoid.engines.base import Engine
from toxoid.errors import UsageError, did_you_mean
from toxoid.judges.base import Aspect, Judge
from toxoid.judges.registry import NAMES

Panel: TypeAlias = Mapping[Aspect, Judge]


def make_panel(name: str, *, engine: Engine | None = None) -> Panel:
    """Return the judges of a named panel by aspect.

    Args:
        name: ``lab-oracle``, ``refusal`` or ``llm``.
        engine: What the LLM judge asks.

    Raises:
        UsageError: An unknown name, or an LLM judge without a model.
    """
    if name not in _MAKERS:
        raise UsageError(f'"{name}" is no judge.{did_you_mean(name, NAMES)} Known: {", ".join(NAMES)}.')
    return _MAKERS[name](engine)


def panel_identity(panel: Panel) -> dict[str, Any]:
    """Return the identity of each aspect's judge, for fingerprints."""
    return {aspect: judge.identity() for aspect, judge in sorted(panel.items())}


def _lab_oracle(engine: Engine | None) -> Panel:
    from toxoid.judges.lab import LabOracleJudge

    judge = LabOracleJudge()
    return dict.fromkeys(sorted(judge.aspects), judge)


def _refusal(engine: Engine | None) -> Panel:
    from toxoid.judges.correction import CorrectionJudge
    from toxoid.judges.hijack import HijackJudge
    from toxoid.judges.refusal import RefusalJudge
    from toxoid.judges.validity import ValidityJudge

    judges: tuple[Judge, ...] = (RefusalJudge(), CorrectionJudge(), ValidityJudge(), HijackJudge())
    return {aspect: judge for judge in judges for aspect in sorted(judge.aspects)}


def _llm(engine: Engine | None) -> Panel:
    from toxoid.judges.llm import LLMJudge

    if engine is None:
        raise UsageError(
            "the judge `llm` needs a model: give --judge-model PATH_OR_HUB_ID, or --judge-endpoint URL with "
            "--judge-model NAME"
        )
    judge = LLMJudge(engine)
    return {**_refusal(None), **dict.fromkeys(sorted(judge.aspects), judge)}


_MAKERS: dict[str, Callable[[Engine | None], Panel]] = {
    "lab-oracle": _lab_oracle,
    "refusal": _refusal,
    "llm": _llm,
}
