"""SARIF 2.1.0: landed attacks as findings, for code scanning and other viewers of static analysis."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from toxoid.audit.by_attack import landing
from toxoid.audit.results import Results
from toxoid.audit.run import Scored
from toxoid.audit.tasks import CORR_MEAN, CORRECTED, task_spec
from toxoid.report.format import metric_title, task_title
from toxoid.report.subject import Sample, samples
from toxoid.report.text import one_line, visible
from toxoid.store.keys import content_key

MAX_RESULTS = 5000
"""Findings that a file holds: GitHub shows no more of an upload."""

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_HOME = "https://github.com/toxoid/toxoid"
_BASE = "RUN"
_PROMPT, _REPLY = 600, 1000


def sarif(results: Results, system: str, scored: Iterable[Scored], *, file: str) -> str:
    """Return one system's failures as a SARIF log.

    A result is an item of which a reply failed on its task's headline metric; a rule is an attack under a task.
    Landed attacks are errors, other mistakes (over-refusal, false corrections) warnings. A location is the
    item's line in the file of scored items; ``partialFingerprints`` come from the item, so that a finding stays
    the same from run to run. Beyond :data:`MAX_RESULTS` (errors first) findings are left out, with a notification
    that counts them; replies without a verdict are told in a notification too.

    Args:
        results: Of the run.
        system: The system's name.
        scored: Its scored items, in the order of ``file``.
        file: Where they lie, relative to the run's directory.
    """
    found = list(samples(scored))
    failed = [
        [sample for sample in group if sample.state == "failed"]
        for _, group in groupby(found, lambda sample: sample.line)
    ]
    items = sorted(filter(None, failed), key=lambda group: _level(group[0].item.task) != "error")
    rules = list(dict.fromkeys(_rule_id(group[0]) for group in items))
    notes = [*_left_out(len(items)), *_unanswered(found)]
    run = {
        "tool": {"driver": _driver(rules, results)},
        "automationDetails": {"id": f"toxoid/{results['meta'].get('name', 'run')}/{system}/"},
        "originalUriBaseIds": {_BASE: {"description": {"text": "The directory of the run."}}},
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": notes}],
        "results": [_result(group, rules, results, file) for group in items[:MAX_RESULTS]],
        "columnKind": "unicodeCodePoints",
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1) + "\n"


def _level(task: str) -> str:
    """Return how bad a task's failures are: harm that was given, or a mistake that harms nobody."""
    harm = landing(task) is not None or task_spec(task).metrics[0] in (CORRECTED, CORR_MEAN)
    return "error" if harm else "warning"


def _rule_id(sample: Sample) -> str:
    return f"{sample.item.task}/{sample.item.attack}"


def _driver(rules: Sequence[str], results: Results) -> dict[str, Any]:
    return {
        "name": "toxoid",
        "version": results["meta"].get("toxoid_version", ""),
        "informationUri": _HOME,
        "rules": [_rule(rule, results) for rule in rules],
    }


def _rule(rule: str, results: Results) -> dict[str, Any]:
    task = rule.split("/", 1)[0]
    spec = task_spec(task)
    return {
        "id": rule,
        "shortDescription": {"text": task_title(task, results["meta"].get("tasks", {}))},
        "fullDescription": {"text": spec.description},
        "help": {"text": f"{metric_title(spec.metrics[0].name)}: {spec.description}"},
        "defaultConfiguration": {"level": _level(task)},
    }


def _result(group: Sequence[Sample], rules: Sequence[str], results: Results, file: str) -> dict[str, Any]:
    """Return the finding of one item, from its replies that failed."""
    first, item = group[0], group[0].item
    rule = _rule_id(first)
    return {
        "ruleId": rule,
        "ruleIndex": rules.index(rule),
        "level": _level(item.task),
        "kind": "fail",
        "message": {"text": _message(group)},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": file, "uriBaseId": _BASE},
                    "region": {"startLine": first.line},
                },
                "logicalLocations": [
                    {
                        "fullyQualifiedName": f"{rule}/{one_line(item.stratum)}/{one_line(first.id, limit=300)}",
                        "kind": "item",
                    }
                ],
            }
        ],
        "partialFingerprints": {"toxoidItem/v1": content_key(rule, item.key)},
        "occurrenceCount": len(group),
        "properties": {"category": visible(item.stratum), "request": visible(item.request.id)},
    }


def _message(group: Sequence[Sample]) -> str:
    """Return what was asked and replied; braces are doubled and links broken, which SARIF would read as its own."""
    first, item = group[0], group[0].item
    asked = one_line(item.conversation[-1].content if item.conversation else "", limit=_PROMPT)
    reply = one_line(item.prefill + first.completion.text, limit=_REPLY)
    text = f"{one_line(first.reason)}. Asked: {asked} Replied: {reply}"
    return text.replace("{", "{{").replace("}", "}}").replace("](", "] (")


def _left_out(count: int) -> list[dict[str, Any]]:
    if count <= MAX_RESULTS:
        return []
    text = f"{count - MAX_RESULTS:,} of {count:,} findings are left out; the run's report counts them all."
    return [{"level": "note", "message": {"text": text}}]


def _unanswered(found: Sequence[Sample]) -> list[dict[str, Any]]:
    """Return notifications on the replies that are neither findings nor clean."""
    said = {"unscored": "could not be scored by the judge", "error": "could not be given by the engine"}
    counts = {state: sum(sample.state == state for sample in found) for state in said}
    return [
        {"level": "warning", "message": {"text": f"{count:,} of {len(found):,} replies {said[state]}."}}
        for state, count in counts.items()
        if count
    ]
