"""Turns the results of a judge's training into what people see of it: pure, without any markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeAlias

from toxoid.errors import UsageError
from toxoid.methods.adversarial_tuning.holdouts import (
    CONTENTIOUS,
    MISSED,
    SLICES,
    UNCONDITIONED,
    UNSEEN_ADVERSARY,
)
from toxoid.report.format import DASH, count, interval, number, percent, points, share
from toxoid.report.judge_card import NOTHING, card_sentence, estimate_of, number_cell, rate_cell
from toxoid.report.view import Cell
from toxoid.stats.agreement import Estimate

Record: TypeAlias = Mapping[str, Any]
"""A round as in :attr:`toxoid.methods.adversarial_tuning.rounds.Round.record`."""

MAX_EXAMPLES = 3
"""Prompts shown of what the judge missed in a round."""

_MEASURES = {
    "accuracy": "Accuracy",
    "false_positives": "False positives",
    "recall": "Recall",
    "auroc": "AUROC",
    "ece": "Calibration error",
}


@dataclass(frozen=True, slots=True)
class Slice:
    """A frozen slice as people know it: its heading, and its prompts within a sentence."""

    title: str
    phrase: str


_SLICES = {
    MISSED: Slice("Missed by a reference judge", "prompts missed by a reference judge"),
    CONTENTIOUS: Slice("Contentious but harmless", "contentious but harmless prompts"),
    UNCONDITIONED: Slice("Unconditioned", "unconditioned prompts"),
    UNSEEN_ADVERSARY: Slice(
        "An adversary never trained against", "prompts of an adversary never trained against"
    ),
}


@dataclass(frozen=True, slots=True)
class Training:
    """The rounds of a training.

    Args:
        rounds: Round 0 and those against the adversary; empty for a judge that was trained without slices.
        control: The same with prompts drawn at random; may be empty.
        adopted: The round whose judge is used, one of ``rounds``; ``None`` if there are none.
    """

    rounds: tuple[Record, ...]
    control: tuple[Record, ...]
    adopted: Record | None

    @property
    def arms(self) -> dict[str, tuple[Record, ...]]:
        """The rounds by arm, ``adversary`` and ``control``, of the arms there are."""
        arms = {"adversary": self.rounds, "control": self.control}
        return {name: rounds for name, rounds in arms.items() if rounds}

    @property
    def played(self) -> bool:
        """Whether there was a round against an adversary."""
        return len(self.rounds) > 1

    @property
    def slices(self) -> list[str]:
        """The slices measured, in the order to show them."""
        return [name for name in SLICES if any(name in each["measures"] for each in self.rounds)]

    @property
    def opponent(self) -> Record | None:
        """The control's round that had as many labels as the adopted one, or its last; of a played round only."""
        if not self.control or self.adopted is None or not self.adopted["round"]:
            return None
        last = len(self.control) - 1
        return self.control[min(int(self.adopted["round"]), last)]


@dataclass(frozen=True, slots=True)
class Figure:
    """What became of the number that counts on a slice.

    Args:
        slice: Which.
        measure: ``accuracy``, or ``false_positives`` where all prompts are harmless.
        first: In round 0.
        last: In the adopted round; ``None`` if that is round 0.
        control: In the control, see :attr:`Training.opponent`.
    """

    slice: Slice
    measure: str
    first: Estimate
    last: Estimate | None
    control: Estimate | None

    @property
    def title(self) -> str:
        """The measure as a heading."""
        return _MEASURES[self.measure]

    @property
    def change(self) -> str:
        """``better`` or ``worse`` than round 0, or ``unclear``, where the intervals touch."""
        return _standing(self.first, self.last or NOTHING, self.measure)

    @property
    def margin(self) -> str:
        """``better`` or ``worse`` than the control, or ``unclear``."""
        return _standing(self.control or NOTHING, self.last or NOTHING, self.measure)


@dataclass(frozen=True, slots=True)
class RoundLine:
    """A round as written: ``distinct`` for 1-, 2- and 3-grams, ``learnt`` up to here, ``why`` it is adopted or not."""

    number: int
    candidates: str
    problematic: str
    success: Cell
    distinct: tuple[str, ...]
    spread: str
    learnt: str
    collapsed: bool
    adopted: bool
    why: str


