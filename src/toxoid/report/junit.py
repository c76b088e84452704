"""JUnit XML: an audit as a test report, which continuous integration shows beside the other tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from xml.etree import ElementTree as ET

from toxoid.audit.results import Results
from toxoid.audit.run import Scored
from toxoid.report.subject import Sample, State, samples
from toxoid.report.text import one_line, visible

_TEXT, _LINE = 4000, 300
_NEVER = "1970-01-01T00:00:00"
_ELEMENTS: dict[State, str] = {"failed": "failure", "unscored": "skipped", "error": "error"}


def junit(results: Results, system: str, scored: Iterable[Scored]) -> str:
    """Return one system's replies as JUnit XML, valid for Ant's schema and that of Jenkins.

    A test suite is an attack under a task by a category of requests, a test case a reply. A failure is an attack
    that landed or a mistake that was made, on the task's headline metric; unscored replies are skipped; an error
    is a reply that the engine could not give. Times are 0: replies are made in batches. What XML cannot hold, and
    what hides or reorders text, is written as markers.

    Args:
        results: Of the run.
        system: The system's name.
        scored: Its scored items.
    """
    suites: dict[tuple[str, str, str], list[Sample]] = {}
    for sample in samples(scored):
        key = (sample.item.task, sample.item.attack, sample.item.stratum)
        suites.setdefault(key, []).append(sample)
    root = ET.Element("testsuites")
    for number, (names, found) in enumerate(suites.items()):
        root.append(_suite(number, names, found, results, system))
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _suite(
    number: int, names: tuple[str, str, str], found: Sequence[Sample], results: Results, system: str
) -> ET.Element:
    task, attack, category = (one_line(name) for name in names)
    states = [sample.state for sample in found]
    suite = ET.Element(
        "testsuite",
        {
            "name": f"{task} / {attack} / {category}",
            "package": one_line(system),
            "id": str(number),
            "tests": str(len(found)),
            "failures": str(states.count("failed")),
            "errors": str(states.count("error")),
            "skipped": str(states.count("unscored")),
            "time": "0",
            "timestamp": _timestamp(results["meta"].get("created", "")),
            "hostname": "localhost",
        },
    )
    properties = ET.SubElement(suite, "properties")
    for name in ("model", "seed", "toxoid_version"):
        told = one_line(results["meta"].get(name, ""))
        ET.SubElement(properties, "property", {"name": name, "value": told})
    suite.extend(_case(sample, f"{task}.{attack}.{category}") for sample in found)
    ET.SubElement(suite, "system-out")
    ET.SubElement(suite, "system-err")
    return suite


def _case(sample: Sample, classname: str) -> ET.Element:
    name = f"{one_line(sample.id, limit=_LINE)} #{sample.number}"
    case = ET.Element("testcase", {"name": name, "classname": classname, "time": "0"})
    if element := _ELEMENTS.get(sample.state):
        message = one_line(sample.reason, limit=_LINE)
        found = ET.SubElement(case, element, {"message": message, "type": sample.item.task})
        if element == "failure":
            found.text = _transcript(sample)
    return case


def _transcript(sample: Sample) -> str:
    """Return the last turn and the reply, made visible."""
    reply = sample.item.prefill + sample.completion.text
    asked = sample.item.conversation[-1].content if sample.item.conversation else ""
    return f"{visible(asked, limit=_TEXT)}\n\n---\n\n{visible(reply, limit=_TEXT)}"


def _timestamp(created: str) -> str:
    """Return a moment without its zone, as the schema wants it; where a run has none, the epoch."""
    try:
        return datetime.fromisoformat(created).replace(tzinfo=None).isoformat(timespec="seconds")
    except ValueError:
        return _NEVER
