"""Clients of others, each in a virtual environment of its own, and the server that they ask.

Opt-in: TOXOID_CLIENTS names the folder of the environments, which are made where they are missing (about 2.6 GB).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from benchmarks.serving import free_port, serving

HERE = Path(__file__).parent
MODEL = "lab-base"


@dataclass(frozen=True)
class Client:
    """A client's Python, and what it needs to know to ask the server."""

    python: Path
    url: str
    key: str

    def run(self, *arguments, folder, **environment):
        """Run Python with ``arguments`` in ``folder``, which is its home too, and return what it says."""
        given = {**os.environ, "HOME": str(folder), "HF_HUB_OFFLINE": "1", "PYTHONPATH": "", **environment}
        found = subprocess.run(
            [self.python, *map(str, arguments)],
            cwd=folder,
            env=given,
            capture_output=True,
            text=True,
            timeout=3600,
        )
        assert found.returncode == 0, found.stdout[-2000:] + found.stderr[-2000:]
        return found.stdout


@dataclass
class Log:
    """The server's log, of which every client reads its own part."""

    path: Path
    read: int = 0

    def requests(self):
        """Return the requests to the model since the last look."""
        lines = self.path.read_text("utf-8").splitlines()
        new, self.read = lines[self.read :], len(lines)
        told = [json.loads(line) for line in new if line.startswith("{")]
        return [line for line in told if line.get("route", "").startswith("/v1/c")]


@pytest.fixture(scope="session")
def environments():
    folder = os.environ.get("TOXOID_CLIENTS")
    if not folder:
        pytest.skip("TOXOID_CLIENTS names no folder for the clients' environments")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Yield the URL, a key and the log of ``toxoid serve``: guided, judged, and only with a key."""
    folder = tmp_path_factory.mktemp("server")
    keys, port = folder / "keys.yaml", free_port()
    new = [sys.executable, "-m", "toxoid", "serve", "--new-key", "clients", "--keys", str(keys)]
    key = subprocess.run(new, capture_output=True, text=True, check=True).stdout.strip()
    given = ["--guided", "--judge", "lab-oracle", "--keys", str(keys), "--port", str(port)]
    with serving(["-m", "toxoid", "serve", MODEL, *given], port, folder / "log") as started:
        yield f"{started.url}/v1", key, Log(folder / "log")


@pytest.fixture
def client(request, environments, server):
    """Return the client of the test's module, its environment made from the requirements beside the module."""
    name = request.module.CLIENT
    folder = environments / name
    if not (folder / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        for options in request.module.INSTALLED:
            subprocess.run([folder / "bin" / "pip", "install", "--quiet", *options], check=True)
        (folder / "complete").touch()
    return Client(folder / "bin" / "python", *server[:2])


@pytest.fixture
def answered(server):
    """Return a function that returns how many requests were answered since the test began; all others were not."""
    log = server[2]
    log.requests()

    def count():
        found = log.requests()
        assert {line["status"] for line in found} <= {200}
        return len(found)

    return count
