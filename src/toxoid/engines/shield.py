"""Shields: two opposite soft prompts, how they are used, and the model they belong to.

A shield is a folder: ``shield.safetensors`` (one tensor, both prompts), ``shield.json`` (everything else) and a card.
The adversarial half alone would be a ready-made jailbreak of its model: it is stored with the other, in no format
that another program loads as a prompt, and leaves only on request (:func:`toxoid.engines.peft_prompts.export_peft`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load, save

from toxoid.config.loading import Section, validate
from toxoid.engines.contrast import Contrast
from toxoid.engines.loading import LoadedModel
from toxoid.engines.soft_prompt import Frame, embeddings_of
from toxoid.errors import UsageError
from toxoid.store.files import disk_errors, publish_folder, remove_tree, write_json_atomic, write_text_atomic
from toxoid.store.keys import content_key

TENSORS = "shield.safetensors"
FACTS = "shield.json"

FORMAT = 1
"""Of the folder; a shield of another one is refused."""

_PROMPTS = "prompts"
_HASHES = ("weights", "adapter", "tokenizer", "template")

Half: TypeAlias = Literal["safe", "opposite"]


@dataclass(frozen=True)
class Shield:
    """Two soft prompts of one length.

    Args:
        safe: (tokens, size of an embedding) float32, on the CPU.
        opposite: The same of the adversarial prompt.
        frame: Where they stand.
        model: Which model it was made for: the hashes ``weights``, ``adapter``, ``tokenizer`` and ``template`` of its
            identity, and ``name``, for people.
        contrast: How it is meant to be used.
        facts: How it was made: anchors by set, source, settings, losses (JSON values).
    """

    safe: torch.Tensor
    opposite: torch.Tensor
    frame: Frame
    model: Mapping[str, Any]
    contrast: Contrast = field(default_factory=Contrast)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Return the number of soft tokens of either prompt."""
        return int(self.safe.shape[0])

    def identity(self) -> str:
        """Return the hash of what replies depend on: both prompts and their frame."""
        return content_key(sha256(_tensors(self)).hexdigest(), asdict(self.frame))


class _Document(Section):
    """The content of ``shield.json``."""

    format: Literal[1]
    tokens: int
    sha256: str
    frame: Frame
    model: dict[str, Any]
    contrast: Contrast
    facts: dict[str, Any]


def made_for(loaded: LoadedModel) -> dict[str, Any]:
    """Return the ``model`` entry of a shield that belongs to ``loaded``; of a local folder only the name is told."""
    path = Path(loaded.source)
    name = path.resolve().name if path.exists() else loaded.source
    return {"name": name, **{key: loaded.identity.get(key) for key in _HASHES}}


def check_fit(shield: Shield, loaded: LoadedModel) -> None:
    """Refuse a model that the shield was not made for.

    Raises:
        UsageError: Names what differs: the weights, the adapter, the tokenizer, the template, the embedding size.
    """
    differing = [key for key in _HASHES if shield.model.get(key) != loaded.identity.get(key)]
    if shield.safe.shape[1] != embeddings_of(loaded.model).embedding_dim:
        differing.append("embedding size")
    if differing:
        raise UsageError(
            f"the shield was made for {shield.model.get('name')} and does not fit {loaded.source} (different: "
            f"{', '.join(differing)}): give the model it was made for, or make a shield for this one"
        )


def check_place(folder: Path) -> None:
    """Refuse a place whose content a shield would replace, unless that is an earlier shield.

    Raises:
        UsageError: ``folder`` is a file, or a folder with something else in it.
    """
    if not is_free(folder) and not (folder / FACTS).is_file():
        raise UsageError(f"{folder} exists and holds no earlier shield: give a new or empty folder")


def is_free(folder: Path) -> bool:
    """Return whether there is nothing, or an empty folder."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder to write into; it takes the place of ``folder`` when the block ends well.

    Raises:
        UsageError: The disk refuses.
    """
    built = folder.with_name(f".{folder.name}.partial")
    with disk_errors(folder):
        remove_tree(built)
        built.mkdir(parents=True)
        try:
            yield built
            publish_folder(built, folder)
        except BaseException:
            remove_tree(built)
            raise