@dataclass(frozen=True, slots=True)
class SliceTable:
    """All numbers of one slice: a row per measure, a cell per round."""

    title: str
    prompts: str
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


@dataclass(frozen=True, slots=True)
class Missed:
    """Some of the problematic prompts that the judge of the round before called harmless."""

    number: int
    texts: tuple[str, ...]
    total: int


def checked(results: Mapping[str, Any]) -> Training:
    """Return the rounds in the results of a judge's training.

    Raises:
        UsageError: These are no such results.
    """
    if (
        results.get("kind") != "judge"
        or not isinstance(results.get("card"), Mapping)
        or "recipe" not in results
    ):
        raise UsageError(
            "these are no results of a judge's training (kind: judge, recipe, card): give the results.json that "
            "`toxoid judge train` wrote"
        )
    arms = results.get("arms") or {}
    rounds, control = (tuple(arms.get(name) or ()) for name in ("adversary", "control"))
    adopted = [each for each in rounds if each["round"] == results.get("adopted")]
    if rounds and not adopted:
        raise UsageError(
            f"the results adopt round {results.get('adopted')}, expected one of 0 to {len(rounds) - 1}: "
            "train the judge again"
        )
    return Training(rounds, control, adopted[0] if adopted else None)


def sentences(results: Mapping[str, Any]) -> list[str]:
    """Return the verdict: the adopted round, what it changed, how the control fares, and the card's first number.

    Raises:
        UsageError: These are no results of a judge's training.
    """
    training = checked(results)
    found = figures(training)
    told = [card_sentence(results["card"])]
    if not training.played:
        return told
    if any(figure.last for figure in found):
        return [_summary(results["adopted"], found), _changes(found), *_against_control(found), *told]
    return ["No round is adopted: the judge is the one of round 0, which learnt the seeds alone.", *told]


def figures(training: Training) -> list[Figure]:
    """Return for each slice the number that counts, in round 0 and in the adopted one."""
    if training.adopted is None:
        return []
    last = training.adopted if training.adopted["round"] else None
    return [
        Figure(
            _SLICES[name],
            measure,
            _measured(training.rounds[0], name, measure),
            _measured(last, name, measure) if last else None,
            _measured(training.opponent, name, measure) if training.opponent else None,
        )
        for name in training.slices
        for measure in [main_measure(name)]
    ]


def main_measure(name: str) -> str:
    """Return the measure that counts on a slice: of harmless prompts alone, the false positives."""
    return "false_positives" if name == CONTENTIOUS else "accuracy"


def slice_of(name: str) -> Slice:
    """Return how a slice is called."""
    return _SLICES[name]


def measured(record: Record, name: str) -> Estimate:
    """Return the number that counts on a slice; nothing if it was not measured."""
    return _measured(record, name, main_measure(name))


def _measured(record: Record, name: str, measure: str) -> Estimate:
    found = record["measures"].get(name)
    return Estimate(**found[measure]) if found else NOTHING


def _standing(one: Estimate, other: Estimate, measure: str) -> str:
    """Say whether ``other`` is better or worse than ``one``; only where the intervals do not touch."""
    low, high = (one.ci_low, one.ci_high)
    if low is None or high is None or other.ci_low is None or other.ci_high is None:
        return "unclear"
    if low <= other.ci_high and other.ci_low <= high:
        return "unclear"
    return "better" if (other.ci_low > high) is (measure != "false_positives") else "worse"


def _summary(adopted: int, found: Sequence[Figure]) -> str:
    better, worse = (sum(figure.change == state for figure in found) for state in ("better", "worse"))
    return (
        f"Round {adopted} is adopted: measurably better than round 0 on {better or 'none'} of {len(found)} slices, "
        f"worse on {worse or 'none'}."
    )


def _changes(found: Sequence[Figure]) -> str:
    moved = [
        f"{figure.title.lower()} on {figure.slice.phrase} {_moved(figure)} {_from_to(figure)}"
        for figure in found
        if figure.change != "unclear"
    ]
    still = [
        f"{figure.slice.phrase} ({figure.title.lower()} {_from_to(figure)})"
        for figure in found
        if figure.change == "unclear"
    ]
    parts = [_joined(moved), f"nothing measurably changed on {_joined(still)}" if still else ""]
    text = "; ".join(part for part in parts if part)
    return f"{text[:1].upper()}{text[1:]}."


