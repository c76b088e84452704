"""Which requests a run tests on and trains on, kept apart by prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import get_args

from toxoid.attacks.base import Attack
from toxoid.attacks.course_correction import CourseCorrection, whole_reply
from toxoid.attacks.hijacking import HijackName
from toxoid.attacks.many_shot import Room
from toxoid.attacks.registry import make_attack
from toxoid.audit.items import Drawing, Item, build_items
from toxoid.audit.tasks import CAMPAIGNS, PLAYED, task_spec
from toxoid.config.recipe import BASE, ArmSection, Recipe, TrainSection
from toxoid.data.loading import load_requests
from toxoid.data.request_set import RequestSet, prompt_key, refuse_overlap, split_by_prompt, subsample
from toxoid.data.schemas import Kind, Request
from toxoid.engines.base import Sampling
from toxoid.errors import UsageError
from toxoid.methods.registry import WITHOUT_REQUESTS
from toxoid.store.keys import file_sha256

TRAIN_SHARE = 0.5
"""Where one set serves training and test, this share of its prompts trains."""

_OWN_DATA = {"groups", "run", "shield", "anchors_file"}
"""Options of arms that bring their data, or what was made from it."""
_MADE_FROM = {"jailbreak": "harmful", "hijack": "benign"}
"""Roles whose requests an attack makes of another role's, where no set is named for them."""
_KINDS: dict[str, Kind] = {
    "benign": "benign",
    "hijack": "benign",
    "contentious": "contentious",
    "contentious_new": "contentious",
}
"""What the requests of a role are; all other roles are played by harmful ones."""


@dataclass(frozen=True)
class Requests:
    """All requests of a run: test sets by role, what each audit task asks of them, training sets by arm."""

    test: Mapping[str, RequestSet]
    asked: Mapping[str, RequestSet]
    train: Mapping[str, Training]

    def hashes(self) -> dict[str, str]:
        """Return what identifies the data, for the fingerprint."""
        tests = {f"test/{role}": _hash(found) for role, found in self.test.items()}
        return tests | {f"train/{arm}": training.sha256 for arm, training in self.train.items()}

    def notes(self) -> list[str]:
        """Return what a reader has to know about the training and test sets."""
        bare = [
            f"arm {arm} is trained without general data: expect over-refusal (give --benign)"
            for arm, training in self.train.items()
            if not training.benign
        ]
        sets = (*self.test.values(), *self.asked.values())
        tested = dict.fromkeys(f"{found.name}: {note}" for found in sets for note in found.notes)
        left_out = dict.fromkeys(note for training in self.train.values() for note in training.notes)
        return [*bare, *tested, *left_out]


@dataclass(frozen=True)
class Training:
    """What one arm trains on."""

    harmful: tuple[Request, ...]
    benign: tuple[Request, ...]
    sha256: str
    notes: tuple[str, ...] = ()
    """What was left out."""


def load_all(recipe: Recipe) -> Requests:
    """Load the test sets of the recipe's tasks and the training sets of its arms.

    Raises:
        UsageError: A set is missing or malformed, or training and test share prompts.
    """
    test = {role: _test_set(recipe, role) for role in _roles(recipe)}
    asked = {name: _asked(recipe, name, test[task_spec(name).data]) for name in recipe.audit.tasks}
    train = {}
    for arm in recipe.arms:
        train[arm.name] = _training(recipe, arm)
        _check_apart(train[arm.name], test)
    return Requests(test, asked, train)


def _training(recipe: Recipe, arm: ArmSection) -> Training:
    """Load what an arm trains on; groups that were made before bring their requests with them."""
    section = arm.train or recipe.train
    hijacks = arm.options.get("attack") in get_args(HijackName)  # made of the benign requests
    needs_none = (
        arm.artifact_of or arm.method in WITHOUT_REQUESTS or arm.options.keys() & _OWN_DATA or hijacks
    )
    if not section.harmful and not needs_none:
        raise UsageError(
            f'arm "{arm.name}" has no harmful requests to train on: give some with --requests, or name them in '
            "train.harmful of the recipe"
        )
    excluded = [load_requests(name) for name in section.exclude]
    benign = [
        _train_set(recipe, name, _known_kind(recipe, name), section, excluded) for name in section.benign
    ]
    brought = _brought(arm)
    if brought is not None:
        found, sha = brought
        for other in excluded:
            refuse_overlap(found, other.requests)  # what was made stays whole
        return Training(
            found, _merged(benign), f"{sha} {_hash_all([*benign, *excluded])}".strip(), _notes(benign)
        )
    harmful = [_train_set(recipe, name, "harmful", section, excluded) for name in section.harmful]
    used = [*harmful, *benign]
    return Training(_merged(harmful), _merged(benign), _hash_all([*used, *excluded]), _notes(used))


