"""Classifiers in folders: ``classifier.json``, ``model.safetensors`` and a card.

An encoder that was not changed is not stored: the folder then names it, with the hash of its weights, and holds the
head and the adapter alone. Everything is float32, and reads back bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from safetensors.torch import save
from torch import Tensor

from toxoid.config.loading import Section, validate
from toxoid.engines.classifiers.base import Labels, Reads
from toxoid.engines.classifiers.encoders import (
    MINILM,
    MINILM_HUB_ID,
    encoder_from_config,
    load_tokenizer,
    pretrained,
)
from toxoid.engines.classifiers.hashes import tensors_hash
from toxoid.engines.classifiers.modules import BagOfWordsModule, Base, ClassifierModule, EncoderModule
from toxoid.engines.classifiers.windows import Window
from toxoid.engines.shield import is_free, read_json, read_tensors, whole_folder
from toxoid.errors import UsageError
from toxoid.store.files import write_json_atomic, write_text_atomic

FACTS = "classifier.json"
TENSORS = "model.safetensors"
FORMAT = 1
"""Of the folder; a classifier of another one is refused."""


class _Labels(Section):
    names: tuple[str, ...]
    positive: tuple[str, ...]
    aspect: str
    reads: Reads
    threshold: float


class _Adapter(Section):
    rank: int
    alpha: float


class Document(Section):
    """The content of ``classifier.json``."""

    format: Literal[1]
    kind: Literal["encoder", "bag-of-words"]
    sha256: str
    labels: _Labels
    temperature: float
    window: Window
    tokenizer: str
    base: Base | None = None
    adapter: _Adapter | None = None
    buckets: int | None = None
    card: dict[str, Any]
    """How it was trained: data sets, licences, counts, settings, command."""


def save_classifier(
    module: ClassifierModule, folder: str | Path, *, card: Mapping[str, Any] | None = None
) -> None:
    """Write the folder, whole or not at all; an earlier classifier there is replaced.

    Args:
        module: With its labels, threshold and temperature. An adapter is stored as one, if it was not merged.
        folder: Where.
        card: How it was trained: data sets, licences, counts, settings, command (JSON values).

    Raises:
        UsageError: ``folder`` holds something else, or the disk refuses.
    """
    folder = Path(folder)
    if not is_free(folder) and not (folder / FACTS).is_file():
        raise UsageError(f"{folder} exists and holds no earlier classifier: give a new or empty folder")
    base = _unchanged_base(module)
    tensors = _stored(module, without_encoder=base is not None)
    data = save(tensors)
    document = _document_of(module, base, sha256(data).hexdigest(), dict(card or {}))
    with whole_folder(folder.absolute()) as built:
        (built / TENSORS).write_bytes(data)
        write_json_atomic(built / FACTS, document)
        write_text_atomic(built / "README.md", card_text(document))
        if isinstance(module, EncoderModule) and base is None:
            module.encoder.config.save_pretrained(built)
            module.tokenizer.tokenizer.save_pretrained(built)


def load_module(folder: str | Path) -> ClassifierModule:
    """Read a classifier to train it further: in float32, on the CPU, in eval mode, its adapter not merged.

    Raises:
        UsageError: It is none, it is damaged, another version of toxoid wrote it, or its encoder cannot be had.
    """
    folder = Path(folder).expanduser()
    document = read_document(folder)
    tensors, digest = read_tensors(folder / TENSORS)
    if digest != document.sha256:
        raise UsageError(
            f"{folder / TENSORS} is not the file that {FACTS} describes (other sha256): copy the classifier again"
        )
    with torch.random.fork_rng(devices=[]):  # the start that the stored weights replace is drawn at random
        module = _empty(folder, document)
    if module.tokenizer_hash() != document.tokenizer:
        raise UsageError(f"the tokenizer in {folder} is not the one that {FACTS} describes: copy it again")
    expected = _stored(module, without_encoder=document.base is not None)
    wrong = [
        name for name in expected.keys() | tensors.keys() if _shape(expected, name) != _shape(tensors, name)
    ]
    if wrong:
        raise UsageError(
            f"{folder / TENSORS} does not hold what {FACTS} describes: {len(wrong)} tensors differ, first "
            f"{min(wrong)}"
        )
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise UsageError(f"{folder / TENSORS} holds numbers that are not finite: train the classifier again")
    module.load_state_dict(tensors, strict=False)
    module.temperature = document.temperature
    return module.eval()


def read_document(folder: Path) -> Document:
    """Return what ``classifier.json`` says.

    Raises:
        UsageError: It is missing or damaged, or another version of toxoid wrote it.
    """
    path = folder / FACTS
    if not path.is_file():
        raise UsageError(f"{folder} is no classifier (it has no {FACTS}): give the folder of one")
    written = read_json(path)
    found = written.get("format") if isinstance(written, dict) else None
    if found not in (None, FORMAT):
        raise UsageError(
            f"{path} has format {found}, expected {FORMAT}: use the version of toxoid that wrote it"
        )
    return validate(Document, written, source=str(path))


def _empty(folder: Path, document: Document) -> ClassifierModule:
    """Return the module of a folder, with the weights of its base and no others."""
    labels = _labels(folder, document.labels)
    if document.kind == "bag-of-words":
        return BagOfWordsModule(labels, document.window, buckets=document.buckets or 1)
    if document.base is None:
        encoder, tokenizer = encoder_from_config(folder), load_tokenizer(folder)
        module = EncoderModule(encoder, tokenizer, labels, document.window)
    else:
        base = document.base
        module = pretrained(base.source, labels, window=document.window, revision=base.revision)
        if module.base is None or module.base.weights != base.weights:
            raise UsageError(
                f"{folder} was trained on other weights of {base.source} than those that are installed: "
                "install the version it was trained on, or train it again"
            )
    if document.adapter is not None:
        module.add_adapter(rank=document.adapter.rank, alpha=document.adapter.alpha)
    return module


def _labels(folder: Path, given: _Labels) -> Labels:
    try:
        return Labels(given.names, frozenset(given.positive), given.aspect, given.reads, given.threshold)
    except ValueError as error:
        raise UsageError(f"{folder / FACTS}: {error}") from error


def _unchanged_base(module: ClassifierModule) -> Base | None:
    """Return the published encoder of a module, if its weights are still those."""
    if not isinstance(module, EncoderModule) or module.base is None:
        return None
    return module.base if tensors_hash(module.encoder) == module.base.weights else None


def _stored(module: ClassifierModule, *, without_encoder: bool) -> dict[str, Tensor]:
    return {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in module.state_dict().items()
        if not without_encoder or not name.startswith("encoder.") or ".lora_" in name
    }


def _shape(tensors: Mapping[str, Tensor], name: str) -> tuple[torch.Size, torch.dtype] | None:
    return (tensors[name].shape, tensors[name].dtype) if name in tensors else None


def _document_of(
    module: ClassifierModule, base: Base | None, digest: str, card: dict[str, Any]
) -> dict[str, Any]:
    labels = asdict(module.labels) | {"positive": sorted(module.labels.positive)}
    document = {
        "format": FORMAT,
        "kind": module.kind,
        "sha256": digest,
        "labels": labels,
        "temperature": module.temperature,
        "window": asdict(module.window),
        "tokenizer": module.tokenizer_hash(),
    }
    if isinstance(module, EncoderModule):
        document |= {"base": None if base is None else asdict(base), "adapter": module.adapter}
    if isinstance(module, BagOfWordsModule):
        document["buckets"] = module.buckets
    return document | {"card": card}


def card_text(document: Mapping[str, Any]) -> str:
    """Return the text of ``README.md``."""
    labels, base = document["labels"], document.get("base")
    front = {"library_name": "toxoid", "pipeline_tag": "text-classification", "tags": ["toxoid", "safety"]}
    if base is not None:
        front["base_model"] = MINILM_HUB_ID if base["source"] == MINILM else base["source"]
    rows = {
        "kind": document["kind"],
        "labels": ", ".join(labels["names"]),
        "a hit": ", ".join(labels["positive"]),
        "aspect": labels["aspect"],
        "reads": labels["reads"],
        "threshold": labels["threshold"],
        "temperature": document["temperature"],
        "window": f"{document['window']['tokens']} tokens, {document['window']['overlap']} in common",
        "weights, sha256": f"`{document['sha256']}`",
        **document["card"],
    }
    table = "\n".join(f"| {key.replace('_', ' ')} | {_words(value)} |" for key, value in rows.items())
    return _TEXT.format(
        front=yaml.safe_dump(front, sort_keys=False, allow_unicode=True),
        table=table,
        aspect=labels["aspect"],
        names=" or ".join(labels["names"]),
    )


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_words, value))
    text = f"{value:.4g}" if isinstance(value, float) else "none" if value is None else str(value)
    return " ".join(text.split()).replace("|", "\\|")


_TEXT = """\
---
{front}---

# A judge of the aspect `{aspect}`

Reads a text and tells: is it {names}? Made by toxoid.

## Use

```
toxoid audit MODEL --judge DIR
```

## Facts

| what | value |
|---|---|
{table}

## Limits

A classifier errs, and where it errs depends on what it was trained on. Compare a sample of its verdicts with your own
(`toxoid judge eval`) before you rely on a rate.
"""
