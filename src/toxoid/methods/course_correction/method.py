"""The whole path: ranked corrections of harmful beginnings, preferences over them, general data as an anchor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from toxoid.config.loading import validate
from toxoid.data.groups import Group
from toxoid.data.request_set import hash_fraction
from toxoid.data.schemas import Request
from toxoid.errors import UsageError
from toxoid.methods.base import MethodInput, Preferences, TrainingSet, WeightsMethod
from toxoid.methods.baselines.sft import general_examples
from toxoid.methods.course_correction.objective import objective, preference_examples
from toxoid.methods.course_correction.options import CourseCorrectionOptions
from toxoid.methods.course_correction.synthesis import SynthesisOptions, synthesise_groups


class CourseCorrection(WeightsMethod):
    """Learning from groups SR > SYN1 > ... > SYN4 > FHR: their pairs, their corrections, or both.

    Source: Xu et al. 2024, sections 3 and 4 (C2-Syn; DPO over its pairs). Beyond the paper: imitation of the
    corrections, saturating losses over chosen pair sets, and a divergence from the untreated model on general data,
    without which the literal recipe unlearns to answer (see docs/results/course-correction.md).
    """

    name = "course-correction"

    def synthesise(self, given: MethodInput) -> TrainingSet:
        """Make the groups and choose what is learnt from them; the examples are the anchors."""
        options = validate(
            CourseCorrectionOptions, dict(given.options), source="options of course-correction"
        )
        groups, counts = _groups(given, options)
        groups = _chosen(groups, options.max_groups, given.seed)
        counts["groups_used"] = len(groups)
        chosen = preference_examples(groups, options)
        if not chosen:
            raise UsageError(_nothing(len(groups), options, counts))
        counts["pairs"] = sum(len(example.pairs) for example in chosen)
        anchors = tuple(general_examples(given.benign))
        return TrainingSet(anchors, counts, Preferences(chosen, objective(options)))


def _groups(given: MethodInput, options: CourseCorrectionOptions) -> tuple[list[Group], Counter[str]]:
    if options.groups is not None:
        from toxoid.data.parquet import read_groups

        found = list(read_groups(Path(options.groups)))
        return found, Counter(groups=len(found))
    requests, counts = _with_harmful_replies(given, options)
    groups, made = synthesise_groups(
        requests,
        engine=given.engine,
        judges=given.judges,
        sampling=given.sampling,
        options=SynthesisOptions(
            truncations=options.truncations,
            late=options.late,
            tries=options.tries,
            wording=options.wording,
            safe_replies=options.safe_replies,
        ),
        seed=given.seed,
        progress=given.progress,
    )
    return groups, counts + made


def _chosen(groups: list[Group], count: int | None, seed: int) -> list[Group]:
    """Return ``count`` groups in their order."""
    if count is None or count >= len(groups):
        return groups
    ranked = sorted(groups, key=lambda group: hash_fraction("groups", seed, group.id))
    kept = {group.id for group in ranked[:count]}
    return [group for group in groups if group.id in kept]


def _with_harmful_replies(
    given: MethodInput, options: CourseCorrectionOptions
) -> tuple[Sequence[Request], Counter[str]]:
    """Return the requests with a full harmful reply each, as far as one can be had."""
    if options.harmful_replies == "dataset":
        return given.harmful, Counter()
    missing = [
        r for r in given.harmful if options.harmful_replies == "induced" or not (r.target or "").strip()
    ]
    if not missing:
        return given.harmful, Counter()
    from toxoid.methods.mistake_analysis.induction import find_mistakes
    from toxoid.methods.mistake_analysis.options import MistakeAnalysisOptions

    mistakes, counts = find_mistakes(
        replace(given, harmful=missing), MistakeAnalysisOptions.model_validate({})
    )
    induced = {mistake.request.id: mistake.reply for mistake in mistakes}
    asked = {request.id for request in missing}
    kept = [
        replace(request, target=induced[request.id]) if request.id in asked else request
        for request in given.harmful
        if request.id not in asked or request.id in induced
    ]
    return kept, counts


def _nothing(groups: int, options: CourseCorrectionOptions, counts: Counter[str]) -> str:
    if not groups:
        why = ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "no request"
        return (
            f"no group could be made ({why}). The requests need full harmful replies of several clauses, and the "
            "engine must be able to continue an open turn; try more requests, or more `tries`."
        )
    return (
        f"none of {groups} groups has anything to learn with pairs: {options.pairs}, imitate: {options.imitate}. "
        "Set `pairs` to corrections or all, or `imitate` to corrections, safe or best."
    )
