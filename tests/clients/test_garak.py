"""garak, the scanner of NVIDIA: ``openai.OpenAICompatible``."""

from __future__ import annotations

import json

import yaml

CLIENT = "garak"
# All of its providers are dependencies of garak, and what they ask of each other takes pip long to reconcile.
_NEEDED = """
    aiohttp avidtools==0.1.2 backoff cmd2==2.4.3 colorama ecoji ftfy huggingface_hub jsonpath-ng langdetect==1.0.9
    lorem==0.1.1 markdown mikeshardmind-base2048 nltk numpy openai<3 pillow py-markdown-table python-magic pyyaml
    requests stdlibs tiktoken tqdm wn==0.9.5 xdg-base-dirs zalgolib
"""
INSTALLED = [["--no-deps", "garak==0.17.1"], [*_NEEDED.split()]]
GENERATIONS = 2


def test_a_probe_runs_to_its_end(client, answered, tmp_path):
    generator = {"uri": f"{client.url}/", "max_tokens": 24}
    config = {
        "system": {"lite": True},
        "run": {"generations": GENERATIONS},
        "plugins": {"generators": {"openai": {"OpenAICompatible": generator}}},
    }
    (tmp_path / "garak.yaml").write_text(yaml.safe_dump(config))
    asked = ["--target_type", "openai.OpenAICompatible", "--target_name", "lab-base"]
    chosen = ["--probes", "test.Test", "--detectors", "always.Pass", "--report_prefix", tmp_path / "found"]
    client.run(
        *("-m", "garak", "--config", "garak.yaml", *asked, *chosen),
        folder=tmp_path,
        OPENAICOMPATIBLE_API_KEY=client.key,
    )
    report = [json.loads(line) for line in (tmp_path / "found.report.jsonl").read_text().splitlines()]
    (result,) = (line for line in report if line["entry_type"] == "eval")
    assert result["passed"] == answered() > 0
