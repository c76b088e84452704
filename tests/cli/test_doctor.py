from __future__ import annotations

import builtins
import json

from toxoid.cli import machine, main
from toxoid.cli.doctor import describe


def test_facts_are_json_and_every_fact_has_a_line(capsys):
    assert main(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["cpu"]["usable"] >= 1
    assert facts["packages"]["torch"]
    assert {name for name, _ in describe(facts)} >= {
        "processor",
        "bf16",
        "memory",
        "disk",
        "torch",
        "extras",
        "data",
    }


def test_people_get_a_line_per_fact(capsys):
    assert main(["doctor"]) == 0
    assert "cores usable" in capsys.readouterr().out


def test_quota_of_a_container_bounds_the_cores():
    assert machine.usable_cores("100000 100000\n") == 1
    assert machine.usable_cores("50000 100000\n") == 1
    assert machine.usable_cores("max 100000\n") == machine.usable_cores("") >= 1


def test_bf16_instructions_are_read_from_the_flags_only():
    assert machine.bf16_instructions("model name : avx512_bf16\nflags\t\t: sse amx_bf16 avx512_bf16\n") == [
        "avx512_bf16",
        "amx_bf16",
    ]
    assert machine.bf16_instructions("Features : fp bf16\n") == ["bf16"]
    assert machine.bf16_instructions("") == []


def test_torch_that_does_not_load_is_a_finding(monkeypatch):
    def no_torch(name, *rest, **more):
        if name == "torch":
            raise ImportError("libgomp is missing")
        return real(name, *rest, **more)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", no_torch)
    assert machine.torch_facts() == {"error": "ImportError: libgomp is missing"}


def test_extras_tell_what_is_missing(monkeypatch):
    lines = ["click>=8", 'pytest>=9 ; extra == "dev"', "no-such-package-here[x]>=1; extra == 'more'"]
    monkeypatch.setattr(machine.metadata, "requires", lambda name: lines)
    assert machine.extras() == {"dev": [], "more": ["no-such-package-here"]}


def test_what_cannot_be_found_out_is_said():
    unknown = {
        "toxoid": "0",
        "python": "3",
        "system": "x",
        "cpu": {"name": None, "cores": None, "usable": 1, "bf16": []},
        "memory_gb": {"total": None, "available": None},
        "disk_free_gb": {"here": None, "model_cache": None},
        "torch": {
            "version": "2",
            "threads": 1,
            "gpus": [{"name": "G", "memory_gb": 8.0, "bf16": True}],
            "mps": True,
        },
        "packages": {"torch": None},
        "extras": {"vllm": ["vllm"]},
        "data_folder": None,
    }
    rows = dict(describe(unknown))
    assert rows["accelerator"] == "G (8.0 GB, bf16), Apple GPU"
    assert rows["packages"] == "torch MISSING"
    assert rows["extras"] == "vllm (missing: vllm)"
    assert "TOXOID_DATA" in rows["data"]
