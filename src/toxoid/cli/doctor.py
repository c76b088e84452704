"""``toxoid doctor``: what this machine can do, and what is missing."""

from __future__ import annotations

import json
from typing import Any

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")
def doctor(as_json: bool) -> None:
    """Say what this machine can do: cores, memory, disk, bf16, GPU, versions, extras, data."""
    from toxoid.cli.machine import machine_facts

    facts = machine_facts()
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    rows = describe(facts)
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        click.echo(f"{name:<{width}}  {text}")


def describe(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the facts as (name, text) for people."""
    cpu, memory, disk = facts["cpu"], facts["memory_gb"], facts["disk_free_gb"]
    bf16 = ", ".join(cpu["bf16"]) or "no instructions for it: float32 is used on the CPU"
    packages = ", ".join(f"{name} {version or 'MISSING'}" for name, version in facts["packages"].items())
    return [
        ("toxoid", f"{facts['toxoid']} on Python {facts['python']}, {facts['system']}"),
        ("processor", f"{cpu['name'] or 'unknown'}: {cpu['usable']} of {cpu['cores']} cores usable"),
        ("bf16", bf16),
        ("memory", f"{_gb(memory['available'])} of {_gb(memory['total'])} available"),
        ("disk", f"{_gb(disk['here'])} free here, {_gb(disk['model_cache'])} where models are kept"),
        ("torch", _torch(facts["torch"])),
        ("accelerator", _accelerator(facts["torch"])),
        ("packages", packages),
        ("extras", _extras(facts["extras"])),
        ("data", facts["data_folder"] or "no folder of public data sets: set TOXOID_DATA to one"),
    ]


def _torch(torch: dict[str, Any]) -> str:
    return torch.get("error") or f"{torch['version']}, {torch['threads']} threads"


def _accelerator(torch: dict[str, Any]) -> str:
    gpus = [
        f"{gpu['name']} ({_gb(gpu['memory_gb'])}{', bf16' if gpu['bf16'] else ''})"
        for gpu in torch.get("gpus", ())
    ]
    if torch.get("mps"):
        gpus.append("Apple GPU")
    return ", ".join(gpus) or "none: everything runs on the CPU"


def _extras(extras: dict[str, list[str]]) -> str:
    if not extras:
        return "unknown: toxoid runs from its source and is not installed"
    return ", ".join(
        f"{name} (missing: {', '.join(missing)})" if missing else f"{name} installed"
        for name, missing in extras.items()
    )


def _gb(value: float | None) -> str:
    return "unknown" if value is None else f"{value} GB"