def _brought(arm: ArmSection) -> tuple[tuple[Request, ...], str] | None:
    """Return the requests of the groups, or of the audited run, that an arm's options name, and their hash."""
    if groups := arm.options.get("groups"):
        from toxoid.data.parquet import groups_hash, read_groups

        path = Path(str(groups))
        requests = (
            Request(id=group.id, prompt=group.conversation[-1].content) for group in read_groups(path)
        )
        return tuple(requests), f"groups:{groups_hash(path)}"
    if run := arm.options.get("run"):
        from toxoid.methods.mistake_analysis.audited import bad_replies, scored_file

        path = scored_file(str(run), str(arm.options.get("system", BASE)))
        return tuple(item.request for item, _ in bad_replies(path)), f"run:{file_sha256(path)}"
    return None


def audit_items(recipe: Recipe, requests: Requests, room: Room | None = None) -> list[Item]:
    """Return every item of the audit, task by task and attack by attack.

    ``room`` is the context that many-shot attacks may fill, where it is known.
    """
    frozen = [name for name in recipe.audit.tasks if name not in PLAYED]
    return [item for name in frozen for item in _items(recipe, requests, name, room)]


def _items(recipe: Recipe, requests: Requests, task: str, room: Room | None) -> list[Item]:
    attacks = _attacks(recipe, task, room)
    return [
        replace(item, attack=name)
        for name, attack in attacks.items()
        for item in build_items(task, requests.asked[task].requests, attack, seed=recipe.seed)
    ]


def attack_notes(recipe: Recipe, items: Sequence[Item]) -> list[str]:
    """Return what a reader has to know about the attacks: templates left out, shots that had no room."""
    notes = []
    tasks = [task for task in recipe.audit.tasks if task != CAMPAIGNS]
    names = [name for task in tasks for name in recipe.audit.attacks.get(task, ())]
    for name in dict.fromkeys(names):
        told = make_attack(name).identity()
        if left := told.get("without_placeholder"):
            notes.append(f"{name}: {left} rows have no placeholder for the request and are left out")
    seen = [item.request.metadata for item in items if "shots" in item.request.metadata]
    short = [told["shots"] for told in seen if told["shots"] < told["shots_wanted"]]
    if short:
        notes.append(
            f"many-shot: {len(short)} of {len(seen)} conversations hold only {min(short)} to {max(short)} shots, "
            "for the context has no room for more"
        )
    return notes


def drawings(recipe: Recipe) -> dict[str, Drawing]:
    """Return by task how many replies an item gets and how they are drawn."""
    sampling, course = recipe.audit.sampling, recipe.audit.course_correction
    plain = Drawing(Sampling(sampling.temperature, sampling.top_p, sampling.max_tokens), recipe.audit.samples)
    protocol = Drawing(Sampling(course.temperature, course.top_p, course.max_tokens), course.paths)
    undistorted = Drawing(Sampling(1.0, 1.0, course.max_tokens), course.paths)
    found = {}
    for name in recipe.audit.tasks:
        begun = task_spec(name).course
        found[name] = plain if begun is None else undistorted if begun.undistorted else protocol
    if CAMPAIGNS in found:
        found[CAMPAIGNS] = Drawing(plain.sampling, 1)  # one reply stands for a whole campaign
    return found


def _attacks(recipe: Recipe, task: str, room: Room | None) -> dict[str, Attack]:
    """Return the attacks of a task by the names they were asked for with."""
    spec, chosen = task_spec(task), recipe.audit.attacks.get(task)
    if spec.course is None or chosen is not None:
        return {name: make_attack(name, room=room) for name in chosen or (spec.attack,)}
    course = recipe.audit.course_correction
    attack = CourseCorrection(
        opener=spec.course.opener,
        trigger=spec.course.trigger,
        lengths=course.lengths,
        wording=course.wording,
    )
    return {spec.attack: attack}


def _asked(recipe: Recipe, name: str, found: RequestSet) -> RequestSet:
    """Return the requests of a task: a role's, or those that come with the whole reply that the task needs."""
    spec = task_spec(name)
    if not spec.needs_reply or name in recipe.audit.attacks:
        return found
    kept = tuple(request for request in found if whole_reply(request))
    left = len(found) - len(kept)
    if not kept:
        raise UsageError(_no_reply(name, found))
    if left:
        found = replace(found, requests=kept).with_notes(
            f"{name} leaves out {left} of its {len(kept) + left} requests, which come with no whole reply"
        )
    return subsample(found, recipe.audit.course_correction.limit, seed=recipe.seed) if spec.course else found


