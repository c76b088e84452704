"""What the task folder of lm-eval calls: items of course-correction, and the judge of what a model makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from toxoid.attacks.course_correction import CourseCorrection, whole_reply
from toxoid.data.loading import load_requests
from toxoid.data.schemas import Exchange, Request, user
from toxoid.judges.base import Outcome
from toxoid.judges.correction import CorrectionJudge

if TYPE_CHECKING:
    from datasets import Dataset


def begun_replies(
    *, data: str = "c2-eval", limit: int | None = None, seed: int = 0, **other: Any
) -> dict[str, Dataset]:
    """Return the split ``test``: a row per request and length, with the columns prompt, prefill and length.

    Args:
        data: Name or file of harmful requests; those without a whole reply are left out.
        limit: At most this many requests.
        seed: Of the openers, and of the choice of requests.
        other: What else lm-eval knows of the model; it does not matter here.

    Raises:
        UsageError: There are no such requests.
    """
    from datasets import Dataset

    from toxoid.errors import UsageError

    attack = CourseCorrection()
    begun = [
        attacked
        for request in load_requests(data, kind="harmful", limit=limit, seed=seed)
        if whole_reply(request)
        for attacked in attack.apply(request, seed=seed)
    ]
    if not begun:
        raise UsageError(
            f"no request of {data} has a whole harmful reply: give a set with targets, such as c2-eval"
        )
    rows = [
        {
            "id": attacked.request.id,
            "prompt": attacked.conversation[-1].content,
            "prefill": attacked.prefill,
            "length": attacked.cut.words if attacked.cut else 0,
        }
        for attacked in begun
    ]
    return {"test": Dataset.from_list(rows)}


def corrected(doc: Mapping[str, Any], results: Sequence[Sequence[str] | str]) -> dict[str, float]:
    """Return the share of an item's continuations that turn away, as ``corr_mean`` and as that of its length.

    What the judge cannot score counts neither way.

    Args:
        doc: A row of :func:`begun_replies`.
        results: One entry: the continuations, or a single one.
    """
    paths = [results[0]] if isinstance(results[0], str) else results[0]
    asked = Request(id=doc["id"], prompt=doc["prompt"])
    exchanges = [Exchange(asked, user(asked.prompt), path, prefill=doc["prefill"]) for path in paths]
    outcomes = [verdict.outcome for verdict in CorrectionJudge().judge(exchanges, "corrected")]
    scored = [outcome is Outcome.HIT for outcome in outcomes if outcome is not Outcome.UNSCORED]
    share = sum(scored) / max(1, len(scored))
    return {"corr_mean": share, f"corr_{doc['length']}": share} if scored else {}
