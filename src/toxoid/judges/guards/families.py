"""The families of guard models: how each is asked, kept as data in ``toxoid/config/prompts/guards``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toxoid.config.prompt_files import prompt, prompts_hash
from toxoid.errors import UsageError, did_you_mean
from toxoid.judges.base import Aspect
from toxoid.judges.guards.replies import READERS

FAMILIES: tuple[str, ...] = tuple(READERS)
_PROBE = "@@request@@"
_IN_PARTS = (
    "{% set typed = namespace(turns=[]) %}{% for turn in messages %}{% set typed.turns = typed.turns + "
    "[{'role': turn['role'], 'content': [{'type': 'text', 'text': turn['content']}]}] %}{% endfor %}"
    "{% set messages = typed.turns %}"
)
"""For templates of models that also see images: they take a content as a list of parts, and skip plain text."""


@dataclass(frozen=True, slots=True)
class Family:
    """How the guard models of one family are asked.

    Args:
        name: One of :data:`FAMILIES`.
        names: What checkpoints are called; punctuation and case do not count.
        aspects: What they judge. For each, the guidelines that are asked about one by one; none where the format
            has a policy of its own.
        max_tokens: Room for the reply.
        cut: Whether a reply that was cut off counts, since its first word is all there is to it.
        own: What a checkpoint's own template must hold to be used, and what is put in front of it then.
        template: The published layout as a chat template, for checkpoints without one.
    """

    name: str
    names: tuple[str, ...]
    aspects: Mapping[Aspect, tuple[str, ...]]
    max_tokens: int
    cut: bool
    own: tuple[tuple[str, str], ...]
    template: str

    def key(self) -> str:
        """Return the hash of everything in the family's file."""
        return prompts_hash([_file(self.name)])

    def template_for(self, tokenizer: Any) -> str:
        """Return the chat template by which a checkpoint of this family is asked.

        Raises:
            UsageError: The checkpoint's template does not show what is to be judged.
        """
        given = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else ""
        fitting = (before + given for needs, before in self.own if given and needs in given)
        template = next(fitting, self.template)
        for candidate in (template, _IN_PARTS + template):
            if _shows(tokenizer, candidate):
                return candidate
        raise UsageError(
            f"the chat template of this {self.name} checkpoint does not show the request that it is given: "
            "remove it from the folder, and the published layout is used"
        )


def load_family(name: str) -> Family:
    """Return a family by name.

    Raises:
        UsageError: There is no such family.
    """
    if name not in FAMILIES:
        raise UsageError(
            f'"{name}" is no family of guards.{did_you_mean(name, FAMILIES)} Known: {", ".join(FAMILIES)}.'
        )
    data = prompt(_file(name))
    return Family(
        name=name,
        names=tuple(data["names"]),
        aspects={aspect: tuple(guidelines) for aspect, guidelines in data["aspects"].items()},
        max_tokens=data["max_tokens"],
        cut=data.get("cut", False),
        own=tuple((rule["needs"], rule["before"]) for rule in data["own"]),
        template=data["template"],
    )


def family_of(source: str | Path) -> str:
    """Return the family of a checkpoint by its name: of the folder, on the Hub, or the one in its config.

    Raises:
        UsageError: Neither tells.
    """
    plain = [_plain(name) for name in _names(source)]
    for family in FAMILIES:
        if any(_plain(name) in given for name in load_family(family).names for given in plain):
            return family
    raise UsageError(
        f"{source} does not say which guard it is: rename the folder so that its name holds one of "
        f"{', '.join(name for family in FAMILIES for name in load_family(family).names)}"
    )


def _names(source: str | Path) -> Sequence[str]:
    """Return what a checkpoint may be called by; a config that cannot be read is told about when it is loaded."""
    path = Path(source).expanduser()
    if not path.is_dir():
        return [str(source)]
    try:
        config = json.loads((path / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        config = {}
    return [path.resolve().name, str(config.get("_name_or_path", "")) if isinstance(config, dict) else ""]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _file(name: str) -> str:
    return f"guards/{name}"


def _shows(tokenizer: Any, template: str) -> bool:
    """Tell whether a template renders a request and shows it."""
    try:
        asked = [{"role": "user", "content": _PROBE}]
        return _PROBE in tokenizer.apply_chat_template(asked, tokenize=False, chat_template=template)
    except Exception:  # a template is a program of somebody else's
        return False
