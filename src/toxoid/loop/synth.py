"""Training data at scale: ranked groups, shard by shard, each on disk as soon as it is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from toxoid.attacks.course_wording import load_course_wording, wording_for
from toxoid.config.prompt_files import prompts_hash
from toxoid.config.recipe import Recipe
from toxoid.data.groups import Group
from toxoid.data.loading import load_requests
from toxoid.data.parquet import GROUP_FILES, PAIR_FILES, write_groups, write_pairs
from toxoid.data.request_set import RequestSet, subsample
from toxoid.data.schemas import Request
from toxoid.data.writing import data_card
from toxoid.engines.base import Engine, Sampling
from toxoid.engines.cached import CachedEngine
from toxoid.errors import UsageError
from toxoid.judges.cached import CachedJudge
from toxoid.judges.panel import Panel, panel_identity
from toxoid.loop import models
from toxoid.loop.judging import choose_panel
from toxoid.methods.course_correction.synthesis import (
    MIN_WORDS,
    SynthesisOptions,
    full_reply,
    synthesise_groups,
)
from toxoid.progress import SILENT, Prefixed, Progress
from toxoid.store.files import write_json_atomic, write_text_atomic
from toxoid.store.keys import content_key, file_sha256
from toxoid.store.run_directory import RunDirectory

SHARD = 1000
"""Requests per pair of files: what is held in memory at once."""

_NOTES = (
    "Holds harmful replies, to be left and rejected: imitate neither them nor the beginnings of corrections.",
    "Ranks: 0 is the safe reply, then corrections from the earliest to the latest, last the harmful reply.",
    "`turns` counts the characters before a correction's trigger; `metadata` is JSON.",
    "Openers and triggers are the training pool's; evaluation uses others.",
)
_FILTERS = (
    "requests without a full harmful reply",
    "degenerate truncations: missing, wordless, equal to the one before, or the whole reply",
    "continuations that were cut off, are unfinished, or do not correct by the judge's verdict",
    "safe replies that do not decline",
    "requests of which no correction is left",
)


def synthesise(
    recipe: Recipe,
    directory: Path,
    *,
    options: SynthesisOptions,
    shard: int = SHARD,
    command: str = "",
    progress: Progress = SILENT,
) -> Counter[str]:
    """Make C2-Syn from a recipe's model, judge, harmful requests, sampling and seed; see :func:`write_shards`.

    Of a set of the lab the training goals are taken, in ``train.variants`` wordings.

    Raises:
        UsageError: The recipe, the model, the data or the directory cannot work.
    """
    requests = _requests(recipe)
    panel = choose_panel(recipe)
    engine = models.open_engine(recipe.model, prefill="continue")
    sampling = recipe.audit.sampling
    with closing(engine):
        return write_shards(
            requests,
            directory,
            engine=engine,
            panel=panel,
            sampling=Sampling(sampling.temperature, sampling.top_p, sampling.max_tokens),
            options=options,
            seed=recipe.seed,
            shard=shard,
            command=command,
            progress=progress,
        )


def write_shards(
    requests: RequestSet,
    directory: Path,
    *,
    engine: Engine,
    panel: Panel,
    sampling: Sampling,
    options: SynthesisOptions,
    seed: int,
    shard: int = SHARD,
    command: str = "",
    progress: Progress = SILENT,
) -> Counter[str]:
    """Write the groups of all requests and their pairs, or continue a call that was stopped; return the counts.

    Of every ``shard`` requests the directory gets ``groups-NNNNN.parquet`` and ``pairs-NNNNN.parquet``, each whole
    or not at all, at the end ``README.md`` and ``synthesis.json``. Memory does not grow with the requests but for
    the requests themselves. A stopped call keeps its finished shards, whose files are checked by their digests, and
    every reply and verdict of the one it was in.

    Raises:
        UsageError: No request has a full harmful reply, no group could be made, or the directory holds the data of
            another setup.
    """
    _refuse_unusable(requests, shard)
    if options.wording == "auto":  # of all requests: a shard must not choose for itself
        options = replace(options, wording=wording_for(requests))
    setup = _setup(requests, engine, panel, sampling, options, seed, shard)
    shards = [requests.requests[start : start + shard] for start in range(0, len(requests), shard)]
    with RunDirectory.open(directory, fingerprint=setup, recipe={"command": command, **setup}) as run:
        make = partial(
            synthesise_groups,
            engine=CachedEngine(engine, run.records),
            judges={aspect: CachedJudge(judge, run.records) for aspect, judge in panel.items()},
            sampling=sampling,
            options=options,
            seed=seed,
        )
        _make_missing(run, shards, make, progress)
        payloads = [run.stage_payload(_stage(number)) for number in range(len(shards))]
        counts = sum((Counter(payload["counts"]) for payload in payloads), Counter[str]())
        if not counts["groups"]:
            raise UsageError(_nothing(counts))
        files = {name: digest for payload in payloads for name, digest in payload["files"].items()}
        _publish(run, requests, engine, counts, files, setup, command)
    return counts


def _make_missing(
    run: RunDirectory,
    shards: Sequence[Sequence[Request]],
    make: Callable[..., tuple[list[Group], Counter[str]]],
    progress: Progress,
) -> None:
    """Make the shards that no earlier call has finished."""
    missing = [number for number in range(len(shards)) if not _whole(run, number, progress)]
    if len(missing) < len(shards):
        progress.note(f"{len(shards) - len(missing)} of {len(shards)} shards are there already")
    if not missing:
        return
    total = sum(len(shards[number]) for number in missing)
    with progress.task("course-correction groups", total, "requests") as task:
        for number in missing:
            told_as = Prefixed(progress, f"shard {number + 1} of {len(shards)}")
            groups, counts = make(shards[number], progress=told_as)
            write_groups(_files(run, number)["groups"], groups)
            write_pairs(_files(run, number)["pairs"], groups)
            digests = {path.name: file_sha256(path) for path in _files(run, number).values()}
            run.mark_done(_stage(number), {"counts": dict(counts), "files": digests})
            task.advance(len(shards[number]))


def _requests(recipe: Recipe) -> RequestSet:
    name = recipe.data.sets.get("harmful")
    if name is None:
        raise UsageError("no harmful requests are named: give a data set or a file with --requests")
    if name.startswith("lab-"):
        from toxoid.data.lab import lab_requests

        found = lab_requests(name, split="train", variants=recipe.train.variants)
    else:
        found = load_requests(name, kind="harmful")
    return subsample(found, recipe.data.limit, seed=recipe.seed)


def _refuse_unusable(requests: RequestSet, shard: int) -> None:
    if shard < 1:
        raise UsageError(f"A shard of {shard} requests was asked for; expected 1 or more.")
    if all(full_reply(request) is None for request in requests):
        raise UsageError(
            f"{requests.name}: none of {len(requests)} requests has a full harmful reply to correct (a column "
            f"`target` of {MIN_WORDS} words or more): give a set with such replies, e.g. pku-saferlhf"
        )


def _setup(
    requests: RequestSet,
    engine: Engine,
    panel: Panel,
    sampling: Sampling,
    options: SynthesisOptions,
    seed: int,
    shard: int,
) -> dict[str, Any]:
    """Return everything that the files depend on: the fingerprint."""
    from toxoid import __version__

    return {
        "toxoid": __version__,
        "method": "course-correction",
        "seed": seed,
        "options": {**asdict(options), "shard": shard},
        "sampling": {**asdict(sampling), "stop": list(sampling.stop)},
        "model": engine.identity(),
        "judges": panel_identity(panel),
        "data": {"name": requests.name, "requests": len(requests), "sha256": _digest(requests)},
        "wording": load_course_wording(options.wording).sha256,
        "prompts": prompts_hash(["system"]),
    }


def _digest(requests: RequestSet) -> str:
    """Return the key of the requests taken: the set's own, and which of it."""
    return content_key(requests.sha256, [request.id for request in requests])


