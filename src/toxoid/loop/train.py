"""Training on files that are there already, in one process or in those of a distributed launch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from toxoid.config.loading import Section, validate
from toxoid.config.sections import ModelSection, TrainingSection, Whole
from toxoid.config.yaml_files import parse_yaml, read_text, yaml_lines
from toxoid.data.groups import Group
from toxoid.data.parquet import read_groups
from toxoid.data.rows import Row, read_table
from toxoid.data.schemas import Message
from toxoid.errors import UsageError
from toxoid.loop import models
from toxoid.methods.course_correction.objective import objective, preference_examples
from toxoid.methods.course_correction.options import CourseCorrectionOptions
from toxoid.progress import Progress
from toxoid.store.files import disk_errors, remove_tree
from toxoid.store.records import Records
from toxoid.training.artifacts import Card, TrainingResult, check_output
from toxoid.training.examples import Example
from toxoid.training.processes import connect, is_main, main_first, process_count

if TYPE_CHECKING:
    from toxoid.engines.loading import LoadedModel

_OF_MAKING = frozenset(
    {"groups", "harmful_replies", "safe_replies", "truncations", "tries", "wording", "max_groups"}
)
"""Options of course-correction that say which groups there are; here they are given."""


class TrainSettings(Section):
    """What ``toxoid train`` can be told; the sections are those of a recipe."""

    model: ModelSection = ModelSection()
    """The model to start from."""
    training: TrainingSection = TrainingSection()
    """How; `batch_size` is that of one process."""
    options: dict[str, Any] = Field(default={})
    """What is learnt from groups: the options of course-correction, without those that make groups."""
    seed: Whole = 0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name in sorted(_OF_MAKING & self.options.keys()):
            raise ValueError(
                f"options.{name} says which groups there are, and here they are given: remove it"
            )
        if self.model.elsewhere:
            raise ValueError(
                "model names a server or a plug-in, and only weights that are here can be trained: name a folder"
            )
        return self


def load_settings(path: Path | None) -> TrainSettings:
    """Return the settings in a YAML file; the defaults without one.

    Raises:
        UsageError: It is missing or wrong; the text names file, line and key.
    """
    if path is None:
        return TrainSettings()
    text = read_text(path)
    return validate(
        TrainSettings, parse_yaml(text, source=str(path)), source=str(path), lines=yaml_lines(text)
    )


def train_on_file(
    data: Path,
    output: Path,
    settings: TrainSettings,
    *,
    anchors: Path | None = None,
    command: str = "",
    progress: Progress,
) -> TrainingResult:
    """Train a model on a file and save the result; called again after a kill, continue.

    Under a distributed launcher every process calls it with the same arguments, and the main one writes.

    Args:
        data: Groups (a folder of ``toxoid synth``, Parquet or JSON lines): preferences are learnt, as
            ``settings.options`` say. Or chats (JSON lines with ``messages``): the last message of each is learnt.
        output: Folder of the adapter or model. What a killed training continues from lies beside it, in
            ``.<name>.training``.
        settings: The model, and how it is trained.
        anchors: Chats on which preference training holds the model where it is.
        command: The command line, for the model's card.
        progress: Where to report.

    Raises:
        UsageError: The data, the model or the place cannot work; one line says why.
        Diverged: The loss became infinite or NaN; the last checkpoint is kept.
    """
    output = output.absolute()
    check_output(output)
    learnt = validate(CourseCorrectionOptions, settings.options, source="options of course-correction")
    groups, chats = _read(data)
    if anchors is not None and chats:
        raise UsageError(
            f"anchors go with groups, and {data} holds chats: add them to these, or leave --anchors out"
        )
    held = [] if anchors is None else _chats(read_table(anchors).rows)
    loaded = _load(settings.model)
    options: dict[str, Any] = {**settings.training.model_dump(), "seed": settings.seed}
    with _working_folder(output) as working:
        places: dict[str, Any] = {
            "output": output,
            "checkpoints": working / "checkpoints",
            "progress": progress,
            "card": Card(method="course-correction" if groups else "sft", command=command),
        }
        if groups:
            return _train_preferences(loaded, groups, held, learnt, options, working, places)
        from toxoid.training.sft import SFTConfig, train_sft

        return train_sft(loaded, chats, SFTConfig(**options), **places)


def _train_preferences(
    loaded: LoadedModel,
    groups: Sequence[Group],
    held: Sequence[Example],
    learnt: CourseCorrectionOptions,
    options: dict[str, Any],
    working: Path,
    places: dict[str, Any],
) -> TrainingResult:
    from toxoid.training.preference import PreferenceConfig, train_preferences

    examples = preference_examples(groups, learnt)
    if not examples:
        raise UsageError(
            f"none of {len(groups)} groups has anything to learn with pairs: {learnt.pairs}, imitate: "
            f"{learnt.imitate}: set `pairs` to corrections or all, or `imitate` to corrections, safe or best"
        )
    config = PreferenceConfig(**options, objective=objective(learnt))
    # Several processes may be on several machines, whose file systems do not lock: there, memory has to do.
    alone = process_count() == 1
    with Records(working / "references.sqlite") if alone else nullcontext() as references:
        return train_preferences(loaded, examples, config, anchors=held, references=references, **places)


def _load(section: ModelSection) -> LoadedModel:
    """Load the model in every process, the main one first: it alone downloads, and speaks if there is none."""
    import torch

    connect("cuda" if torch.cuda.is_available() else "cpu")  # before loading: it gives each process its GPU
    with main_first():
        return models.load(section)


def _read(path: Path) -> tuple[list[Group], list[Example]]:
    """Return the groups or the chats of a file."""
    if path.suffix == ".jsonl" and path.is_file():
        rows = read_table(path).rows
        if "messages" in rows[0].values:
            return [], _chats(rows)
    groups = list(read_groups(path))
    if not groups:
        raise UsageError(f"{path}: there is no group in it")
    return groups, []


def _chats(rows: Sequence[Row]) -> list[Example]:
    return [_chat(row) for row in rows]


def _chat(row: Row) -> Example:
    """Return the chat in a row with ``messages``, and ``weight`` if it has one."""
    given = row.values.get("messages")
    turns = [_turn(turn, row) for turn in given] if isinstance(given, list) else []
    if len(turns) < 2 or turns[-1].role != "assistant" or turns[-2].role != "user":
        row.fail(
            "`messages` do not end with a user's message and the assistant's reply to it, which is learnt"
        )
    weight = row.values.get("weight", 1.0)
    if not isinstance(weight, int | float) or not weight > 0:
        row.fail(f"weight is {weight!r}: give a number above 0")
    return Example(
        tuple(turns[:-1]), turns[-1].content, weight=float(weight), source=str(row.values.get("source", ""))
    )


def _turn(given: Any, row: Row) -> Message:
    role, content = (given.get("role"), given.get("content")) if isinstance(given, dict) else (None, None)
    if role not in ("system", "user", "assistant") or not isinstance(content, str):
        row.fail("`messages` is no list of {role: system, user or assistant, content: text}")
    return Message(role, content)


@contextmanager
def _working_folder(output: Path) -> Iterator[Path]:
    """Give the folder of what a killed training continues from; it goes when the block ends well."""
    working = output.with_name(f".{output.name}.training")
    with disk_errors(working):
        working.mkdir(parents=True, exist_ok=True)
    yield working
    if is_main():
        with disk_errors(working):
            remove_tree(working)
