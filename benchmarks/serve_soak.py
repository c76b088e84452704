"""Mixed load on ``toxoid serve`` for a long time: does anything leak, is any request lost.

    python -m benchmarks.serve_soak [--minutes 20] [--clients 16] [--json]

The lab's model with a shield of random soft prompts (what it says matters little here) and ``lab-oracle``, which judges
replies. Clients ask for streams and whole answers, several replies, the bare model; break off streams and waits; and
send nonsense. Every second a client with three requests in work is killed (SIGKILL). At the end, under load, the server
is told to stop (SIGTERM): what it has accepted must be answered, and its exit status be 0.

- lost: requests that were neither answered nor refused, nor broken off by their client.
- unaccounted: jobs that the server took on and that it counts neither as finished nor as cancelled nor as failed.
- left: rows and jobs that are there when all clients have gone; cache beyond the shared prefixes.
- memory_growth: resident memory (anonymous pages), median of the last tenth of the time over that of the second
  tenth; files_growth, threads_growth: the same of open files and threads.

The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import httpx

from benchmarks.serving import CHAT, Body, Reply, Server, ask, free_port, random_shield, serving

Say: TypeAlias = Callable[[str], None]

MODEL = "lab-base"
SETS = ("lab-benign", "lab-harmful", "lab-jailbreak", "lab-hijack")
SOFT_TOKENS = 16
TOKENS = 48
PAUSE = 1.0
"""Most seconds between two requests of a client."""
SAMPLE = 2.0
"""Seconds between two looks at the process."""
BURST = 24
"""Streams that are begun right before SIGTERM."""
SETTINGS = "protection: {allow_lowering: true, hold_back: {size: 60}}\nlimits: {queue: 32, rows: 24}\n"
WAYS = {"stream": 30, "whole": 20, "several": 8, "bare": 8, "leave": 20, "give up": 10, "nonsense": 4}
"""What clients do, and how often."""


@dataclass
class Soak:
    """What happened to the clients' requests.

    Args:
        server: Who is asked.
        texts: What is asked.
        ends: What became of requests, by way and end.
        lost: What became of those that are lost.
        stopped: When the server was told to stop (``time.perf_counter``).
    """

    server: Server
    texts: Sequence[str]
    ends: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    stopped: float = math.inf

    def body(self, draw: random.Random, *, stream: bool = True, **more: Any) -> Body:
        """Return something to ask."""
        given = {"temperature": draw.choice([0, 1]), "seed": draw.randrange(2**31), **more}
        return Body(draw.choice(self.texts), TOKENS, stream, given)

    def note(self, way: str, reply: Reply) -> None:
        """Count a reply that came to an end."""
        expected = 400 if way == "nonsense" else 200
        if reply.status in (429, 503):
            self.ends["refused"] += 1
        elif reply.status == expected and (reply.whole or way == "nonsense"):
            self.ends[f"{way}: {reply.finish or reply.status}"] += 1
        else:
            self.lost.append(f"{way}: {reply}")

    async def one(self, client: httpx.AsyncClient, draw: random.Random) -> None:
        """Let a client ask once, in one of the ways."""
        (way,) = draw.choices(list(WAYS), list(WAYS.values()))
        if way in ("leave", "give up"):
            await self.broken_off(client, way, draw)
            return
        stream = way != "whole" and (way != "several" or draw.random() < 0.5)
        more: dict[str, Any] = {"n": 3} if way == "several" else {"n": "many"} if way == "nonsense" else {}
        headers = {"x-toxoid-protection": "off"} if way == "bare" else None
        self.note(way, await ask(client, self.body(draw, stream=stream, **more), headers))

    async def broken_off(self, client: httpx.AsyncClient, way: str, draw: random.Random) -> None:
        """Ask, and go before the answer is there: in the middle of a stream, or while waiting."""
        body = self.body(draw, stream=way == "leave").json()
        with suppress(TimeoutError):
            async with asyncio.timeout(draw.uniform(0, 0.3)):
                async with client.stream("POST", CHAT, json=body) as answer:
                    async for _ in answer.aiter_lines():
                        pass
        self.ends[way] += 1

    async def client(self, number: int, end: float) -> None:
        """Ask again and again until the time is over or the server stops."""
        draw = random.Random(number)
        async with httpx.AsyncClient(base_url=self.server.url, timeout=120) as client:
            while time.perf_counter() < min(end, self.stopped):
                start = time.perf_counter()
                try:
                    await self.one(client, draw)
                except httpx.HTTPError as error:
                    if start < self.stopped:
                        self.lost.append(f"{type(error).__name__}: {error}")
                await asyncio.sleep(draw.uniform(0, PAUSE))

    async def killing(self, end: float) -> None:
        """Kill a client every second."""
        draw = random.Random(-1)
        begin, port = time.perf_counter(), self.server.url.rsplit(":", 1)[1]
        for number in itertools.count(1):
            if time.perf_counter() >= end:
                break
            bodies = [json.dumps(self.body(draw).json()) for _ in range(3)]
            command = [sys.executable, "-m", "benchmarks.serve_victim", port, *bodies]
            victim = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
            assert victim.stdout is not None
            await victim.stdout.readline()
            await asyncio.sleep(draw.uniform(0, 0.2))
            victim.kill()
            await victim.wait()
            self.ends["killed"] += 1
            await asyncio.sleep(max(0.0, begin + number - time.perf_counter()))


@dataclass
class Watch:
    """What the process used, every few seconds."""

    server: Server
    memory: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    async def until(self, end: float, say: Say) -> None:
        """Look until the time is over."""
        while time.perf_counter() < end:
            self.memory.append(self.server.memory())
            self.files.append(self.server.files())
            self.threads.append(self.server.threads())
            if len(self.memory) % 30 == 0:
                say(f"{self.memory[-1] / 2**20:.0f} MiB, {self.files[-1]} files, {self.threads[-1]} threads")
            await asyncio.sleep(SAMPLE)

    def report(self) -> dict[str, float]:
        """Return how much everything grew."""
        series = {"memory": self.memory, "files": self.files, "threads": self.threads}
        grown = {f"{name}_growth": round(growth(values), 4) for name, values in series.items()}
        return {**grown, "memory_mib": round(statistics.median(self.memory) / 2**20)}


def growth(values: Sequence[float]) -> float:
    """Return by which share the last tenth of a series is above its second tenth."""
    tenth = max(1, len(values) // 10)  # at least two values
    return statistics.median(values[-tenth:]) / statistics.median(values[tenth : 2 * tenth]) - 1


async def soak(server: Server, minutes: float, clients: int, say: Say) -> dict[str, Any]:
    """Put a server under load, stop it, and return what the last line says."""
    load, watch = Soak(server, texts()), Watch(server)
    end = time.perf_counter() + 60 * minutes
    await asyncio.gather(
        *(load.client(number, end) for number in range(clients)), load.killing(end), watch.until(end, say)
    )
    counts = await at_rest(server)
    say(f"at rest: {counts}")
    stopping = await stop(load, clients)
    return {
        "lost": len(load.lost),
        **counts,
        **watch.report(),
        **stopping,
        "minutes": minutes,
        "clients": clients,
        "ends": dict(sorted(load.ends.items())),
        "lost_examples": load.lost[:5],
    }


def texts() -> list[str]:
    """Return requests of all kinds."""
    from toxoid.data.loading import load_requests

    return [request.prompt for name in SETS for request in load_requests(name).requests]


async def at_rest(server: Server) -> dict[str, Any]:
    """Return the server's own counts when all clients have gone."""
    for _ in range(100):
        told = {name: value for name, value in server.metrics().items() if name.startswith("toxoid_backend_")}
        found = {
            name.removeprefix("toxoid_backend_").removesuffix("_total"): int(value)
            for name, value in told.items()
        }
        left = found["rows"] + found["running"] + found["queued"]
        if left == 0:
            break
        await asyncio.sleep(0.1)
    ended = found["finished"] + found["cancelled"] + found["failed"]
    return {
        "unaccounted": found["submitted"] - ended,
        "left": left + (found["cache_bytes"] - found["prefix_bytes"]),
        **{name: found[name] for name in ("submitted", "finished", "cancelled", "failed", "refused")},
        "tokens": found["completion_tokens"],
    }


