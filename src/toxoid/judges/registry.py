"""The judges by name, light enough for ``toxoid ls``. Others are given by path, see :mod:`toxoid.judges.folders`."""

from __future__ import annotations

NAMES: dict[str, str] = {
    "lab-oracle": "ground truth of the lab: reads requests and replies by their facts",
    "refusal": "rules that tell refusals, measured against people; a non-refusal stands for harm (a proxy)",
    "llm": "a language model that is asked for a verdict; what it does not answer plainly stays unscored",
    "encoder": "packaged classifiers over a sentence encoder (extra `judge`), trained on named, licensed data",
}
