"""A real server in a process of its own: streams, signals, and clients that misbehave."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.serve.backends import FakeBackend
from toxoid.errors import UsageError
from toxoid.serve.server import run_server
from toxoid.serve.service import Service
from toxoid.serve.settings import load_settings

CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "x"}]}
LIMITS = {"limits": {"read_seconds": 0.7, "stall_seconds": 0.7, "drain_seconds": 20, "body_bytes": 10_000}}


class Server:
    """A running server."""

    def __init__(self, process, url, errors):
        self.process, self.url, self.errors = process, url, errors
        self.client = httpx.Client(base_url=url, timeout=20)

    @property
    def address(self):
        return "127.0.0.1", httpx.URL(self.url).port

    def connect(self):
        return socket.create_connection(self.address, timeout=20)

    def metric(self, name):
        lines = self.client.get("metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def lives(self):
        return self.client.get("health").json() == {"status": "ok"}

    def log(self):
        return [json.loads(line) for line in self.errors.read_text().splitlines()]

    def until(self, name, value):
        for _ in range(200):
            if self.metric(name) >= value:
                return
            time.sleep(0.05)
        raise AssertionError(f"{name} is {self.metric(name)}")


@contextmanager
def running(*, pace=0.0, cut=1, times=5):
    """Run a server whose replies are ``times`` pieces of ``cut`` characters."""
    arguments = [json.dumps(LIMITS), str(pace), str(cut), str(times)]
    command = [sys.executable, "-m", "tests.serve.fake_server", *arguments]
    with tempfile.TemporaryDirectory() as folder:
        errors = Path(folder) / "log"
        with errors.open("w") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            server = Server(process, process.stdout.readline().strip(), errors)
            with server.client:
                yield server
        finally:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def server():
    with running() as started:
        yield started


@pytest.fixture(scope="module")
def slow():
    """A server whose replies take seconds."""
    with running(pace=0.02, times=100) as started:
        yield started


def request(body, *, length=None, headers=""):
    content = json.dumps(body).encode()
    length = len(content) if length is None else length
    head = f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{headers}"
    return f"{head}content-length: {length}\r\n\r\n".encode() + content


def trickle(connection, end):
    while time.monotonic() < end:
        connection.sendall(b"x-a: b\r\n")
        time.sleep(0.1)


def everything(connection):
    """Return what comes until the other side closes."""
    found = b""
    while piece := connection.recv(65536):
        found += piece
    return found


def test_an_answer_comes_over_the_wire(server):
    answer = server.client.post(CHAT, json=BODY)
    assert answer.json()["choices"][0]["message"]["content"] == "xxxxx"
    assert "server" not in answer.headers


def test_a_stream_comes_as_it_is_made(slow):
    times = []
    with slow.client.stream("POST", CHAT, json={**BODY, "stream": True}) as answer:
        for line in answer.iter_lines():
            if line:
                times.append(time.monotonic())
    assert len(times) == 100 + 3
    assert times[-1] - times[0] > 1


def test_a_client_that_leaves_a_stream_frees_its_rows(slow):
    before = slow.metric("toxoid_backend_cancelled_total")
    with slow.client.stream("POST", CHAT, json={**BODY, "stream": True}) as answer:
        next(answer.iter_lines())
    slow.until("toxoid_backend_cancelled_total", before + 1)


def test_a_client_that_leaves_before_its_answer_frees_its_rows(slow):
    before = slow.metric("toxoid_backend_cancelled_total")
    with slow.connect() as connection:
        connection.sendall(request(BODY))
        slow.until("toxoid_backend_submitted_total", 1)
        time.sleep(0.3)
    slow.until("toxoid_backend_cancelled_total", before + 1)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /health HT",
        b"GET /health HTTP/1.1\r\nhost: localhost\r\nx-slow: ",
        b"\x16\x03\x01\x02\x00\x01",
    ],
    ids=["nothing", "line", "header", "tls"],
)
def test_a_connection_without_a_whole_request_is_closed(server, sent):
    with server.connect() as connection:
        connection.sendall(sent)
        start = time.monotonic()
        everything(connection)
        assert time.monotonic() - start < 10
    assert server.lives()


def test_a_header_that_trickles_in_is_cut_off(server):
    with server.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n")
        start = time.monotonic()
        with pytest.raises(OSError, match=r"reset|pipe|abort"):
            trickle(connection, start + 10)
    assert server.lives()


def test_a_second_request_that_trickles_in_is_cut_off_too(server):
    with server.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\nGET /he")
        assert everything(connection).count(b"HTTP/1.1 200") == 1
    assert server.lives()


def test_a_body_that_does_not_come_is_told_so(server):
    with server.connect() as connection:
        connection.sendall(request(BODY, length=5000))
        assert everything(connection).startswith(b"HTTP/1.1 408")
    assert server.lives()


def test_a_body_that_is_too_large_is_told_so_while_it_is_sent(server):
    answer = server.client.post(CHAT, content=b"x" * 200_000, headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert server.lives()


@pytest.mark.parametrize(
    "line",
    [
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: -5\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /v1/models/%FF%00 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"\x00" * 100 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\nhost: localhost\r\n\r\n",
    ],
    ids=range(8),
)
def test_malformed_requests_are_refused_and_survived(server, line):
    with server.connect() as connection:
        connection.sendall(line)
        answer = everything(connection)
        assert b" 5" not in answer[:13]
    assert server.lives()


def test_a_body_in_malformed_utf_8_is_a_client_error(server):
    headers = {"content-type": "application/json; charset=utf-8"}
    answer = server.client.post(CHAT, content=b'{"messages": "\xc3\x28"}', headers=headers)
    assert answer.status_code == 400


def test_a_half_closed_connection_is_survived_and_gives_up_its_job(slow):
    before = slow.metric("toxoid_backend_cancelled_total")
    with slow.connect() as connection:
        connection.sendall(request(BODY))
        connection.shutdown(socket.SHUT_WR)
        slow.until("toxoid_backend_cancelled_total", before + 1)
    assert slow.lives()


def test_pipelined_requests_are_answered_in_order(server):
    with server.connect() as connection:
        one = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
        connection.sendall(one + request(BODY) + one.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        answer = everything(connection)
    assert answer.count(b"HTTP/1.1 200 OK") == 3


def test_a_client_that_does_not_read_is_dropped():
    with running(cut=500_000, times=40) as fast, fast.connect() as connection:
        connection.sendall(request({**BODY, "stream": True}))
        fast.until('toxoid_requests_total{route="/v1/chat/completions"', 1)
        assert fast.lives()


def test_sigterm_lets_running_streams_finish_and_refuses_new_clients():
    with running(pace=0.02, times=60) as server:
        with server.client.stream("POST", CHAT, json={**BODY, "stream": True}) as answer:
            lines = answer.iter_lines()
            next(lines)
            server.process.terminate()
            time.sleep(0.5)
            with pytest.raises(OSError, match="refused"):
                server.connect()
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        out, _ = server.process.communicate(timeout=20)
        assert server.process.returncode == 0
        assert json.loads(out)["finished"] == 1


def test_hanging_up_reads_the_shield_again_and_keeps_serving(server):
    server.process.send_signal(signal.SIGHUP)
    for _ in range(100):
        if any(line["event"] == "reloaded" for line in server.log()):
            break
        time.sleep(0.05)
    else:
        raise AssertionError("nothing was reloaded")
    assert server.lives()


def test_the_log_is_one_json_object_per_line_and_holds_no_prompt(server):
    server.client.post(CHAT, json={"messages": [{"role": "user", "content": "a secret"}]})
    last = [line for line in server.log() if line["event"] == "request"][-1]
    assert (last["status"], last["route"], last["finish"]) == (200, CHAT, ["stop"])
    assert "a secret" not in server.errors.read_text()


def test_a_port_in_use_is_told_in_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = load_settings(given={"port": taken.getsockname()[1]})
        with pytest.raises(UsageError, match=r"cannot listen on 127\.0\.0\.1"):
            run_server(Service(FakeBackend(), settings), lambda url: None)
