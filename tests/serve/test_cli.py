"""``toxoid serve``: options that do not go together, keys, and the lab's model served."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys

import httpx
import pytest

from tests.cli.test_imports import HEAVY, modules_after
from toxoid.cli import main
from toxoid.serve import server
from toxoid.serve.app import create_app
from toxoid.serve.keys import KeyRing


def complaint(capsys, *arguments):
    assert main(["serve", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--guided", "--shield", "x"], "exclude each other"),
        (["--judge-model", "x"], "--judge llm"),
        (["--upstream", "http://localhost:1/v1"], "name the MODEL"),
        (["m", "--upstream", "http://localhost:1/v1", "--shield", "x"], "--shield needs the weights"),
        (["m", "--upstream", "localhost"], "is no endpoint address"),
        (["--host", "0.0.0.0"], "there are no API keys"),
        (["--port", "70000"], "port"),
        (["--config", "/nowhere.yaml"], "no such file"),
        (["--keys", "/nowhere.yaml", "m", "--upstream", "http://localhost:1/v1"], "no such file"),
        (["--judge", "refusal"], "neither problematic requests nor harmful replies"),
        (["--new-key", "ann"], "give --keys FILE"),
        (["--endpoint", "http://localhost:1/v1"], "No such option"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_served_is_told_in_one_line(capsys, arguments, said):
    assert said in complaint(capsys, *arguments)


def test_an_address_in_use_and_unreadable_keys_are_told_before_anything_is_loaded(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert "Address already in use; choose" in complaint(capsys, "--port", port, "--shield", "/nowhere")
    assert "no such file" in complaint(capsys, "--keys", "/nowhere.yaml", "--shield", "/nowhere")


@pytest.mark.parametrize("package", ["uvicorn", "fastapi"])
def test_a_missing_extra_is_named(package):
    code = (
        f"import sys; sys.modules['{package}'] = None; from toxoid.cli import main; sys.exit(main(['serve']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"toxoid: {package} is not installed: pip install 'toxoid[serve]'\n"


def test_a_new_key_is_shown_once_and_opens(capsys, tmp_path):
    path = tmp_path / "new" / "keys.yaml"
    assert main(["serve", "--new-key", "ann", "--keys", str(path)]) == 0
    key = capsys.readouterr().out.strip()
    assert KeyRing(path).find(f"Bearer {key}").name == "ann"
    assert "has a key named" in complaint(capsys, "--new-key", "ann", "--keys", str(path))


def test_help_loads_no_heavy_library():
    assert not (HEAVY | {"fastapi", "uvicorn"}) & modules_after("serve", "--help")


def test_the_labs_model_is_served_with_judge_guidance_and_page(monkeypatch):
    answers = []

    def drive(service, ready, playground):
        app = create_app(service, playground)

        async def run():
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(app), base_url="http://localhost", timeout=60
            ) as client:
                messages = [{"role": "user", "content": "Where does the mill stand?"}]
                body = {"messages": messages, "temperature": 0, "max_tokens": 20}
                for stream in (False, True):
                    answers.append(await client.post("/v1/chat/completions", json={**body, "stream": stream}))
                answers.append(await client.get("/"))

        asyncio.run(run())
        service.reload()
        service.close()

    monkeypatch.setattr(server, "run_server", drive)
    assert main(["serve", "--judge", "lab-oracle", "--guided"]) == 0
    whole, streamed, page = answers
    events = [line.removeprefix("data: ") for line in streamed.text.splitlines() if line][:-1]
    pieces = [json.loads(event)["choices"][0]["delta"].get("content", "") for event in events]
    assert "".join(pieces) == whole.json()["choices"][0]["message"]["content"] != ""
    assert "<html" in page.text
