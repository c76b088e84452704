"""Which judge answers which aspect: the panel that an audit works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from toxoid.engines.base import Engine
from toxoid.errors import UsageError
from toxoid.judges.base import Aspect, Judge

Panel: TypeAlias = Mapping[Aspect, Judge]


def make_panel(name: str, *, engine: Engine | None = None) -> Panel:
    """Return the judges of a panel by aspect.

    Args:
        name: ``lab-oracle``, ``refusal``, ``llm`` or ``encoder``; a plug-in or a judge by path
            (:func:`toxoid.judges.folders.judge_from`); or several joined by ``+``, of which each takes its aspects over
            from those before it. A panel that begins with none of the first three is laid over ``refusal``.
        engine: What the LLM judge asks.

    Raises:
        UsageError: An unknown name, a judge that cannot be loaded, or an LLM judge without a model.
    """
    panel: dict[Aspect, Judge] = {}
    for part in panel_parts(name):
        panel.update(_MAKERS[part](engine) if part in _MAKERS else _by_aspect(_by_path(part)))
    return panel


def panel_parts(name: str) -> list[str]:
    """Return the names that a panel is made of; a path with a ``+`` in it is one name if it exists."""
    whole = name in _MAKERS or Path(name).expanduser().exists()
    parts = [name] if whole else [part.strip() for part in name.split("+")]
    return parts if parts[0] in _WHOLE else ["refusal", *parts]


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


def _encoder(engine: Engine | None) -> Panel:
    from toxoid.judges.folders import encoder_folders, judge_from

    return _by_aspect(*map(judge_from, encoder_folders()))


def _by_path(source: str) -> Judge:
    from toxoid.judges.folders import judge_from

    return judge_from(source)


_WHOLE = ("lab-oracle", "refusal", "llm")
"""Panels that answer what an audit asks."""
_MAKERS: dict[str, Callable[[Engine | None], Panel]] = {
    "lab-oracle": _lab_oracle,
    "refusal": _refusal,
    "llm": _llm,
    "encoder": _encoder,
}
