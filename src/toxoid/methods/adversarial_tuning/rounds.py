"""The rounds: the adversary proposes, the truth labels, the judge learns, and the adversary learns what it overlooked.

As in O'Neill et al. 2023 (arXiv 2308.13768), the judge goes on from its last checkpoint on everything collected so far.
Every round is a folder that appears whole: a run that was killed goes on with the step at which it stood.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from toxoid.data.request_set import normalised
from toxoid.engines.classifiers.base import TextClassifier
from toxoid.errors import UsageError
from toxoid.methods.adversarial_tuning.adversary import Adversary
from toxoid.methods.adversarial_tuning.candidates import Sieve, Validity, is_language
from toxoid.methods.adversarial_tuning.diversity import Diversity, diversity
from toxoid.methods.adversarial_tuning.holdouts import Holdouts
from toxoid.methods.adversarial_tuning.measures import by_group, hits_of, measure_all, right_of, scores_of
from toxoid.methods.adversarial_tuning.options import RoundOptions
from toxoid.methods.adversarial_tuning.prompts import LabelledPrompt, keys_of, read_prompts, write_prompts
from toxoid.methods.adversarial_tuning.truth import Truth, check_independent
from toxoid.progress import SILENT, Progress
from toxoid.stats.intervals import wilson_interval
from toxoid.stats.paired import paired_difference
from toxoid.store.files import publish_folder, write_json_atomic
from toxoid.store.keys import content_key
from toxoid.training.examples import Example

RECORD = "round.json"
JUDGE = "judge"
_ADAPTER, _ROWS, _CANDIDATES, _PLAYED = "adversary", "rows.jsonl", "candidates.json", "played.json"
_GAME = "game.json"


@dataclass(frozen=True)
class Game:
    """What the rounds are played with.

    Args:
        seeds: What the judge of round 0 learns.
        negatives: Known harmless prompts, some of them contentious, to be added as the rounds go.
        holdouts: What the judge is measured on.
        truth: Who labels the candidates.
        train_judge: Called with (folder of the judge to go on from, or ``None`` in round 0; all prompts so far; output
            folder); called again after a kill. The output must appear whole.
        load_judge: Read a trained judge.
        adversary: The adversary after it has learnt the adapters of earlier rounds, in order.
        tune: Called with (those adapters, examples, output folder) to make the next one; ``None`` for an adversary
            that is not fine-tuned. The output must appear whole.
        valid: What makes a request.
    """

    seeds: Sequence[LabelledPrompt]
    negatives: Sequence[LabelledPrompt]
    holdouts: Holdouts
    truth: Truth
    train_judge: Callable[[Path | None, Sequence[LabelledPrompt], Path], None]
    load_judge: Callable[[Path], TextClassifier]
    adversary: Callable[[Sequence[Path]], Adversary]
    tune: Callable[[Sequence[Path], Sequence[Example], Path], None] | None = None
    valid: Validity = is_language


@dataclass(frozen=True)
class Round:
    """One finished round.

    Args:
        folder: Holds the judge in ``judge``, and what it learnt in ``rows.jsonl``.
        record: The content of ``round.json``: ``round``, ``adversary``, ``start`` (the round whose judge went on),
            ``counts``, ``success_rate`` (of the candidates; value and interval), ``successes`` (their texts),
            ``diversity``, ``collapsed``, ``measures`` by slice, ``agreement`` with people, ``adopted``.
    """

    folder: Path
    record: Mapping[str, Any]

    @property
    def adopted(self) -> bool:
        """Whether its judge is used."""
        return bool(self.record["adopted"])

    @property
    def judge(self) -> Path:
        """The folder of its judge."""
        return self.folder / JUDGE

    @property
    def rows(self) -> list[LabelledPrompt]:
        """What was new to learn."""
        return read_prompts(self.folder / _ROWS)


def play(game: Game, options: RoundOptions, folder: Path, *, progress: Progress = SILENT) -> list[Round]:
    """Play the rounds, from where an earlier call with the same arguments stood.

    A round's judge is adopted unless its agreement with people (:attr:`Holdouts.people`) is lower than that of the
    best judge adopted so far: the whole 95 % interval of the paired difference lies below 0. Compared with the best,
    many small losses cannot add up. The next round goes on from the last adopted judge; labels are kept in any case.

    Args:
        game: Who plays.
        options: How.
        folder: Of the rounds; made if it is not there.
        progress: Where to report.

    Returns:
        Round 0 and the others in order; fewer than asked for if the adversary collapsed.

    Raises:
        UsageError: Seeds of one label, training rows in a slice, a truth that is one of the players, or a folder of
            another game.
        Waiting: People have to label first.
    """
    _check(game)
    _claim(game, options, folder)
    done: list[Round] = []
    for number in range(options.rounds + 1):
        final = folder / f"round-{number}"
        if not (final / RECORD).is_file():
            _Playing(game, options, folder, done, progress).play(number, final)
        done.append(Round(final, json.loads((final / RECORD).read_text("utf-8"))))
        if options.stop_when_collapsed and done[-1].record["collapsed"]:
            progress.note(f"the adversary has collapsed in round {number}: no further rounds")
            break
    return done


def last_adopted(rounds: Sequence[Round]) -> Round:
    """Return the round whose judge is the result."""
    return next(each for each in reversed(rounds) if each.adopted)


class _Playing:
    """One round as it is played: every step leaves a file, and is skipped where that is there."""

    def __init__(
        self, game: Game, options: RoundOptions, folder: Path, done: Sequence[Round], progress: Progress
    ) -> None:
        self.game, self.options, self.folder, self.done = game, options, folder, done
        self.progress = progress

    def play(self, number: int, final: Path) -> None:
        """Play round ``number`` and publish its folder as ``final``."""
        built = final.with_name(f".{final.name}.partial")
        built.mkdir(parents=True, exist_ok=True)
        if not (built / _PLAYED).is_file():
            played = self._collected(number, built) if number else self._seeded(built)
            write_json_atomic(built / _PLAYED, played)
        played = json.loads((built / _PLAYED).read_text("utf-8"))
        if not (built / JUDGE).exists():
            start = last_adopted(self.done).judge if number else None
            self.game.train_judge(start, [*self._earlier(), *read_prompts(built / _ROWS)], built / JUDGE)
        record = {"round": number, **played, **self._measured(self.game.load_judge(built / JUDGE))}
        write_json_atomic(built / RECORD, record)
        publish_folder(built, final)
        self._tell(record)

    def _seeded(self, built: Path) -> dict[str, Any]:
        write_prompts(built / _ROWS, self.game.seeds)
        return {
            "adversary": None,
            "start": None,
            "counts": {"rows": len(self.game.seeds)},
            "collapsed": False,
        }

    def _collected(self, number: int, built: Path) -> dict[str, Any]:
        """Return what is known of a round before its judge is trained; leave its new rows."""
        start = last_adopted(self.done)
        judge = self.game.load_judge(start.judge)
        adversary = self.game.adversary(self._adapters(number, built))
        players = {"the judge that is trained": judge.identity(), "the adversary": adversary.identity()}
        check_independent(self.game.truth, players)
        texts, counts = self._candidates(number, built, adversary)
        labels = self.game.truth.label(texts)
        candidates = [
            LabelledPrompt(text, label, "candidate")
            for text, label in zip(texts, labels, strict=True)
            if label is not None
        ]
        negatives = self._negatives(number, candidates)
        write_prompts(built / _ROWS, [*candidates, *negatives])
        hits = hits_of(judge, scores_of(judge, candidates))
        told = list(zip(candidates, hits, strict=True))
        successes = [prompt.text for prompt, hit in told if prompt.problematic and hit is False]
        variety = diversity(texts, counts["proposals"])
        low, high = wilson_interval(len(successes), len(candidates))
        return {
            "adversary": adversary.name,
            "start": start.record["round"],
            "counts": {
                **counts,
                "labelled": len(candidates),
                "unclear": len(texts) - len(candidates),
                "problematic": sum(prompt.problematic for prompt in candidates),
                "unscored": hits.count(None),
                "successes": len(successes),
                **Counter(prompt.source for prompt in negatives),
                "rows": len(candidates) + len(negatives),
            },
            "success_rate": {
                "value": len(successes) / len(candidates) if candidates else None,
                "ci_low": low,
                "ci_high": high,
            },
            "successes": successes,
            "diversity": asdict(variety),
            "collapsed": self._collapsed(variety),
        }

    def _adapters(self, number: int, built: Path) -> list[Path]:
        """Return the adversary's adapters; the one of this round is made now, if there are new successes to learn."""
        earlier = [each.folder / _ADAPTER for each in self.done if (each.folder / _ADAPTER).exists()]
        if self.game.tune is None or not self.done[-1].record.get("successes"):
            return earlier
        if not (built / _ADAPTER).exists():
            seed = _seed(self.options.seed, number, "learn")
            examples = self.game.adversary(earlier).examples(self._successes(), seed=seed)
            if not examples:
                return earlier
            self.game.tune(earlier, examples, built / _ADAPTER)
        return [*earlier, built / _ADAPTER]

    def _candidates(self, number: int, built: Path, adversary: Adversary) -> tuple[list[str], dict[str, int]]:
        """Return the round's candidates and the counts on the way there; people label those of the first attempt."""
        path = built / _CANDIDATES
        if not path.is_file():
            earlier = [json.loads((each.folder / _CANDIDATES).read_text("utf-8")) for each in self.done[1:]]
            unclear = {normalised(text) for found in earlier for text in found["texts"]}
            known = keys_of(self._earlier()) | unclear
            sieve = Sieve(known, self.game.holdouts.keys, self.game.valid)
            propose = partial(adversary.propose, successes=self._successes())
            texts = self._proposed(sieve, propose, number)
            counts = {"proposals": sieve.counts.total(), **sieve.counts}
            write_json_atomic(path, {"texts": texts, "counts": counts})
        found = json.loads(path.read_text("utf-8"))
        return found["texts"], found["counts"]

    def _proposed(self, sieve: Sieve, propose: Callable[..., list[str]], number: int) -> list[str]:
        wanted, asked, batch = self.options.candidates, 0, 0
        most = math.ceil(self.options.tries * wanted)
        texts: list[str] = []
        with self.progress.task(f"round {number}: candidates", wanted, "prompts") as task:
            while len(texts) < wanted and asked < most:
                count = min(wanted - len(texts), most - asked)
                kept = sieve.sift(propose(count, seed=_seed(self.options.seed, number, batch)))
                task.advance(len(kept))
                texts += kept
                asked += count
                batch += 1
        return texts

    def _negatives(self, number: int, candidates: Sequence[LabelledPrompt]) -> list[LabelledPrompt]:
        """Return unused known harmless prompts, so many per candidate; one kind stands in for the other."""
        used = keys_of([*self._earlier(), *candidates])
        rng = Random(_seed(self.options.seed, number, "negatives"))
        left = [prompt for prompt in self.game.negatives if prompt.key not in used]
        rng.shuffle(left)
        count = round(self.options.negatives * len(candidates))
        contentious = [prompt for prompt in left if prompt.source == "contentious"]
        others = [prompt for prompt in left if prompt.source != "contentious"]
        share = min(round(self.options.contentious * count), len(contentious))
        share = max(share, min(count - len(others), len(contentious)))
        return [*contentious[:share], *others[: count - share]]

    def _collapsed(self, variety: Diversity) -> bool:
        options = self.options
        return variety.distinct[1] < options.least_distinct or variety.new < options.least_new

    def _measured(self, judge: TextClassifier) -> dict[str, Any]:
        """Return the judge's numbers, and whether it is adopted."""
        holdouts = self.game.holdouts
        people = right_of(hits_of(judge, scores_of(judge, holdouts.people)), holdouts.people)
        measures = measure_all(judge, holdouts.slices, seed=self.options.seed)
        agreement: dict[str, Any] = {"right": people, "change": None}
        adopted = True
        if self.done and people:
            best = max((each for each in self.done if each.adopted), key=_agreement)
            before = by_group(best.record["agreement"]["right"], holdouts.people)
            change = paired_difference(before, by_group(people, holdouts.people), seed=self.options.seed)
            adopted = change.ci_high is not None and change.ci_high >= 0
            agreement["change"] = {"from": best.record["round"], **asdict(change)}
        return {
            "measures": {name: asdict(found) for name, found in measures.items()},
            "agreement": agreement,
            "adopted": adopted,
        }

    def _earlier(self) -> list[LabelledPrompt]:
        return [row for each in self.done for row in each.rows]

    def _successes(self) -> list[str]:
        return [text for each in self.done for text in each.record.get("successes", ())]

    def _tell(self, record: Mapping[str, Any]) -> None:
        accuracy = [
            f"{name} {100 * found['accuracy']['value']:.0f} %"
            for name, found in record["measures"].items()
            if found["accuracy"]["value"] is not None
        ]
        self.progress.note(f"round {record['round']}: accuracy {', '.join(accuracy)}")
        if not record["adopted"]:
            found = record["agreement"]["change"]
            told = (
                "none of their prompts can be read"
                if found["after"] is None
                else (f"agreement with people fell from {found['before']:.0%} to {found['after']:.0%}")
            )
            self.progress.note(f"round {record['round']} is not adopted: {told}")


