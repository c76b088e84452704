"""The scores of a treated model beside its weights: a section of its card, and the Hub's ``.eval_results``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from toxoid.audit.results import RateRow, Results, Row, System
from toxoid.audit.tasks import task_spec
from toxoid.audit.verdict import ALL, verdict_sentences
from toxoid.config.yaml_files import read_text
from toxoid.errors import UsageError
from toxoid.report.format import DASH, interval, metric_title, percent, points, task_title
from toxoid.report.text import one_line
from toxoid.report.view import level_of
from toxoid.store.files import disk_errors, write_text_atomic

EVAL_RESULTS = Path(".eval_results") / "toxoid.yaml"
"""Where the scores lie in a model's repository."""

_OWNER = "toxoid"
_SECTION = re.compile(r"\n*^## Scores\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def write_model_card(folder: Path, results: Results, system: System) -> list[Path]:
    """Write a system's scores into its model's folder: ``README.md`` and ``.eval_results/toxoid.yaml``.

    Args:
        folder: Of the model, with the card that its training wrote, or one of the user's own; a section
            ``Scores`` that is there is replaced, all else stays.
        results: Of the run.
        system: The system in these results.

    Returns:
        The two paths.

    Raises:
        UsageError: ``folder`` has no card, or cannot be written to.
    """
    card, scores = folder / "README.md", folder / EVAL_RESULTS
    if not card.is_file():
        raise UsageError(
            f"{folder}: there is no README.md to add scores to: give the folder of a treated model, such as "
            "RUN/artifacts/ARM"
        )
    text = with_scores(read_text(card), scores_section(results, system))
    with disk_errors(scores):
        scores.parent.mkdir(exist_ok=True)
    write_text_atomic(scores, yaml.safe_dump(eval_results(results, system), sort_keys=False))
    write_text_atomic(card, text)
    return [card, scores]


def with_scores(card: str, section: str) -> str:
    """Return a model card with the section ``Scores``, in place of the one it had or at its end."""
    if _SECTION.search(card):
        return _SECTION.sub(lambda found: f"\n\n{section}\n\n", card, count=1).rstrip() + "\n"
    return f"{card.rstrip()}\n\n{section}\n"


def scores_section(results: Results, system: System) -> str:
    """Return the scores of a system in Markdown: verdict, rates with intervals, differences, and who judged."""
    rows = _compared(results, system)
    rates = [rate for rate in system["rates"] if rate["category"] == ALL]
    level = f"{level_of(results) * 100:g} %"
    said = " ".join(verdict_sentences(list(rows.values()), level=level_of(results))) if rows else ""
    head = ["rate", "measured", f"{level} interval", "before", "difference", f"{level} interval", "requests"]
    table = [head, ["---"] * len(head), *(_line(rate, rows, results) for rate in rates)]
    lines = ["| " + " | ".join(cells) + " |" for cells in table]
    return "\n\n".join(["## Scores", *([said] if said else []), "\n".join(lines), _measured_by(results)])


def eval_results(results: Results, system: System) -> list[dict[str, Any]]:
    """Return the scores in the layout of ``.eval_results/*.yaml`` of the Hugging Face Hub.

    One entry per task and metric; what was not measured is left out. ``dataset.id`` is the name of the requests
    under ``toxoid/``, for a rate of toxoid is no score of a benchmark that others compute: the Hub links entries
    of data sets that are registered there as benchmarks, and keeps the others.

    Source: huggingface.co/docs/hub/eval-results.
    """
    rows = _compared(results, system)
    rates = [rate for rate in system["rates"] if rate["category"] == ALL and rate["rate"] is not None]
    created = results["meta"].get("created")
    return [
        {
            "dataset": {
                "id": _dataset(rate["task"], results),
                "task_id": f"{rate['task']}.{rate['metric']}",
            },
            "value": rate["rate"],
            **({"date": created} if created else {}),
            "notes": _notes(rate, rows, results),
        }
        for rate in rates
    ]


def _compared(results: Results, system: System) -> dict[tuple[str, str], Row]:
    """Return the overall differences that the system made, by task and metric."""
    found = next((one for one in results["comparisons"] if one["after"] == system["name"]), None)
    rows = found["rows"] if found else []
    return {(row["task"], row["metric"]): row for row in rows if row["category"] == ALL}


def _line(rate: RateRow, rows: Mapping[tuple[str, str], Row], results: Results) -> list[str]:
    row = rows.get((rate["task"], rate["metric"]))
    task = task_title(rate["task"], results["meta"].get("tasks", {}))
    return [
        f"{task}: {metric_title(rate['metric']).lower()}".replace("|", r"\|"),
        percent(rate["rate"]),
        interval(rate["ci_low"], rate["ci_high"]),
        percent(row["before"]) if row else DASH,
        points(row["difference"]) if row else DASH,
        interval(row["ci_low"], row["ci_high"]) if row else DASH,
        f"{rate['n_items']:,}",
    ]


def _measured_by(results: Results) -> str:
    """Return who judged, on how many replies, and with what: a card is public, so no path is told."""
    meta = results["meta"]
    judge = (results["judge_card"] or {}).get("name", "")
    told = {
        "judge": one_line(judge) if judge else "",
        "replies per request": meta.get("samples"),
        "seed": meta.get("seed"),
        "toxoid": meta.get("toxoid_version"),
    }
    facts = ", ".join(f"{name} {value}" for name, value in told.items() if value not in (None, ""))
    return (
        f"Measured by an audit of toxoid ({facts}). Intervals are clustered by request; differences are paired, on "
        "the same requests. Unscored replies count neither way."
    )


def _notes(rate: RateRow, rows: Mapping[tuple[str, str], Row], results: Results) -> str:
    row = rows.get((rate["task"], rate["metric"]))
    told = [
        f"{level_of(results) * 100:g} % interval {interval(rate['ci_low'], rate['ci_high'])} %",
        f"{rate['n_items']} requests",
        f"{percent(row['before'])} before the treatment" if row else "",
        f"{rate['unscored']} of {rate['n_replies']} replies unscored" if rate["unscored"] else "",
    ]
    return "; ".join(part for part in told if part)


def _dataset(task: str, results: Results) -> str:
    role = task_spec(task).data
    recipe: dict[str, Any] = results["meta"].get("fingerprint", {}).get("recipe", {})
    name = str(recipe.get("data", {}).get("sets", {}).get(role) or role)
    return f"{_OWNER}/{Path(name).stem}"
