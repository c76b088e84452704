"""The model card of a training: front matter of the Hugging Face Hub, and the facts in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_FOLDERS = re.compile(r"""(?<![^\s='"\[{,])(?:~|\.{1,2})?/(?:[^\s,'"\]}]*/)?(?=[^\s/])""")


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a model card says beyond the facts of the training.

    Args:
        method: The method that made the training set, e.g. ``"mistake-analysis"``.
        command: The command line that makes the model again; empty if there is none. It is told on one line (a
            break within a YAML value is a space), and of a local path in it the name only.
        datasets: Hub names of the data sets used.
        licence: Licence identifier; empty if it follows the base model.
        sources: Examples by where they come from, as far as that is told.
    """

    method: str = "sft"
    command: str = ""
    datasets: tuple[str, ...] = ()
    licence: str = ""
    sources: Mapping[str, int] = field(default_factory=dict)


def card_text(card: Card, facts: Mapping[str, Any], fingerprint: Mapping[str, Any], *, source: str) -> str:
    """Return the text of ``README.md``.

    Args:
        card: Method, command and data sets.
        facts: The fields of :class:`toxoid.training.artifacts.TrainingResult`, without the path.
        fingerprint: Settings, data hash and identity of the base model.
        source: Where the base model was loaded from. Of a local folder only the name is told.
    """
    form = _form(facts, fingerprint)
    front = yaml.safe_dump(_front_matter(card, form, source), sort_keys=False, allow_unicode=True)
    sections = [_opening(card, form, source), _training(card, facts, fingerprint), _limits(), _again(card)]
    return f"---\n{front}---\n\n" + "\n\n".join(section for section in sections if section) + "\n"


def base_name(source: str) -> str:
    """Return a Hub id as it is, and of a folder its name: a card is public, a path is not."""
    return source if _HUB_ID.fullmatch(source) and not Path(source).exists() else Path(source).name


def _form(facts: Mapping[str, Any], fingerprint: Mapping[str, Any]) -> str:
    """Return ``lora``, ``soft-prompt``, or "" for a whole model."""
    return str(fingerprint["settings"].get("form", "lora")) if facts["kind"] == "adapter" else ""


def _front_matter(card: Card, form: str, source: str) -> dict[str, Any]:
    adapter = bool(form)
    given: dict[str, Any] = {
        "license": card.licence,
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
        "base_model": base_name(source),
        "base_model_relation": "adapter" if adapter else "finetune",
        "datasets": list(card.datasets),
        "tags": ["toxoid", "safety", card.method, *([form] if form else [])],
    }
    return {key: value for key, value in given.items() if value}


def _opening(card: Card, form: str, source: str) -> str:
    what = {"": "A fine-tuned version of", "lora": "A LoRA adapter for"}.get(form, "A soft prompt (PEFT) for")
    return (
        f"# {base_name(source)}, treated with {card.method}\n\n"
        f"{what} `{base_name(source)}`, made by toxoid from examples of the method `{card.method}`."
    )


def _training(card: Card, facts: Mapping[str, Any], fingerprint: Mapping[str, Any]) -> str:
    losses = facts["losses"]
    sources = ", ".join(f"{name or 'other'} {count}" for name, count in card.sources.items())
    rows = {
        "optimiser steps": facts["steps"],
        "examples": facts["examples"],
        **({"examples by source": sources} if sources else {}),
        "of these with a shortened context": facts["cut"],
        "left out as too long": facts["dropped"],
        "tokens seen": facts["tokens"],
        "loss, first and last step": f"{losses[0]:.4f}, {losses[-1]:.4f}" if losses else "none",
        "training data, sha256": f"`{fingerprint['data']}`",
        "base weights": f"`{fingerprint['model'].get('weights', 'unknown')}`",
        **{name: f"`{value}`" for name, value in fingerprint["settings"].items()},
        **{name: f"`{value}`" for name, value in fingerprint["versions"].items()},
    }
    lines = [f"| {name.replace('_', ' ')} | {value} |" for name, value in rows.items()]
    return "\n".join(["## Training", "", "| what | value |", "|---|---|", *lines])


def _limits() -> str:
    return (
        "## Limits\n\n"
        "Fine-tuning moves a model's habits; it gives no guarantee. Read the audit report that belongs to "
        "this model for what was measured before and after it, over-refusal included, and audit again on "
        "your own requests."
    )


def _again(card: Card) -> str:
    command = _FOLDERS.sub("", " ".join(card.command.splitlines()))
    return f"## Made with\n\n```\n{command}\n```" if command else ""