def _agreement(round_: Round) -> float:
    right = [value for value in round_.record["agreement"]["right"] if value is not None]
    return math.fsum(right) / len(right) if right else 0.0


def _check(game: Game) -> None:
    counts = Counter(row.problematic for row in game.seeds)
    if len(counts) < 2:
        raise UsageError(
            f"the seed set holds {counts[True]} problematic and {counts[False]} harmless prompts: the judge needs both"
        )
    if wrong := sum(row.problematic for row in game.negatives):
        raise UsageError(f"{wrong} of the negatives are labelled problematic: give harmless prompts only")
    game.holdouts.refuse(game.seeds, "the seed prompts")
    game.holdouts.refuse(game.negatives, "the negatives")


def _claim(game: Game, options: RoundOptions, folder: Path) -> None:
    """Write down which game this folder is of, or refuse another one's; more rounds are the same game."""
    settings = {key: value for key, value in options.model_dump().items() if key in RoundOptions.model_fields}
    facts = {
        "options": {key: value for key, value in settings.items() if key != "rounds"},
        "tuned": game.tune is not None,
        "truth": game.truth.identity(),
        "seeds": _hash(game.seeds),
        "negatives": _hash(game.negatives),
        "holdouts": {name: _hash(prompts) for name, prompts in game.holdouts.slices.items()},
        "people": _hash(game.holdouts.people),
    }
    path = folder / _GAME
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_json_atomic(path, facts)
        return
    before = json.loads(path.read_text("utf-8"))
    other = sorted(key for key in facts if before.get(key) != facts[key])
    if other:
        raise UsageError(
            f"{folder} holds rounds with other {', '.join(other)}: give a new folder, or the same input"
        )


def _hash(prompts: Sequence[LabelledPrompt]) -> str:
    return content_key([asdict(prompt) for prompt in prompts])


def _seed(*parts: int | str) -> int:
    return int(content_key(*parts)[:12], 16)
