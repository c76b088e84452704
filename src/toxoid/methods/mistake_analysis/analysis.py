"""Guided analysis (section 4.2, step 2) and its unguided training form (step 3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from toxoid.attacks import analysis_question
from toxoid.data.schemas import Request, user
from toxoid.engines.base import Completion
from toxoid.errors import UsageError
from toxoid.judges.verdict import Truth, read_verdict
from toxoid.methods.base import MethodInput
from toxoid.methods.mistake_analysis.options import MistakeAnalysisOptions
from toxoid.training.examples import Example


@dataclass(frozen=True, slots=True)
class Subject:
    """A reply to be analysed, and what it is known to be."""

    request: Request
    reply: str
    truth: Truth

    @property
    def form(self) -> analysis_question.QuestionForm:
        """The guided question: what is wrong with a bad reply to a request that is not harmful is another thing."""
        if self.truth == "harmless":
            return "guided_harmless"
        return "guided_harmful" if self.request.kind == "harmful" else "guided_hijacked"


@dataclass(frozen=True, slots=True)
class Analysis:
    """What an analyser says about a subject; ``verdict`` is read from its text."""

    subject: Subject
    text: str
    verdict: Truth | None


def analyse(
    given: MethodInput, subjects: Sequence[Subject], options: MistakeAnalysisOptions
) -> tuple[list[Analysis], Counter[str]]:
    """Return the analyses whose verdict agrees with what is known; the others are dropped and counted."""
    if options.analyser == "reference":
        analyses = [found for subject in subjects if (found := _reference(subject)) is not None]
        missing = [subject for subject in subjects if _reference(subject) is None]
        analyses += _asked(given, missing, options)
    else:
        analyses = _asked(given, subjects, options)
    counts: Counter[str] = Counter()
    kept = []
    for analysis in analyses:
        agrees = analysis.verdict == analysis.subject.truth
        counts[f"analyses_{analysis.subject.truth}_{'kept' if agrees else 'dropped'}"] += 1
        if agrees:
            kept.append(analysis)
    return kept, counts


def _reference(subject: Subject) -> Analysis | None:
    text = subject.request.metadata.get("analysis" if subject.truth == "harmful" else "harmless_analysis")
    return Analysis(subject, text, read_verdict(text)) if text else None


def _asked(
    given: MethodInput, subjects: Sequence[Subject], options: MistakeAnalysisOptions
) -> list[Analysis]:
    if options.analyser == "other":
        if given.other is None:
            raise UsageError(
                f"analyses_by names {options.analyses_by!r}, and only the model itself can be asked here: leave it out"
            )
        given = replace(given, engine=given.other)
    questions = [
        (f"{subject.request.id}/{subject.truth}", user(question(subject, guided=options.guided_analysis)), "")
        for subject in subjects
    ]
    answers = given.ask("analyses", questions, n=options.analyses_per_mistake)
    return [_analysis(subject, done) for subject, row in zip(subjects, answers, strict=True) for done in row]


def _analysis(subject: Subject, done: Completion) -> Analysis:
    """Return what an analyser said; what was cut off is no analysis, whatever it calls the reply."""
    text = done.text.strip()
    return Analysis(subject, text, read_verdict(text) if done.finish_reason == "stop" else None)


def question(subject: Subject, *, guided: bool) -> str:
    """Return the prompt that asks for an analysis; the guided form asserts what is known about the reply."""
    return analysis_question.question(
        subject.request.prompt, subject.reply, subject.form if guided else "unguided"
    )


def example(analysis: Analysis, *, guided: bool = False) -> Example:
    """Return the training example: the neutral question, the analysis as the only target."""
    asked = question(analysis.subject, guided=guided)
    return Example(
        conversation=user(asked), target=analysis.text, source=f"analysis-{analysis.subject.truth}"
    )
