"""The data card of what a run's treatments were trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from toxoid import __version__
from toxoid.config.recipe import ArmSection, Recipe
from toxoid.data import contrast
from toxoid.data.loading import load_requests
from toxoid.data.registry import DATASETS
from toxoid.data.writing import data_card
from toxoid.plugins import DATASETS as PLUGINS
from toxoid.store.files import write_text_atomic
from toxoid.store.run_directory import RunDirectory

_NOTES = (
    "Every line is a conversation in the `messages` layout; its last message is what is learnt.",
    "Mistakes, and replies to reject, are harmful text: they stand there to be analysed or left, not to be imitated.",
)


def write_card(
    recipe: Recipe, arm: ArmSection, run: RunDirectory, *, sha256: str, notes: Sequence[str]
) -> None:
    """Write the card of an arm's training set, ``artifacts/data/<arm>.md``.

    Args:
        recipe: The whole recipe.
        arm: Whose training set it is; its treatment is done.
        run: Where it is kept.
        sha256: Of the requests, set by set.
        notes: What was left out of them.
    """
    section = arm.train or recipe.train
    told = run.stage_payload(f"treat-{arm.name}")
    names = [*section.harmful, *section.benign]
    card = data_card(
        name=f"{recipe.name}, {arm.label or arm.name}",
        licence=licence_of(names),
        generator=f"toxoid {__version__}, {arm.method}, on {recipe.model.source}",
        seeds={"everything random": recipe.seed},
        filters=[*notes, *(f"{key}: {value}" for key, value in told["counts"].items())],
        counts=_rows(told["examples"]),
        sources=dict.fromkeys(names, sha256)
        if len(names) == 1
        else {", ".join(names): sha256}
        if names
        else {},
        notes=_NOTES,
        parts={"default": f"{arm.name}.jsonl"},
    )
    write_text_atomic(run.artifact(f"data/{arm.name}.md"), card)


def licence_of(names: Sequence[str]) -> str:
    """Return the licences of request sets by name; of a file nobody knows it."""
    known = {name: DATASETS[name].licence for name in names if name in DATASETS}
    own = {name: contrast.LICENCE for name in names if name in contrast.NAMES or name.startswith("lab-")}
    found = {**known, **own}
    found |= {name: load_requests(name).licence for name in names if name not in found and PLUGINS.find(name)}
    unknown = [name for name in names if name not in found]
    told = sorted(set(found.values())) + ([f"unknown ({', '.join(unknown)})"] if unknown else [])
    return "; ".join(told) or "unknown"


def _sources(sha256: str) -> dict[str, str]:
    """Return the hash of each set: a training's hash names them, ``name:rows:hash`` one after the other."""
    parts = (part.rpartition(":") for part in sha256.split())
    return {name: digest for name, _, digest in parts if name}


def _rows(examples: Mapping[str, int]) -> Mapping[str, int]:
    return {kind or "other": count for kind, count in examples.items()}
