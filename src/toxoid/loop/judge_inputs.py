"""What the training of a judge begins with, by content: a name alone says little."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from toxoid.loop import models
from toxoid.loop.judge_recipe import JudgeRecipe
from toxoid.store.keys import content_key, file_sha256, tree_sha256

_WITHOUT_WEIGHTS = ("bag-of-words", "small-encoder")


def inputs_of(recipe: JudgeRecipe) -> dict[str, Any]:
    """Return the hash of the judge or encoder that is trained on, and the identity of the adversary's model here.

    Raises:
        UsageError: One of them cannot be loaded.
    """
    found: dict[str, Any] = {}
    if recipe.start.source not in _WITHOUT_WEIGHTS:
        found["start"] = _start_hash(recipe.start.source)
    adversary = recipe.adversary
    if recipe.rounds and recipe.rounds.rounds and not adversary.attacks and not adversary.model.endpoint:
        found["adversary"] = models.load(adversary.model).identity
    return found


def _start_hash(source: str) -> str:
    from toxoid.engines.classifiers.encoders import encoder_folder
    from toxoid.engines.classifiers.folders import FACTS
    from toxoid.engines.loading import checked_weights

    judge = Path(source).expanduser() / FACTS
    if judge.is_file():
        return file_sha256(judge)  # it holds the hashes of the weights, the tokenizer and the encoder
    folder, _ = encoder_folder(source)
    return content_key(list(map(file_sha256, checked_weights(folder))), tree_sha256(folder, "*.json"))