async def stop(load: Soak, clients: int) -> dict[str, Any]:
    """Tell the server to stop while clients ask, and return how it ended."""
    before = len(load.lost)
    asking = [asyncio.create_task(load.client(-2 - number, math.inf)) for number in range(clients)]
    await asyncio.sleep(2)
    draw = random.Random(-1)
    async with httpx.AsyncClient(base_url=load.server.url, timeout=120, limits=httpx.Limits()) as client:
        bodies = [load.body(draw, n=2) for _ in range(BURST)]
        burst = [asyncio.create_task(ask(client, body)) for body in bodies]
        await asyncio.sleep(0.4)
        running = sum(not task.done() for task in burst)
        load.stopped = time.perf_counter()
        load.server.process.send_signal(signal.SIGTERM)
        for reply in await asyncio.gather(*burst):
            load.note("burst", reply)
    await asyncio.gather(*asking)
    status = await asyncio.to_thread(load.server.process.wait, 120)
    return {
        "stop_running": running,
        "stop_lost": len(load.lost) - before,
        "stop_seconds": round(time.perf_counter() - load.stopped, 2),
        "stop_status": status,
    }


@contextmanager
def lab_server() -> Iterator[Server]:
    """Run the lab's model, protected and judged."""
    with tempfile.TemporaryDirectory() as folder:
        shield, settings, port = Path(folder) / "shield", Path(folder) / "serve.yaml", free_port()
        random_shield(MODEL, shield, SOFT_TOKENS)
        settings.write_text(SETTINGS, "utf-8")
        given = [
            "--shield",
            str(shield),
            "--judge",
            "lab-oracle",
            "--config",
            str(settings),
            "--port",
            str(port),
        ]
        with serving(["-m", "toxoid", "serve", MODEL, *given], port, Path(folder) / "log") as server:
            yield server


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the load and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--json", action="store_true", help="print the last line only")
    options = parser.parse_args(arguments)
    say: Say = (lambda text: None) if options.json else print
    with lab_server() as server:
        print(json.dumps(asyncio.run(soak(server, options.minutes, options.clients, say))))


if __name__ == "__main__":
    main()
