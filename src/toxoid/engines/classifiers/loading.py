"""From a folder or a name on the Hub to a classifier that is safe to open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from toxoid.engines.classifiers.base import TextClassifier
from toxoid.engines.classifiers.causal import CausalClassifier
from toxoid.engines.classifiers.folders import FACTS, load_module
from toxoid.engines.classifiers.inference import ModuleClassifier, identity_of
from toxoid.engines.classifiers.modules import ClassifierModule, EncoderModule
from toxoid.engines.classifiers.sequence import hits_among, load_sequence
from toxoid.engines.loading import checked_config, checked_weights, device_of, fetch, load_model
from toxoid.errors import UsageError


def load_classifier(
    source: str | Path, *, device: str = "cpu", positive: Sequence[str] = (), bf16: bool | None = None
) -> TextClassifier:
    """Load a classifier for inference.

    Args:
        source: A classifier of toxoid's own (a folder with ``classifier.json``); or a folder or Hub name of a model of
            ``transformers`` for sequence classification, read as a classifier of requests; or of a causal language
            model with a chat template, asked whether a request is problematic.
        device: A torch device.
        positive: The labels that are hits, in place of those that the classifier names or that speak of harm.
        bf16: Whether to multiply in bfloat16; ``None`` is where that is faster. Of a causal model it is not asked.

    Raises:
        UsageError: It cannot be loaded, or it is not known which of its labels are hits; one line says why.
    """
    path = Path(source).expanduser()
    name = path.resolve().name if path.exists() else str(source)
    if (path / FACTS).is_file():
        module: ClassifierModule = load_module(path)
        if positive:
            hits = hits_among(module.labels.names, positive, name=str(source))
            module.labels = replace(module.labels, positive=frozenset(hits))
        return _classifier(module, name, device, bf16)
    folder, _ = fetch(source, None)
    if not any((folder / file).is_file() for file in ("config.json", "adapter_config.json")):
        raise UsageError(f"{folder} holds neither {FACTS} nor config.json: give the folder of a classifier")
    config = checked_config(folder, trust_remote_code=False)
    checked_weights(folder)
    built = config.get("architectures") or [""]
    if built[0].endswith("ForCausalLM"):
        if positive:
            raise UsageError(f"{source} is a language model, asked for yes or no: it has no label to name")
        return CausalClassifier(load_model(source, device=device))
    return _classifier(load_sequence(folder, name=str(source), positive=positive), name, device, bf16)


def _classifier(module: ClassifierModule, name: str, device: str, bf16: bool | None) -> ModuleClassifier:
    identity = identity_of(module)  # of the weights as they are stored
    if isinstance(module, EncoderModule):
        module.merge_adapter()
    return ModuleClassifier(module.to(device_of(device)), name=name, bf16=bf16, identity=identity)
