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


def _by_aspect(*judges: Judge) -> Panel:
    return {aspect: judge for judge in judges for aspect in sorted(judge.aspects)}


def _lab_oracle(engine: Engine | None) -> Panel:
    from toxoid.judges.lab import LabOracleJudge
    from toxoid.judges.verdict import VerdictJudge

    return _by_aspect(LabOracleJudge(), VerdictJudge())


def _refusal(engine: Engine | None) -> Panel:
    from toxoid.judges.correction import CorrectionJudge
    from toxoid.judges.hijack import HijackJudge
    from toxoid.judges.refusal import RefusalJudge
    from toxoid.judges.validity import ValidityJudge
    from toxoid.judges.verdict import VerdictJudge

    return _by_aspect(RefusalJudge(), CorrectionJudge(), ValidityJudge(), HijackJudge(), VerdictJudge())


def _llm(engine: Engine | None) -> Panel:
    from toxoid.judges.llm import LLMJudge

    if engine is None:
        raise UsageError(
            "the judge `llm` needs a model: give --judge-model PATH_OR_HUB_ID, or --judge-endpoint URL with "
            "--judge-model NAME"
        )
    return {**_refusal(None), **_by_aspect(LLMJudge(engine))}


_MAKERS: dict[str, Callable[[Engine | None], Panel]] = {
    "lab-oracle": _lab_oracle,
    "refusal": _refusal,
    "llm": _llm,
}
