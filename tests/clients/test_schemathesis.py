"""schemathesis: requests made up from the published OpenAPI document; the model is fake, the server is not."""

from __future__ import annotations

import json

import pytest
from benchmarks.serving import free_port, serving

CLIENT = "schemathesis"
INSTALLED = [["schemathesis==4.32.5"]]
EXAMPLES = 1700
"""For each of the operations; three of them take that many different requests."""


@pytest.fixture
def fake(tmp_path):
    port = free_port()
    command = ["-m", "tests.serve.fake_server", json.dumps({"port": port}), "0", "1", "5"]
    with serving(command, port, tmp_path / "log") as started:
        yield started


def test_no_request_makes_the_server_fail(client, fake, tmp_path):
    chosen = ["--phases", "coverage,fuzzing", "--checks", "not_a_server_error", "--max-examples", EXAMPLES]
    asked = [f"{fake.url}/openapi.json", *chosen, "--seed", 0]
    client.run("-m", "schemathesis.cli", "run", *asked, folder=tmp_path)
    lines = (tmp_path / "log").read_text("utf-8").splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{")]
    statuses = [line["status"] for line in told if line["event"] == "request"]
    assert len(statuses) >= 5000
    assert max(statuses) < 500