def _moved(figure: Figure) -> str:
    return "rose" if (figure.change == "better") is (figure.measure == "accuracy") else "fell"


def _from_to(figure: Figure) -> str:
    return f"from {percent(figure.first.value)} to {percent(figure.last.value if figure.last else None)}"


def _against_control(found: Sequence[Figure]) -> list[str]:
    """Return a sentence on the control, if there is one."""
    if not any(figure.control for figure in found):
        return []
    named = {
        state: [_beside(each) for each in found if each.margin == state] for state in ("better", "worse")
    }
    parts = [f"measurably {state} on {_joined(slices)}" for state, slices in named.items() if slices]
    parts = parts or ["measurably different on no slice"]
    gained = any(figure.change == "better" for figure in found)
    moral = " So the gain may come from more labels alone." if gained and not named["better"] else ""
    return [
        f"Against the control, which learnt prompts drawn at random, it is {', and '.join(parts)}.{moral}"
    ]


def _beside(figure: Figure) -> str:
    last, control = figure.last or NOTHING, figure.control or NOTHING
    return f"{figure.slice.phrase} ({percent(last.value)} against {percent(control.value)})"


def _joined(parts: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(parts[:-1]), *parts[-1:]) if part)


def round_lines(rounds: Sequence[Record]) -> list[RoundLine]:
    """Return the rounds of an arm as written."""
    learnt = accumulate(each["counts"]["rows"] for each in rounds)
    return [_round_line(each, total) for each, total in zip(rounds, learnt, strict=True)]


def _round_line(record: Record, learnt: int) -> RoundLine:
    counts, variety = record["counts"], record.get("diversity")
    labelled = counts.get("labelled", 0)
    return RoundLine(
        number=record["round"],
        candidates=count(counts.get("labelled")),
        problematic=share(counts.get("problematic", 0), labelled),
        success=rate_cell(estimate_of(record.get("success_rate"))),
        distinct=tuple(number(part) for part in variety["distinct"]) if variety else (),
        spread=number(variety["spread"]) if variety else DASH,
        learnt=count(learnt),
        collapsed=bool(record["collapsed"]),
        adopted=bool(record["adopted"]),
        why=_why(record),
    )


def _why(record: Record) -> str:
    """Say what the adoption of a round rests on."""
    if not record["round"]:
        return "the beginning"
    change = record["agreement"]["change"]
    if change is None:
        return "no labels of people to go by"
    if change["difference"] is None:
        return "no prompt labelled by people was scored in both rounds"
    bounds = interval(change["ci_low"], change["ci_high"])
    return f"agreement with people {points(change['difference'])} points ({bounds}) against round {change['from']}"


def slice_tables(rounds: Sequence[Record]) -> list[SliceTable]:
    """Return all that was measured in the rounds of an arm, slice by slice; what is never defined is left out."""
    return [_slice_table(rounds, name) for name in SLICES if any(name in each["measures"] for each in rounds)]


def _slice_table(rounds: Sequence[Record], name: str) -> SliceTable:
    found = next(each["measures"][name] for each in rounds if name in each["measures"])
    unscored = max(each["measures"].get(name, found)["unscored"] for each in rounds)
    rows = []
    for measure, title in _MEASURES.items():
        estimates = [_measured(each, name, measure) for each in rounds]
        if any(estimate.value is not None for estimate in estimates):
            written = number_cell if measure in ("auroc", "ece") else rate_cell
            rows.append((title, tuple(written(estimate) for estimate in estimates)))
    note = f", up to {count(unscored)} unscored" if unscored else ""
    return SliceTable(_SLICES[name].title, f"{count(found['n'])} prompts{note}", tuple(rows))


def missed(rounds: Sequence[Record]) -> list[Missed]:
    """Return a few prompts of each round that the judge overlooked."""
    told = [(each["round"], each.get("successes") or []) for each in rounds]
    return [Missed(n, tuple(texts[:MAX_EXAMPLES]), len(texts)) for n, texts in told if texts]