def _no_reply(name: str, found: RequestSet) -> str:
    if task_spec(name).data == "benign":
        return (
            f"{name} needs good replies, and none of the {len(found)} requests of {found.name} has a reference: "
            "give a benign set with references, such as alpaca, or leave the task out"
        )
    return (
        f"{name} needs whole harmful replies, and none of the {len(found)} requests of {found.name} has a target: "
        "give a set with targets, such as c2-eval, or ask the task prefill, which needs none"
    )


def _roles(recipe: Recipe) -> list[str]:
    return list(dict.fromkeys(task_spec(name).data for name in recipe.audit.tasks))


def _source(recipe: Recipe, role: str) -> str:
    """Return the set that plays a role; attacks make jailbreak and hijack requests of plain ones."""
    name: str | None = recipe.data.sets.get(role) or recipe.data.sets.get(_MADE_FROM.get(role, ""))
    if name is None:
        tasks = ", ".join(task for task in recipe.audit.tasks if task_spec(task).data == role)
        raise UsageError(
            f'no data set is named for the role "{role}", which {tasks} needs. Set data.sets.{role} in the recipe, '
            "or leave the task out of audit.tasks."
        )
    return name


def _test_set(recipe: Recipe, role: str) -> RequestSet:
    name = _source(recipe, role)
    found = load_requests(name, kind=_KINDS.get(role, "harmful"))
    if _shared(recipe, name):
        found = _half(found, "test", recipe.seed)
    return subsample(found, recipe.data.limit, seed=recipe.seed)


def _known_kind(recipe: Recipe, name: str) -> Kind | None:
    """Return the kind that the recipe's test sets say of a set of general data; ``None`` leaves it to the set."""
    roles = [role for role, source in recipe.data.sets.items() if source == name]
    return next((_KINDS[role] for role in roles if role in ("benign", "contentious")), None)


def _train_set(
    recipe: Recipe, name: str, kind: Kind | None, section: TrainSection, excluded: Sequence[RequestSet]
) -> RequestSet:
    """Load a training set; its notes tell what was left out, and nothing else."""
    if name.startswith("lab-"):
        from toxoid.data.lab import lab_requests

        found = lab_requests(name, split="train", variants=section.variants if kind == "harmful" else 1)
    else:
        found = load_requests(name, kind=kind)
        if _shared(recipe, name):
            found = _half(found, "train", recipe.seed)
    kept = _without(replace(found, notes=()), excluded)
    return replace(subsample(kept, section.limit, seed=recipe.seed), notes=kept.notes)


def _without(found: RequestSet, excluded: Sequence[RequestSet]) -> RequestSet:
    """Return a training set without the prompts of other sets, with a note for each of these."""
    for other in excluded:
        keys = {prompt_key(request) for request in other}
        kept = tuple(request for request in found if prompt_key(request) not in keys)
        if not kept:
            raise UsageError(
                f"train.exclude leaves out every training prompt of {found.name}: all of them stand in {other.name}. "
                "Train on another set, or exclude less."
            )
        note = f"{len(found) - len(kept)} of {len(found)} training prompts are left out, as they stand in {other.name}"
        found = replace(found, requests=kept).with_notes(note)
    return found


def _shared(recipe: Recipe, name: str) -> bool:
    """Whether one published set serves training and test; the lab's sets are split already."""
    trained = {
        used for arm in recipe.arms for section in [arm.train or recipe.train] for used in _names(section)
    }
    return name in trained and name in recipe.data.sets.values() and not name.startswith("lab-")


def _names(section: TrainSection) -> Iterable[str]:
    return (*section.harmful, *section.benign)


def _half(found: RequestSet, part: str, seed: int) -> RequestSet:
    parts = split_by_prompt(found.requests, {"train": TRAIN_SHARE, "test": 1 - TRAIN_SHARE}, seed=seed)
    return replace(found, requests=tuple(parts[part])).with_notes(
        f"its {part} half, split by prompt with seed {seed}"
    )


def _notes(sets: Sequence[RequestSet]) -> tuple[str, ...]:
    return tuple(f"{found.name}: {note}" for found in sets for note in found.notes)


def _merged(sets: Sequence[RequestSet]) -> tuple[Request, ...]:
    return tuple(request for found in sets for request in found)


def _check_apart(training: Training, test: Mapping[str, RequestSet]) -> None:
    for found in test.values():
        refuse_overlap((*training.harmful, *training.benign), found.requests)


def _hash(found: RequestSet) -> str:
    return f"{found.name}:{len(found)}:{found.sha256}"


def _hash_all(sets: Sequence[RequestSet]) -> str:
    return reduce(lambda text, found: f"{text} {_hash(found)}", sets, "").strip()