def save_shield(shield: Shield, folder: Path) -> None:
    """Write the folder, whole or not at all; an earlier shield there is replaced.

    Raises:
        UsageError: ``folder`` holds something else, or the disk refuses.
    """
    check_place(folder)
    tensors = _tensors(shield)
    document = {
        "format": FORMAT,
        "tokens": shield.length,
        "sha256": sha256(tensors).hexdigest(),
        "frame": asdict(shield.frame),
        "model": shield.model,
        "contrast": asdict(shield.contrast),
        "facts": shield.facts,
    }
    with whole_folder(folder.absolute()) as built:
        (built / TENSORS).write_bytes(tensors)
        write_json_atomic(built / FACTS, document)
        write_text_atomic(built / "README.md", _card(shield))


def load_shield(folder: str | Path) -> Shield:
    """Read a shield.

    Raises:
        UsageError: It is none, it is damaged, or another version of toxoid wrote it.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}: give the folder of a shield")
    if not (folder / FACTS).is_file():
        raise UsageError(
            f"{folder} is no shield (it has no {FACTS}): give the folder that `toxoid shield` made"
        )
    document = _document(folder / FACTS)
    safe, opposite = _prompts(folder / TENSORS, document)
    return Shield(
        safe,
        opposite,
        frame=document.frame,
        model=document.model,
        contrast=document.contrast,
        facts=document.facts,
    )


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], str]:
    """Return the tensors of a safetensors file and the sha256 of its bytes.

    Raises:
        UsageError: It is missing or damaged.
    """
    if not path.is_file():
        raise UsageError(f"{path} is missing: expected a safetensors file")
    data = path.read_bytes()
    try:
        return load(data), sha256(data).hexdigest()
    except SafetensorError as error:
        raise UsageError(f"{path} cannot be read as safetensors ({error}): copy or make it again") from error


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        UsageError: It is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is not readable JSON ({error}): copy or make it again") from error


def _tensors(shield: Shield) -> bytes:
    return save({_PROMPTS: torch.stack([shield.safe, shield.opposite]).float().contiguous()})


def _document(path: Path) -> _Document:
    written = read_json(path)
    found = written.get("format") if isinstance(written, dict) else None
    if found not in (None, FORMAT):
        raise UsageError(
            f"{path} has format {found}, expected {FORMAT}: use the version of toxoid that wrote it"
        )
    return validate(_Document, written, source=str(path))


def _prompts(path: Path, document: _Document) -> torch.Tensor:
    """Return both prompts, (2, tokens, size)."""
    tensors, digest = read_tensors(path)
    if digest != document.sha256:
        raise UsageError(
            f"{path} is not the file that {FACTS} describes (other sha256): copy the shield again"
        )
    prompts = tensors.get(_PROMPTS)
    if prompts is None or prompts.dtype != torch.float32 or prompts.shape[:-1] != (2, document.tokens):
        raise UsageError(
            f"{path} does not hold what a shield is: expected one float32 tensor `{_PROMPTS}` of the shape "
            f"(2, {document.tokens}, size of an embedding)"
        )
    if not bool(prompts.isfinite().all()):
        raise UsageError(f"{path} holds numbers that are not finite: make the shield again")
    return prompts


def _card(shield: Shield) -> str:
    name = shield.model.get("name")
    front = {"base_model": name, "library_name": "toxoid", "tags": ["toxoid", "safety", "soft-prompt"]}
    rows = {
        "made for": f"`{name}`",
        "soft tokens of either prompt": shield.length,
        "where they stand": shield.frame.placement,
        **{key: _words(value) for key, value in [*asdict(shield.contrast).items(), *shield.facts.items()]},
        **{f"{key}, sha256": f"`{shield.model[key]}`" for key in _HASHES if shield.model.get(key)},
    }
    table = "\n".join(f"| {key.replace('_', ' ')} | {value} |" for key, value in rows.items())
    return _TEXT.format(
        front=yaml.safe_dump(front, sort_keys=False, allow_unicode=True), name=name, table=table
    )


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items())
    return f"{value:.4g}" if isinstance(value, float) else "none" if value is None else str(value)


_TEXT = """\
---
{front}---

# A shield for {name}

Two soft prompts for `{name}`, and for no other model: a safe one, to follow, and its opposite, to stay away from.
The model's weights are as they were. Source: Zhao et al. 2024, adversarial contrastive decoding.

## Handle with care

The adversarial half makes `{name}` comply with harmful requests: alone it is a ready-made jailbreak of this model.
Give this folder to nobody who should not have that.

## Use

```
toxoid generate MODEL --shield DIR
```

`MODEL` is `{name}`, `DIR` this folder.

## Facts

| what | value |
|---|---|
{table}

A shield moves a model's habits; it gives no guarantee. Audit the shielded model on your own requests.
"""
