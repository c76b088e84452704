"""What a training leaves: an adapter or model folder, its facts as JSON, its model card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from toxoid.errors import UsageError
from toxoid.store.files import disk_errors, publish_folder, remove_tree, write_json_atomic, write_text_atomic
from toxoid.training.card import Card, card_text
from toxoid.training.saving import writing

if TYPE_CHECKING:
    from torch import Tensor

    from toxoid.engines.loading import LoadedModel

__all__ = ["FACTS", "Card", "TrainingResult", "check_output", "save_output"]

FACTS = "training.json"


@dataclass(frozen=True)
class TrainingResult:
    """What a training did.

    Args:
        path: The folder with the result.
        kind: ``adapter`` (PEFT), ``model``, or ``shield`` (:mod:`toxoid.engines.shield`).
        steps: Optimiser steps, those before a resumption included.
        seconds: Of training, likewise.
        tokens: That went through the model, padding not counted, likewise.
        losses: One per step: the weighted token mean over the step's targets, before the step.
        examples: Trained on.
        cut: Of these, how many lost the beginning of their context.
        dropped: Left out, because not even their target fits.
    """

    path: Path
    kind: Literal["adapter", "model", "shield"]
    steps: int
    seconds: float
    tokens: int
    losses: tuple[float, ...]
    examples: int
    cut: int
    dropped: int


def check_output(output: Path) -> None:
    """Refuse a place whose content a result would replace, unless that is an earlier result.

    Raises:
        UsageError: ``output`` is a file, or a folder with something else in it.
    """
    if output.is_dir() and (not any(output.iterdir()) or (output / FACTS).is_file()):
        return
    if output.exists():
        raise UsageError(f"{output} exists and holds no earlier training result: give a new or empty folder")


def save_output(
    model: Any,
    loaded: LoadedModel,
    result: TrainingResult,
    *,
    fingerprint: Mapping[str, Any],
    card: Card,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write the folder ``result.path``, whole or not at all.

    Args:
        model: What was trained: a PEFT model, or a model in float32 (saved in the original's type).
        loaded: The model it started from.
        result: The facts.
        fingerprint: What the weights depend on.
        card: What the model card says beyond that.
        weights: All weights by name, where those in ``model`` are only this process's part of them.

    Raises:
        UsageError: The disk refuses.
    """
    output = result.path
    built = output.with_name(f".{output.name}.partial")
    with disk_errors(output):
        remove_tree(built)
    with writing(built):
        built.mkdir(parents=True)
        if result.kind == "adapter":
            _save_adapter(model, loaded, built, weights)
        else:
            _save_model(model, loaded, built, weights)
        facts = {key: value for key, value in asdict(result).items() if key != "path"}
        write_json_atomic(built / FACTS, {"result": facts, "fingerprint": dict(fingerprint)})
        write_text_atomic(built / "README.md", card_text(card, facts, fingerprint, source=loaded.source))
    with disk_errors(output):
        publish_folder(built, output)


def _save_adapter(
    model: Any, loaded: LoadedModel, folder: Path, weights: Mapping[str, Tensor] | None
) -> None:
    config = model.peft_config["default"]
    config.base_model_name_or_path = loaded.source
    if not config.is_prompt_learning:
        config.target_modules = sorted(config.target_modules)  # a set: its order would differ from run to run
    # Not "auto": that looks the base model up on the Hub to see whether its vocabulary has grown.
    model.save_pretrained(folder, save_embedding_layers=False, state_dict=weights)


def _save_model(model: Any, loaded: LoadedModel, folder: Path, weights: Mapping[str, Tensor] | None) -> None:
    model.config.use_cache = loaded.model.config.use_cache  # the trainer switches it off
    dtype = loaded.model.dtype
    if weights is None:
        model = model.to(dtype)
    else:
        weights = {name: weight.to(dtype) for name, weight in weights.items()}
    with _no_progress_bar():
        model.save_pretrained(folder, state_dict=weights)
    loaded.tokenizer.save_pretrained(folder)


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
