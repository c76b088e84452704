"""Critique and revision: the model criticises its own bad reply, writes it anew, and learns to reply so at once.

With the reply y_0 to x, and for each round i the critique c_i ~ p(c | x, y_{i-1}) and the revision
y_i ~ p(y | x, y_{i-1}, c_i),

    L = -sum of log p(y_n | x),

over the requests whose last revision y_n is not bad any more. Source: Bai et al. 2022, "Constitutional AI" (arXiv
2212.08073), section 3, the supervised stage. One principle stands for the paper's sixteen, its prompts show no
examples, and a revision that is good already is not revised again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import compress
from operator import not_
from typing import Literal, TypeAlias

from pydantic import Field

from toxoid.config.loading import validate
from toxoid.config.prompt_files import prompt
from toxoid.data.schemas import Conversation, Exchange, Message, Role, user
from toxoid.engines.base import Completion
from toxoid.errors import UsageError
from toxoid.judges.base import Aspect, Judge, Outcome
from toxoid.methods.base import MethodInput, TrainingSet, WeightsMethod
from toxoid.methods.baselines.chain_of_hindsight import mistakes_of
from toxoid.methods.baselines.sft import general_examples
from toxoid.methods.mistake_analysis.audited import bad_aspect
from toxoid.methods.mistake_analysis.induction import Mistake
from toxoid.methods.mistake_analysis.options import MistakeOptions
from toxoid.training.examples import Example

Turns: TypeAlias = Sequence[Mapping[Role, str]]
"""Turns of a conversation by role; ``{request}`` and ``{reply}`` are filled in."""


class CritiqueReviseOptions(MistakeOptions):
    """Options of an arm with ``method: critique-revise``; the first replies are mistakes, found as the options say."""

    critiques: int = Field(1, ge=1, le=8)
    """Rounds of critique and revision at most."""
    wording: Literal["english", "lab"] = "english"
    """The language of the model's instructions; the lab's models know their own words only."""


class CritiqueRevise(WeightsMethod):
    """Imitate the model's own revisions."""

    name = "critique-revise"

    def synthesise(self, given: MethodInput) -> TrainingSet:
        """Make the revisions, and the general data.

        Raises:
            UsageError: An option is wrong, no judge of harm is there, or no mistake or no good revision was found.
        """
        options = validate(CritiqueReviseOptions, dict(given.options), source="options of critique-revise")
        mistakes, counts = mistakes_of(given, options)
        for aspect in {bad_aspect(mistake.request) for mistake in mistakes} - given.judges.keys():
            raise UsageError(
                f"no judge answers `{aspect}`, which tells good revisions from bad ones. Give one with --judge."
            )
        revisions, told = self._revisions(given, options, mistakes)
        if not revisions:
            raise UsageError(
                f"none of the revisions of {len(mistakes)} mistakes is harmless. Ask for more rounds (options: "
                f"{{critiques: {options.critiques + 1}}}), or take a model that can tell harm when it is told to."
            )
        examples = [Example(r.conversation, r.completion, source="revision") for r in revisions]
        return TrainingSet((*examples, *general_examples(given.benign)), counts + told)

    def _revisions(
        self, given: MethodInput, options: CritiqueReviseOptions, mistakes: Sequence[Mistake]
    ) -> tuple[list[Exchange], Counter[str]]:
        """Return the good revisions, round after round, and how many each round made and kept."""
        words = prompt("critique_revise")[options.wording]
        drafts = [Exchange(m.request, user(m.request.prompt), m.reply) for m in mistakes]
        kept: list[Exchange] = []
        counts: Counter[str] = Counter()
        for number in range(1, options.critiques + 1):
            revised = revise(given, drafts, words, number)
            good = _good(given.judges, revised)
            counts[f"revisions_{number}_kept"] = sum(good)
            counts[f"revisions_{number}_dropped"] = len(revised) - sum(good)
            kept += compress(revised, good)
            drafts = list(compress(revised, map(not_, good)))
            if not drafts:
                break
        return kept, counts


def revise(
    given: MethodInput, drafts: Sequence[Exchange], words: Mapping[str, Turns], number: int
) -> list[Exchange]:
    """Return what the model makes of its own replies after its own critique of them.

    Args:
        given: Holds the model.
        drafts: The replies.
        words: The turns ``critique`` and ``revision``.
        number: Of the round; part of the seeds.
    """
    talks = [_turns(words["critique"], draft) for draft in drafts]
    critiques = _ask(given, f"critiques {number}", drafts, talks)
    again = [
        (*talk, Message("assistant", critique.text.strip()), *_turns(words["revision"], draft))
        for talk, critique, draft in zip(talks, critiques, drafts, strict=True)
    ]
    return [
        replace(draft, completion=done.text.strip(), truncated=done.finish_reason == "length")
        for draft, done in zip(drafts, _ask(given, f"revisions {number}", drafts, again), strict=True)
    ]


def _ask(
    given: MethodInput, name: str, drafts: Sequence[Exchange], talks: Sequence[Conversation]
) -> list[Completion]:
    questions = [(draft.request.id, talk, "") for draft, talk in zip(drafts, talks, strict=True)]
    return [done for (done,) in given.ask(name, questions)]


def _turns(forms: Turns, draft: Exchange) -> Conversation:
    filled = {"request": draft.request.prompt, "reply": draft.completion}
    return tuple(Message(role, text.format(**filled)) for form in forms for role, text in form.items())


def _good(judges: Mapping[Aspect, Judge], revised: Sequence[Exchange]) -> list[bool]:
    """Whether each revision is whole, not bad any more and, where a judge can tell, no gibberish."""
    aspects = {bad_aspect(revision.request) for revision in revised}
    if "valid" in judges:
        aspects.add("valid")
    seen = {aspect: judges[aspect].judge(revised, aspect) for aspect in aspects}
    return [
        not revision.truncated
        and seen[bad_aspect(revision.request)][index].outcome is Outcome.MISS
        and ("valid" not in seen or seen["valid"][index].outcome is Outcome.HIT)
        for index, revision in enumerate(revised)
    ]
