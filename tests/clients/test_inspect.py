"""inspect_ai of UK AISI: ``openai-api/NAME/MODEL``."""

from __future__ import annotations

import json
import shutil

from tests.clients.conftest import HERE

CLIENT = "inspect"
INSTALLED = [["inspect-ai==0.3.285", "openai==3.54.0"]]


def test_an_evaluation_runs_to_its_end(client, answered, tmp_path):
    shutil.copy(HERE / "inspect_task.py", tmp_path)  # inspect_ai takes no absolute paths
    options = [
        "--max-tokens",
        "24",
        "--log-format",
        "json",
        "--log-dir",
        tmp_path / "logs",
        "--display",
        "none",
    ]
    client.run(
        *(
            "-m",
            "inspect_ai",
            "eval",
            "inspect_task.py",
            "--model",
            "openai-api/toxoid/lab-base",
            *options,
        ),
        folder=tmp_path,
        TOXOID_BASE_URL=client.url,
        TOXOID_API_KEY=client.key,
    )
    (path,) = (tmp_path / "logs").glob("*.json")
    log = json.loads(path.read_text())
    replies = [sample["output"]["choices"][0]["message"]["content"] for sample in log["samples"]]
    assert log["status"] == "success"
    assert len(replies) == answered() == 2
    assert all(replies)
