"""The treatments by name, light enough for ``toxoid ls``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toxoid.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from toxoid.methods.base import Method

NAMES: dict[str, str] = {
    "course-correction": "learn to leave a harmful reply that has begun, from ranked corrections (Xu et al. 2024)",
    "mistake-analysis": "induce the model's mistakes, analyse them under guidance, train without it (Chen et al. 2023)",
    "sft": "imitate good replies to harmful requests; the plain baseline",
}


def make_method(name: str) -> Method:
    """Return a method by name.

    Raises:
        UsageError: There is none of that name.
    """
    if name == "course-correction":
        from toxoid.methods.course_correction.method import CourseCorrection

        return CourseCorrection()
    if name == "mistake-analysis":
        from toxoid.methods.mistake_analysis.method import MistakeAnalysis

        return MistakeAnalysis()
    if name == "sft":
        from toxoid.methods.baselines.sft import SFT

        return SFT()
    raise UsageError(f'"{name}" is no method.{did_you_mean(name, NAMES)} Known: {", ".join(NAMES)}.')
