"""A loaded set of requests, and how to choose from it: by kind, by a stable subsample, by prompt."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from toxoid.data.schemas import Kind, Request
from toxoid.errors import UsageError
from toxoid.store.keys import content_key

_NOT_WORD = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class RequestSet:
    """Requests with what a report has to say about their origin.

    Args:
        requests: In file order, each prompt once.
        name: The registered name, or the file's stem.
        sha256: Of the file's bytes; of the files' digests where there are several.
        licence: As its source states it; ``"unknown"`` for a user's own file.
        notes: What a reader has to know: caveats, assumptions made, rows dropped.
    """

    requests: tuple[Request, ...]
    name: str
    sha256: str
    licence: str = "unknown"
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, requests: Iterable[Request], *, name: str, licence: str = "unknown", notes: Sequence[str] = ()
    ) -> RequestSet:
        """Return requests that were made in Python as a set, each prompt once, known by their content."""
        kept, dropped = without_duplicates(requests)
        told = (
            *notes,
            *((f"{dropped} requests with a prompt that stands earlier were dropped",) if dropped else ()),
        )
        return cls(tuple(kept), name, content_key([asdict(request) for request in kept]), licence, told)

    def __len__(self) -> int:
        return len(self.requests)

    def __iter__(self) -> Iterator[Request]:
        return iter(self.requests)

    def with_notes(self, *notes: str) -> RequestSet:
        """Return the set with more notes."""
        return replace(self, notes=(*self.notes, *notes))


def normalised(text: str) -> str:
    """Return ``text`` as compared between data sets: NFKC, no case, no punctuation, single spaces.

    A text of punctuation only is returned stripped, so that two of them stay different.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _NOT_WORD.sub(" ", folded).strip() or text.strip()


def prompt_key(request: Request) -> str:
    """Return the normalised prompt, the default unit of :func:`split_by_prompt`."""
    return normalised(request.prompt)


def hash_fraction(*parts: object) -> float:
    """Return a number in [0, 1) that depends on ``parts`` only (not on process, order or platform)."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:6], "big") / 2**48


def without_duplicates(requests: Iterable[Request]) -> tuple[list[Request], int]:
    """Return the first request of each normalised prompt, and how many others were dropped."""
    first: dict[str, Request] = {}
    total = 0
    for request in requests:
        total += 1
        first.setdefault(prompt_key(request), request)
    return list(first.values()), total - len(first)


def of_kind(requests: RequestSet, kind: Kind | None) -> RequestSet:
    """Return the requests of one kind.

    Raises:
        UsageError: There are none; the text says which kinds there are.
    """
    if kind is None:
        return requests
    kept = tuple(request for request in requests if request.kind == kind)
    if not kept:
        counts = Counter(request.kind for request in requests)
        found = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        raise UsageError(
            f"{requests.name} has no {kind} requests: it holds {found}. Ask for one of these kinds."
        )
    return replace(requests, requests=kept)


def subsample(requests: RequestSet, limit: int | None, *, seed: int = 0) -> RequestSet:
    """Return ``limit`` requests, chosen by hashing (seed, id) and kept in their order.

    The choice does not depend on the order of the file, and a smaller limit chooses a subset of a larger one.

    Raises:
        UsageError: ``limit`` is below 1.
    """
    if limit is None:
        return requests
    if limit < 1:
        raise UsageError(f"A limit of {limit} requests was given; expected 1 or more.")
    if limit >= len(requests):
        return requests
    ranked = sorted(requests, key=lambda request: (hash_fraction("limit", seed, request.id), request.id))
    chosen = {request.id for request in ranked[:limit]}
    kept = replace(requests, requests=tuple(request for request in requests if request.id in chosen))
    return kept.with_notes(f"{len(kept)} of {len(requests)} requests, chosen by hash with seed {seed}")


def split_by_prompt(
    requests: Iterable[Request],
    fractions: Mapping[str, float],
    *,
    seed: int = 0,
    key: Callable[[Request], str] = prompt_key,
) -> dict[str, list[Request]]:
    """Split requests so that no key (normalised prompt) stands in two parts.

    The part of a request depends on (seed, key) only. So it stays where it is when rows are added, and a
    prompt of two data sets falls on the same side in both. The price: fractions are met on average only.

    Args:
        requests: What to split.
        fractions: Share of each part, e.g. ``{"train": 0.8, "test": 0.2}``; positive, with sum 1.
        seed: Another seed gives another split.
        key: What must not straddle; pass one that returns the goal or topic to hold whole goals out.

    Raises:
        UsageError: Fractions that are no division of 1, or a part that would stay empty.
    """
    if not fractions or min(fractions.values()) <= 0 or abs(sum(fractions.values()) - 1) > 1e-6:
        raise UsageError(f"Fractions {dict(fractions)} were given; expected positive numbers with sum 1.")
    parts: dict[str, list[Request]] = {name: [] for name in fractions}
    for request in requests:
        parts[_part(fractions, hash_fraction("split", seed, key(request)))].append(request)
    empty = [name for name, members in parts.items() if not members]
    if empty:
        total = sum(len(members) for members in parts.values())
        raise UsageError(
            f"The part {empty[0]!r} stays empty: {total} requests are too few for the fractions "
            f"{dict(fractions)} with seed {seed}. Give more requests, a larger fraction or another seed."
        )
    return parts


def _part(fractions: Mapping[str, float], position: float) -> str:
    """Return the part in whose share of [0, 1) ``position`` falls."""
    end = 0.0
    for name, share in fractions.items():
        end += share
        if position < end:
            return name
    return list(fractions)[-1]  # rounding: the shares may sum to a little below 1


def overlap(a: Iterable[Request], b: Iterable[Request]) -> int:
    """Return how many different normalised prompts stand in both (train/test contamination)."""
    return len({prompt_key(request) for request in a} & {prompt_key(request) for request in b})


def refuse_overlap(train: Sequence[Request], test: Sequence[Request]) -> None:
    """Raise if a prompt of ``test`` also stands in ``train``.

    Raises:
        UsageError: Names how many, and the first pair of ids.
    """
    trained = {prompt_key(request): request.id for request in train}
    shared = [(trained[prompt_key(r)], r.id) for r in test if prompt_key(r) in trained]
    if shared:
        raise UsageError(
            f"{overlap(train, test)} prompts stand in training and test data "
            f"(first: {shared[0][0]} = {shared[0][1]}); a measurement on them proves nothing. "
            "Split by prompt, or leave them out of training."
        )
