"""The SDK of OpenAI."""

from __future__ import annotations

import json

from tests.clients.conftest import HERE

CLIENT = "openai"
INSTALLED = [["openai==3.54.0"]]


def test_everything_that_the_sdk_asks_is_answered_in_its_own_types(client, answered, tmp_path):
    told = json.loads(client.run(HERE / "ask_with_openai.py", client.url, client.key, folder=tmp_path))
    assert told["whole"] == told["streamed"] == told["accumulated"] != ""
    assert (told["choices"], told["alternatives"], told["usage"]) == (2, 2, True)
    assert told["models"] == ["lab-base"]
    assert told["errors"] == ["NotFoundError", "BadRequestError", "AuthenticationError"]
    assert told["continued"] != ""
