"""What is learnt from a group: which replies are compared, which are imitated."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from toxoid.data.groups import Group, Pair
from toxoid.methods.course_correction.options import CourseCorrectionOptions, Imitated, PairSet
from toxoid.training.preference.examples import PreferenceExample
from toxoid.training.preference.settings import Objective


def preference_examples(
    groups: Sequence[Group], options: CourseCorrectionOptions
) -> tuple[PreferenceExample, ...]:
    """Return the groups from which something is learnt under ``options``, with what that is."""
    found = (
        PreferenceExample(
            group,
            tuple((chosen, rejected, 1.0) for chosen, rejected in pairs_of(group, options.pairs)),
            tuple(imitated_of(group, options.imitate)),
        )
        for group in groups
    )
    return tuple(example for example in found if example.pairs or example.imitated)


def objective(options: CourseCorrectionOptions) -> Objective:
    """Return the loss that ``options`` describe."""
    return Objective(
        loss=options.loss,
        beta=options.beta,
        gamma=options.gamma,
        label_smoothing=options.label_smoothing,
        weight=options.weight if options.pairs != "none" else 0.0,
        imitation=options.imitation if options.imitate != "none" else 0.0,
        kl=options.kl,
        anchor_nll=options.anchor_nll,
        anchors_per_group=options.anchors_per_group,
    )


def pairs_of(group: Group, chosen: PairSet) -> list[Pair]:
    """Return the pairs of a set, the better reply first.

    ``all`` is the paper's: every two replies, 15 of six. ``adjacent`` compares neighbours in rank. ``safe`` is the
    safe reply over the harmful one, the fundamental pair alone. ``corrections`` is the safe reply and every
    corrected one over the harmful one: no pair rejects a correction, so none teaches to avoid one.
    """
    pairs = group.pairs()
    last = max(reply.rank for reply in group.replies)
    if chosen == "none":
        return []
    if chosen == "all":
        return pairs
    if chosen == "corrections":
        return [pair for pair in pairs if group.replies[pair[1]].rank == last]
    if chosen == "safe":
        return [
            pair for pair in pairs if _kind(group, pair[0]) == "safe" and group.replies[pair[1]].rank == last
        ]
    ranks = sorted({reply.rank for reply in group.replies})
    following = dict(pairwise(ranks))
    return [(a, b) for a, b in pairs if group.replies[b].rank == following[group.replies[a].rank]]


def imitated_of(group: Group, chosen: Imitated) -> list[tuple[int, int]]:
    """Return what of a group is imitated, as (reply, character from which on).

    ``corrections``: the safe reply, and of every corrected one what follows its harmful beginning, so the good
    sides of the pairs of that name. ``safe``: the safe reply. ``best``: the reply of the best rank.
    """
    replies = list(enumerate(group.replies))
    if chosen == "corrections":
        turns = [(index, reply.turn) for index, reply in replies if reply.turn is not None]
        return [*imitated_of(group, "safe"), *turns]
    if chosen == "safe":
        return [(index, 0) for index, reply in replies if reply.kind == "safe"]
    if chosen == "best":
        return [(min(replies, key=lambda pair: pair[1].rank)[0], 0)]
    return []


def _kind(group: Group, index: int) -> str:
    return group.replies[index].kind
