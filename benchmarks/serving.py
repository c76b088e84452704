"""Servers in processes of their own, as the benchmarks of the server need them."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

CHAT = "/v1/chat/completions"
_STARTING = 600.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """A running server, and what its process uses.

    Args:
        process: The process.
        url: Where it listens, without a slash at the end.
    """

    process: subprocess.Popen[str]
    url: str

    def seconds(self) -> float:
        """Return the CPU seconds it has used."""
        fields = self._read("stat").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory(self) -> int:
        """Return its resident memory in bytes, files that the kernel may drop and read again left out."""
        (line,) = (line for line in self._read("status").splitlines() if line.startswith("RssAnon:"))
        return 1024 * int(line.split()[1])

    def files(self) -> int:
        """Return how many files and connections it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def threads(self) -> int:
        """Return how many threads it has."""
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def metrics(self) -> dict[str, float]:
        """Return what ``/metrics`` says: by name with labels."""
        lines = httpx.get(f"{self.url}/metrics", timeout=60).text.splitlines()
        told = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in told}

    def _read(self, name: str) -> str:
        return Path(f"/proc/{self.process.pid}/{name}").read_text()


@dataclass
class Reply:
    """What a client got.

    Args:
        status: Of the answer; 0 if none came.
        seconds: From the request to the end of the answer.
        first: From the request to its first text; ``None`` if there was none.
        finish: Why the reply ended; empty if it did not.
        whole: Whether the answer came to its end.
    """

    status: int = 0
    seconds: float = 0.0
    first: float | None = None
    finish: str = ""
    whole: bool = False


@dataclass
class Body:
    """What is asked.

    Args:
        text: The user's turn.
        tokens: At most, of the reply.
        stream: Whether the reply comes piece by piece.
        more: Other fields.
    """

    text: str
    tokens: int
    stream: bool = True
    more: Mapping[str, Any] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """Return the body of the request."""
        messages = [{"role": "user", "content": self.text}]
        given = {"messages": messages, "max_tokens": self.tokens, "temperature": 0, "stream": self.stream}
        return {**given, **self.more}


async def ask(client: httpx.AsyncClient, body: Body, headers: Mapping[str, str] | None = None) -> Reply:
    """Ask, and wait until the answer is there; see :class:`Reply`.

    Raises:
        httpx.HTTPError: The server cannot be reached, or has gone.
    """
    reply, start = Reply(), time.perf_counter()
    async with client.stream("POST", CHAT, json=body.json(), headers=headers) as answer:
        reply.status = answer.status_code
        if body.stream and answer.status_code == 200:
            async for choice in _choices(answer, reply):
                if reply.first is None and choice["delta"].get("content"):
                    reply.first = time.perf_counter() - start
                reply.finish = choice.get("finish_reason") or reply.finish
        else:
            content = json.loads(await answer.aread())
            reply.whole = answer.status_code == 200
            reply.finish = content["choices"][0]["finish_reason"] if reply.whole else ""
    reply.seconds = time.perf_counter() - start
    return reply


async def _choices(answer: httpx.Response, reply: Reply) -> AsyncIterator[dict[str, Any]]:
    """Yield the choices of a stream; some servers end it with a mark, others with the reason alone."""
    async for line in answer.aiter_lines():
        data = line.removeprefix("data: ")
        if data == "[DONE]":
            reply.whole = True
        elif line:
            for choice in json.loads(data).get("choices", ()):
                yield choice


async def ask_all(url: str, bodies: Sequence[Body], at_once: int) -> list[Reply]:
    """Ask everything, ``at_once`` at a time."""
    gate = asyncio.Semaphore(at_once)
    async with httpx.AsyncClient(
        base_url=url, timeout=600, limits=httpx.Limits(max_connections=None)
    ) as client:

        async def one(body: Body) -> Reply:
            async with gate:
                return await ask(client, body)

        return await asyncio.gather(*map(one, bodies))


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


@contextmanager
def serving(command: Sequence[str], port: int, log: Path | None = None) -> Iterator[Server]:
    """Run a server that listens on ``port``, with one thread for its sums.

    Args:
        command: Its arguments after the Python that runs this.
        port: Of loopback.
        log: Where its messages go; nowhere else than an error's text if ``None``.

    Raises:
        RuntimeError: It ends before it listens.
    """
    given = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as folder:
        path = log or Path(folder) / "log"
        with path.open("w", encoding="utf-8") as errors:
            process = subprocess.Popen(
                [sys.executable, *command], env=given, stdout=errors, stderr=errors, text=True
            )
        server = Server(process, f"http://127.0.0.1:{port}")
        try:
            _wait(server, path)
            yield server
        finally:
            process.kill()
            process.wait()


def _wait(server: Server, log: Path) -> None:
    end = time.monotonic() + _STARTING
    while time.monotonic() < end and server.process.poll() is None:
        try:
            if httpx.get(f"{server.url}/health", timeout=10).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    said = log.read_text(encoding="utf-8").strip().splitlines()[-3:]
    raise RuntimeError(f"no server at {server.url}: {' '.join(said) or 'it says nothing'}")


def random_shield(source: str, folder: Path, tokens: int) -> None:
    """Write a shield of two random soft prompts, contrasted at every token.

    Args:
        source: The model it is for.
        folder: Where to.
        tokens: The length of either prompt.
    """
    import torch

    from toxoid.config.recipe import ModelSection
    from toxoid.engines.shield import Shield, made_for, save_shield
    from toxoid.engines.soft_prompt import Frame
    from toxoid.loop.models import load

    loaded = load(ModelSection(source=source))
    table = loaded.model.get_input_embeddings().weight.detach().float()
    draw = torch.Generator().manual_seed(0)
    safe, opposite = torch.randn(2, tokens, table.shape[1], generator=draw) * float(table.std())
    save_shield(Shield(safe, opposite, Frame("front"), made_for(loaded)), folder)
