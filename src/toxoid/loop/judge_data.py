"""What a judge of prompts learns and is measured on: sets and files into labelled prompts, split first of all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from toxoid.attacks.base import Pool
from toxoid.attacks.registry import make_attack
from toxoid.data.labelled import WORDS, LabelledExchange, read_labelled
from toxoid.data.loading import load_requests
from toxoid.data.near import NearTexts
from toxoid.data.registry import DATASETS
from toxoid.data.request_set import RequestSet, hash_fraction, prompt_key, subsample
from toxoid.data.schemas import Request
from toxoid.errors import UsageError
from toxoid.loop.judge_recipe import JudgeDataSection, JudgeRecipe
from toxoid.methods.adversarial_tuning.prompts import LabelledPrompt, Source, keys_of
from toxoid.store.keys import content_key

_SPLIT = ("lab-", "contrast")
"""Sets with parts for training and testing of their own."""
_UNSEEN: Pool = "evaluation"


@dataclass
class PromptData:
    """Labelled prompts by use; no prompt, goal or pair stands on both sides.

    Args:
        seeds: What round 0 learns.
        negatives: Further known harmless prompts, for the rounds.
        pool: Texts of everything else that could have been learnt: the control's.
        known: Further labelled prompts, to put templates around.
        held_out: Never learnt.
        unseen: Prompts of an adversary that is never trained against.
        people: Labels of people, never learnt.
        sources: Names, hashes and licences of the sets.
        left_out: Training prompts that stood in a held-out set, nearly in an excluded one, or twice.
    """

    seeds: list[LabelledPrompt]
    negatives: list[LabelledPrompt]
    pool: list[str]
    known: list[LabelledPrompt]
    held_out: list[LabelledPrompt]
    unseen: list[LabelledPrompt]
    people: list[LabelledPrompt]
    sources: list[dict[str, str]] = field(default_factory=list)
    left_out: int = 0


def load_prompts(recipe: JudgeRecipe) -> PromptData:
    """Load and split a recipe's data.

    Raises:
        UsageError: A set is missing or malformed, or a side has nothing to learn from.
    """
    collector = _Collector(recipe)
    train, held = collector.sides(recipe.data)
    unseen = [*collector.unseen_sets(), *_attacked(recipe, held)]
    people = collector.people()
    apart, excluded = keys_of([*held, *unseen, *people]), NearTexts(collector.excluded())
    kept = _distinct(row for row in train if row.key not in apart and row.text not in excluded)
    left_out = len(train) - len(kept)
    seeds, rest = _seeds(kept, recipe.data.seeds, recipe.seed, left_out)
    negatives = [row for row in rest if not row.problematic]
    return PromptData(
        seeds=seeds,
        negatives=negatives,
        pool=[row.text for row in rest],
        known=rest or seeds,
        held_out=_distinct(held),
        unseen=_distinct(unseen),
        people=_distinct(people),
        sources=collector.sources,
        left_out=left_out,
    )


class _Collector:
    def __init__(self, recipe: JudgeRecipe) -> None:
        self.recipe = recipe
        self.sources: list[dict[str, str]] = []

    def sides(self, data: JudgeDataSection) -> tuple[list[LabelledPrompt], list[LabelledPrompt]]:
        """Return what may be learnt, and what is held out, of all sets."""
        train: list[LabelledPrompt] = []
        held: list[LabelledPrompt] = []
        roles: tuple[tuple[Sequence[str], frozenset[str]], ...] = (
            (data.problematic, frozenset({"harmful"})),
            (data.harmless, frozenset({"benign"})),
            (data.contentious, frozenset({"contentious"})),
        )
        for names, kinds in roles:
            for name in names:
                for part, rows in zip((train, held), self._parts(name), strict=True):
                    part += [_prompt(request) for request in rows if request.kind in kinds]
        for source in data.labelled:
            for row in self._labelled(source):
                side = held if hash_fraction("judge", self.recipe.seed, row.key) < self._share else train
                side.append(row)
        return train, held

    @property
    def _share(self) -> float:
        return self.recipe.holdout.share

    def _parts(self, name: str) -> tuple[Iterable[Request], Iterable[Request]]:
        limit = self.recipe.data.limit
        if name.startswith(_SPLIT):
            parts = [subsample(load_requests(name, split=part), limit) for part in ("train", "test")]
            self._note(parts[0])
            return parts[0], parts[1]
        found = subsample(load_requests(name), limit)
        self._note(found)
        places = [hash_fraction("judge", self.recipe.seed, prompt_key(request)) for request in found]
        pairs = list(zip(found, places, strict=True))
        return (
            [request for request, place in pairs if place >= self._share],
            [request for request, place in pairs if place < self._share],
        )

    def _labelled(self, source: str) -> Iterator[LabelledPrompt]:
        read = read_labelled(source)
        if any(item.label in WORDS["refusal"] for item in read):
            raise UsageError(
                f"{source} says which replies decline, and a judge of prompts learns which are problematic: give "
                "labels of harm, or set kind to replies"
            )
        self.sources.append(source_of(source, read))
        for item in read:
            yield LabelledPrompt(item.exchange.request.prompt, item.human, "seed")

    def unseen_sets(self) -> list[LabelledPrompt]:
        """Return the prompts of the sets of an adversary that is never trained against."""
        found = []
        for name in self.recipe.holdout.unseen:
            loaded = load_requests(name, split="test" if name.startswith(_SPLIT) else None)
            self._note(loaded)
            found += [_prompt(request) for request in loaded]
        return found

    def people(self) -> list[LabelledPrompt]:
        """Return what people labelled."""
        return [row for source in self.recipe.holdout.people for row in self._labelled(source)]

    def excluded(self) -> list[str]:
        """Return the prompts of the sets to leave out."""
        return [request.prompt for name in self.recipe.data.exclude for request in load_requests(name)]

    def _note(self, found: RequestSet) -> None:
        self.sources.append({"name": found.name, "sha256": found.sha256, "licence": found.licence})


def source_of(name: str, items: Sequence[LabelledExchange]) -> dict[str, str]:
    """Return name, content hash and licence of labelled data."""
    content = content_key(
        [[item.exchange.request.prompt, item.exchange.completion, item.label] for item in items]
    )
    return {
        "name": name,
        "sha256": content,
        "licence": DATASETS[name].licence if name in DATASETS else "not stated",
    }


def _prompt(request: Request) -> LabelledPrompt:
    source: Source = {"harmful": "seed", "benign": "harmless", "contentious": "contentious"}[request.kind]  # type: ignore[assignment]
    group = str(request.metadata.get("pair", "")) or (
        request.id.rsplit("/", 1)[0] if request.id.startswith("lab-") else ""
    )
    return LabelledPrompt(request.prompt, request.kind == "harmful", source, group)


def _attacked(recipe: JudgeRecipe, held: Sequence[LabelledPrompt]) -> list[LabelledPrompt]:
    """Return held-out prompts inside templates that training has not seen."""
    attacks = [make_attack(name, pool=_UNSEEN) for name in recipe.holdout.unseen_attacks]
    rows = [row for row in held if attacks]
    found = []
    for number, row in enumerate(rows):
        attack = attacks[number % len(attacks)]
        request = Request(f"held-out/{row.key}", row.text)
        for prompt in attack.apply(request, seed=recipe.seed)[:1]:
            text = "\n".join(turn.content for turn in prompt.conversation if turn.role == "user")
            found.append(LabelledPrompt(text, row.problematic, "held-out", row.group or row.key))
    return found


def _seeds(
    rows: Sequence[LabelledPrompt], count: int | None, seed: int, left_out: int
) -> tuple[list[LabelledPrompt], list[LabelledPrompt]]:
    """Return the prompts of round 0, half of them problematic if a number is asked for, and the others.

    Raises:
        UsageError: A side is missing.
    """
    sides = {side: [row for row in rows if row.problematic is side] for side in (True, False)}
    if not all(sides.values()):
        raise UsageError(
            f"there are {len(sides[True])} problematic and {len(sides[False])} harmless prompts to learn from, "
            f"{left_out} were left out (held out, excluded or twice): give sets with both"
        )
    if count is None:
        return list(rows), []
    chosen: set[str] = set()
    for side in sides.values():
        drawn = Random(seed).sample(sorted(side, key=lambda row: row.key), min(count // 2, len(side)))
        chosen |= keys_of(drawn)
    return [row for row in rows if row.key in chosen], [row for row in rows if row.key not in chosen]


def _distinct(rows: Iterable[LabelledPrompt]) -> list[LabelledPrompt]:
    """Return the first row of each text; a text with both labels is left out."""
    found: dict[str, LabelledPrompt] = {}
    both: set[str] = set()
    for row in rows:
        first = found.setdefault(row.key, row)
        if first.problematic is not row.problematic:
            both.add(row.key)
    return [row for key, row in found.items() if key not in both]
