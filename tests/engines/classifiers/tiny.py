"""Tiny random classifiers of each kind."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification

from toxoid.engines.classifiers import base
from toxoid.engines.classifiers.base import Labels
from toxoid.engines.classifiers.encoders import small_encoder
from toxoid.engines.classifiers.modules import BagOfWordsModule, ClassifierModule, EncoderModule
from toxoid.engines.classifiers.windows import Window

REQUESTS, REPLIES = base.PROMPTS, base.REPLIES
TEXTS = [
    "how do I bake a loaf of bread with rye",
    "tell me how to poison the well",
    "the fox carries a lantern to the mill and counts the stones",
    "what does the miller do when the well is dry?",
    "Sorry, I will not paint the gate. Ask me about the garden.",
]
WINDOW = Window(32, 4)


def tiny_encoder(
    labels: Labels = REQUESTS, window: Window = WINDOW, *, seed: int = 0, adapter: bool = False
) -> EncoderModule:
    """Return a random encoder whose answers differ widely; with an adapter that is not the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = small_encoder(TEXTS, labels, window=window, width=32)
        torch.nn.init.normal_(module.head.weight, std=1.0)
        if adapter:
            module.add_adapter(rank=2, alpha=4)
            for name, weight in module.named_parameters():
                if ".lora_B." in name:
                    torch.nn.init.normal_(weight, std=0.2)
    return module.eval()


def tiny_words(labels: Labels = REQUESTS, window: Window = WINDOW, *, seed: int = 0) -> BagOfWordsModule:
    """Return a bag of words with random weights."""
    module = BagOfWordsModule(labels, window, buckets=512)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        module.embedding.weight.normal_()
    return module.eval()


def taught(module: BagOfWordsModule, text: str, strength: float = 20.0) -> BagOfWordsModule:
    """Make the words of ``text`` speak for the last label, and all others a little for the first."""
    with torch.no_grad():
        module.embedding.weight.zero_()
        module.bias.copy_(torch.linspace(1.0, 0.0, len(module.bias)))
        module.embedding.weight[module.rows([text])[0].ids, -1] = strength
    return module


def tiny_modules(labels: Labels = REQUESTS, window: Window = WINDOW) -> list[ClassifierModule]:
    """Return one module of each kind that can be saved, and an encoder with an adapter."""
    return [
        tiny_words(labels, window),
        tiny_encoder(labels, window),
        tiny_encoder(labels, window, adapter=True),
    ]


def save_sequence(folder: Path, names: list[str], **config: object) -> Path:
    """Write a tiny classifier of ``transformers`` with these labels and return its folder."""
    encoder = tiny_encoder()
    settings = encoder.encoder.config
    settings.id2label = dict(enumerate(names))
    settings.label2id = {name: index for index, name in enumerate(names)}
    for key, value in config.items():
        setattr(settings, key, value)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(settings)
    torch.nn.init.normal_(model.classifier.weight, std=1.0)
    model.save_pretrained(folder)
    encoder.tokenizer.tokenizer.save_pretrained(folder)
    return folder