def _stage(number: int) -> str:
    return f"shard-{number:05}"


def _files(run: RunDirectory, number: int) -> dict[str, Path]:
    return {name: run.path / f"{name}-{number:05}.parquet" for name in ("groups", "pairs")}


def _whole(run: RunDirectory, number: int, progress: Progress) -> bool:
    """Say whether a shard was finished by an earlier call, and its files are still what that one wrote."""
    if not run.stage_done(_stage(number)):
        return False
    digests: Mapping[str, str] = run.stage_payload(_stage(number))["files"]
    for path in _files(run, number).values():
        if not path.is_file() or file_sha256(path) != digests.get(path.name):
            progress.note(
                f"{path}: changed or missing since it was written; shard {number + 1} is made again"
            )
            return False
    return True


def _publish(
    run: RunDirectory,
    requests: RequestSet,
    engine: Engine,
    counts: Mapping[str, int],
    files: Mapping[str, str],
    setup: Mapping[str, Any],
    command: str,
) -> None:
    """Write what tells people and programs about the whole."""
    card = data_card(
        name=f"Course-correction groups from {requests.name}",
        licence=requests.licence,
        generator=f"{engine.name} with toxoid {setup['toxoid']}, course-correction (C2-Syn)",
        seeds={"strides, wordings and replies": setup["seed"]},
        filters=_FILTERS,
        counts=told(counts),
        sources={requests.name: requests.sha256},
        notes=[*_NOTES, *requests.notes, *([f"Command: `{command}`"] if command else [])],
        parts={"pairs": PAIR_FILES, "groups": GROUP_FILES},
    )
    write_text_atomic(run.path / "README.md", card)
    whole = {"counts": dict(sorted(counts.items())), "command": command, "files": files, "fingerprint": setup}
    write_json_atomic(run.path / "synthesis.json", whole)


def told(counts: Mapping[str, int]) -> dict[str, int]:
    """Return the counts that are not zero for people, in the order in which things are made and dropped."""
    order: Sequence[str] = (
        "requests",
        "requests_without_harmful_reply",
        "truncations_dropped",
        "corrections",
        "corrections_dropped",
        "corrections_tried",
        "tries_dropped",
        "safe",
        "groups",
        "groups_full",
        "groups_without_safe_reply",
        "groups_dropped",
        "pairs",
    )
    places = {
        key: max((i for i, start in enumerate(order) if key.startswith(start)), default=-1) for key in counts
    }
    ranked = sorted(counts, key=lambda key: (places[key], key))
    return {key.replace("_", " "): counts[key] for key in ranked if counts[key]}


def _nothing(counts: Mapping[str, int]) -> str:
    why = ", ".join(f"{count} {name}" for name, count in told(counts).items())
    return (
        f"no group could be made ({why}). The replies have to be of several clauses, and the model has to go on after "
        "a trigger; try other requests, another model, or more --max-tokens"
    )
