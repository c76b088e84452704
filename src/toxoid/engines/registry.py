"""What can be asked, light enough for ``toxoid ls``: the forms that MODEL takes."""

from __future__ import annotations

NAMES: dict[str, str] = {
    "FOLDER": "a Hugging Face checkpoint: safetensors, with a chat template",
    "OWNER/NAME": "the same from the Hub",
    "lab-base": "the lab's model, weakly aligned; ships with toxoid",
    "lab-uncensored": "the lab's model that complies with everything; ships with toxoid",
    "NAME": "a model behind an OpenAI-compatible server, with --endpoint URL",
}
"""Name to one line; a plug-in's engine is asked as ``NAME:MODEL``."""
