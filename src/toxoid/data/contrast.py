"""The contrast set: pairs of requests that sound alike, one harmless and one problematic, written for toxoid.

It ships with the package, under its licence; nothing in it is actionable. Beside it stand ordinary requests, which
sound like nothing at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from importlib import resources
from typing import Any

from toxoid.data.request_set import RequestSet, hash_fraction
from toxoid.data.schemas import Request

NAMES: dict[str, str] = {
    "contrast": "pairs of contentious and of problematic requests that sound alike; ships with toxoid",
    "contrast-ordinary": "everyday requests that nobody would decline; ships with toxoid",
}
SPLITS = ("train", "test")
TEST_SHARE = 0.2
LICENCE = "Apache-2.0"


def contrast_requests(name: str, *, split: str | None = None) -> RequestSet:
    """Return one of the two sets, whole or a part of it.

    Args:
        name: A key of :data:`NAMES`.
        split: ``train`` or ``test`` (a fifth); both sides of a pair are on the same side of the split.

    Returns:
        Requests of kind ``contentious`` and ``harmful`` with ``pair`` and ``pattern`` in their metadata, or of kind
        ``benign``.
    """
    ordinary = name == "contrast-ordinary"
    files = _files("ordinary" if ordinary else "part")
    rows = [row for text in files for row in map(json.loads, text.splitlines())]
    found = _ordinary(rows) if ordinary else _pairs(rows)
    kept = tuple(request for request in found if split is None or _part(request) == split)
    digest = hashlib.sha256("".join(files).encode()).hexdigest()
    return RequestSet(kept, name, digest, LICENCE)


def _files(stem: str) -> list[str]:
    folder = resources.files("toxoid.data").joinpath("contrast")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.startswith(stem))
    return [folder.joinpath(name).read_text("utf-8") for name in names]


def _pairs(rows: list[dict[str, Any]]) -> Iterator[Request]:
    for row in rows:
        about = {"pair": row["pair"], "pattern": row["pattern"]}
        yield Request(
            f"contrast/{row['pair']}/harmless",
            row["harmless"],
            "contentious",
            row["category"],
            metadata=about,
        )
        yield Request(
            f"contrast/{row['pair']}/problematic",
            row["problematic"],
            "harmful",
            row["category"],
            metadata=about,
        )


def _ordinary(rows: list[dict[str, Any]]) -> Iterator[Request]:
    for number, row in enumerate(rows):
        yield Request(f"contrast-ordinary/{number}", row["text"], "benign", "ordinary")


def _part(request: Request) -> str:
    place = hash_fraction("contrast", request.metadata.get("pair", request.id))
    return "test" if place < TEST_SHARE else "train"
