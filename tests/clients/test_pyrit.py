"""PyRIT of Microsoft: ``OpenAIChatTarget`` under an attack."""

from __future__ import annotations

import json

from tests.clients.conftest import HERE

CLIENT = "pyrit"
INSTALLED = [["pyrit==1.1.0"]]


def test_an_attack_gets_its_reply(client, answered, tmp_path):
    said = client.run(HERE / "ask_with_pyrit.py", client.url, client.key, folder=tmp_path)
    assert json.loads(said.splitlines()[-1])["reply"] != ""
    assert answered() == 1
