"""Guided analysis (section 4.2, step 2) and its unguided training form (step 3)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from toxoid.config.prompt_files import prompt
from toxoid.data.schemas import Request, user
from toxoid.methods.base import MethodInput
from toxoid.methods.mistake_analysis.options import MistakeAnalysisOptions
from toxoid.training.examples import Example

Truth: TypeAlias = Literal["harmful", "harmless"]

_REVERSED = re.compile(r"\b(?:not|nothing|never|no|isn't|hardly)\W+(?:\w+\W+)?$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Subject:
    """A reply to be analysed, and what it is known to be."""

    request: Request
    reply: str
    truth: Truth


@dataclass(frozen=True, slots=True)
class Analysis:
    """What an analyser says about a subject; ``verdict`` is read from its text."""

    subject: Subject
    text: str
    verdict: Truth | None


def read_verdict(text: str) -> Truth | None:
    """Return what a free-text analysis calls the reply: its first verdict word decides, a negation flips it."""
    words: dict[Truth, list[str]] = prompt("mistake_analysis")["verdict_words"]
    meaning = {word: truth for truth, listed in words.items() for word in listed}
    found = re.search(rf"\b({'|'.join(meaning)})\b", text, re.IGNORECASE)
    if found is None:
        return None
    truth = meaning[found.group(1).lower()]
    if _REVERSED.search(text[: found.start()]):
        return "harmless" if truth == "harmful" else "harmful"
    return truth


def analyse(
    given: MethodInput, subjects: Sequence[Subject], options: MistakeAnalysisOptions
) -> tuple[list[Analysis], Counter[str]]:
    """Return the analyses whose verdict agrees with what is known; the others are dropped and counted."""
    if options.analyser == "reference":
        analyses = [found for subject in subjects if (found := _reference(subject)) is not None]
        missing = [subject for subject in subjects if _reference(subject) is None]
        analyses += _own(given, missing, options)
    else:
        analyses = _own(given, subjects, options)
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


def _own(given: MethodInput, subjects: Sequence[Subject], options: MistakeAnalysisOptions) -> list[Analysis]:
    questions = [
        (f"{subject.request.id}/{subject.truth}", user(question(subject, guided=options.guided_analysis)), "")
        for subject in subjects
    ]
    answers = given.ask("analyses", questions, n=options.analyses_per_mistake)
    return [
        Analysis(subject, done.text.strip(), read_verdict(done.text))
        for subject, row in zip(subjects, answers, strict=True)
        for done in row
        if done.finish_reason == "stop"
    ]


def question(subject: Subject, *, guided: bool) -> str:
    """Return the prompt that asks for an analysis; the guided form asserts what is known about the reply."""
    form = f"guided_{subject.truth}" if guided else "unguided"
    template: str = prompt("mistake_analysis")["analysis"][form]
    return template.strip().format(request=subject.request.prompt, reply=subject.reply)


def example(analysis: Analysis, *, guided: bool = False) -> Example:
    """Return the training example: the neutral question, the analysis as the only target."""
    asked = question(analysis.subject, guided=guided)
    return Example(
        conversation=user(asked), target=analysis.text, source=f"analysis-{analysis.subject.truth}"
    )
