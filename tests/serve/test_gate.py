"""The gate: keys, rates, sizes, names, and clients that go."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from tests.serve.backends import FakeBackend
from tests.serve.test_app import CHAT, ask, chat, problem, service
from toxoid.errors import UsageError
from toxoid.serve.app import create_app
from toxoid.serve.keys import KeyRing, add_key
from toxoid.serve.limits import RateLimit
from toxoid.serve.settings import LimitsSection, load_settings

BODY = {"messages": [{"role": "user", "content": "x"}]}


@pytest.fixture
def keys(tmp_path):
    path = tmp_path / "keys.yaml"
    return path, add_key(path, "ann"), add_key(path, "bob")


def bearer(key):
    return {"authorization": f"Bearer {key}"}


def test_a_key_opens_and_its_hash_alone_is_kept(keys):
    path, ann, bob = keys
    served = service(given={"keys": str(path)})
    assert chat(served, headers=bearer(ann)).status_code == 200
    assert chat(served, headers=bearer(bob)).status_code == 200
    assert ann not in path.read_text()


@pytest.mark.parametrize(
    "headers",
    [{}, bearer("tox-wrong"), bearer(""), {"authorization": "Basic eDp4"}, {"authorization": "\xff"}],
)
def test_without_a_valid_key_nothing_is_told(keys, headers):
    path, *_ = keys
    served = service(given={"keys": str(path)})
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    for route, body in ((CHAT, BODY), ("/v1/models", None), ("/metrics", None), ("/nothing", None)):
        answer = ask(served, route, body, headers=raw)
        assert problem(answer, 401)["code"] == "invalid_api_key"
        assert answer.headers["www-authenticate"] == "Bearer"
    for route in ("/health", "/v1/"):
        assert ask(served, route, headers=raw).status_code == 200
    assert served.backend.jobs == []


def test_keys_are_read_again_and_stay_as_they_are_if_that_fails(keys):
    path, ann, _ = keys
    ring = KeyRing(path)
    eve = add_key(path, "eve")
    assert ring.find(f"Bearer {eve}") is None
    ring.read()
    assert ring.find(f"Bearer {eve}").name == "eve"
    path.write_text("keys: []")
    with pytest.raises(UsageError, match=r"keys\.yaml"):
        ring.read()
    assert ring.find(f"Bearer {ann}").name == "ann"


def test_a_name_stands_for_one_key(keys):
    path, *_ = keys
    with pytest.raises(UsageError, match='has a key named "ann"'):
        add_key(path, "ann")


@pytest.mark.parametrize(
    "text", ["", "keys: []", "keys: [{name: a, sha256: short}]", "keys: 3", "[1]", "keys: [{name: a}]"]
)
def test_a_bad_file_of_keys_is_told_in_one_line(tmp_path, text):
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"keys\.yaml") as caught:
        KeyRing(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org"])
def test_beyond_loopback_a_key_is_needed(host, keys):
    with pytest.raises(UsageError, match="no API keys"):
        load_settings(given={"host": host})
    assert load_settings(given={"host": host, "keys": str(keys[0])}).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_loopback_needs_no_key(host):
    assert load_settings(given={"host": host}).host == host


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8000", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
def test_without_keys_only_loopback_names_are_answered(host, status):
    assert ask(service(), "/v1/models", headers={"host": host}).status_code == status


def test_a_form_of_a_web_page_is_no_request():
    content = json.dumps(BODY).encode()
    problem(ask(service(), CHAT, content=content, headers={"content-type": "text/plain"}), 400)


def test_a_body_that_is_too_large_is_refused_whether_it_says_so_or_not():
    served = service(given={"limits.body_bytes": 100})
    problem(ask(served, CHAT, content=b"x" * 101), 413)

    async def pieces():
        for _ in range(11):
            yield b"x" * 10

    problem(ask(served, CHAT, content=pieces()), 413)


def drive(served, receive):
    """Send one request through ASGI by hand; return what was sent back."""
    sent = []

    async def send(message):
        sent.append(message)

    async def run():
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "path": CHAT,
            "raw_path": CHAT.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        }
        await asyncio.wait_for(create_app(served)(scope, receive, send), 20)

    asyncio.run(run())
    return sent


def test_a_body_that_does_not_arrive_is_waited_for_no_longer():
    async def receive():
        await asyncio.sleep(3600)

    sent = drive(service(given={"limits.read_seconds": 0.05}), receive)
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]


def test_a_client_that_goes_in_the_middle_of_its_body_gets_nothing():
    async def receive():
        return {"type": "http.disconnect"}

    assert drive(service(), receive) == []


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_gives_up_its_job(stream):
    backend = FakeBackend(lambda request, i: "x" * 10_000, cut=1, pace=0.01)
    asked = [{"type": "http.request", "body": json.dumps({**BODY, "stream": stream}).encode()}]

    async def receive():
        if asked:
            return asked.pop()
        while not backend.jobs:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        return {"type": "http.disconnect"}

    drive(service(backend), receive)
    assert backend.cancelled == 1


def test_more_requests_at_once_than_the_house_holds_are_told_to_come_again():
    backend = FakeBackend(pace=0.02)
    served = service(backend, given={"limits.requests": 2})

    async def run():
        transport = httpx.ASGITransport(create_app(served))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await asyncio.gather(*(client.post(CHAT, json=BODY) for _ in range(5)))

    answers = asyncio.run(run())
    assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429, 429]
    assert {answer.headers.get("retry-after") for answer in answers} == {None, "1"}


def test_a_bucket_gives_its_burst_and_then_its_rate():
    now = [0.0]
    rate = RateLimit(LimitsSection(per_minute=60, burst=3), clock=lambda: now[0])
    assert [rate.take(None) for _ in range(4)] == [0, 0, 0, 1.0]
    now[0] += 0.5
    assert rate.take(None) == pytest.approx(0.5)
    now[0] += 0.5
    assert rate.take(None) == 0
    now[0] += 3600
    assert [rate.take(None) for _ in range(4)] == [0, 0, 0, 1.0]


def test_keys_have_buckets_of_their_own(keys):
    path, ann, bob = keys
    served = service(given={"keys": str(path), "limits": {"per_minute": 1, "burst": 1}})
    app = create_app(served)

    async def run():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            asked = (ann, ann, bob, bob)
            return [await client.post(CHAT, json=BODY, headers=bearer(key)) for key in asked]

    answers = asyncio.run(run())
    assert [answer.status_code for answer in answers] == [200, 429, 200, 429]
    assert 50 < int(answers[1].headers["retry-after"]) <= 60


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port: 99999", "port"),
        ("prot: 1", 'Did you mean "port"'),
        ("protection: {unscored: maybe}", "protection.unscored"),
        ("protection: {hold_back: {size: 0}}", "protection.hold_back.size"),
        ("- 1", "expected keys with values"),
    ],
)
def test_bad_settings_are_told_in_one_line(tmp_path, text, said):
    path = tmp_path / "serve.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        load_settings(str(path))


def test_options_go_before_the_file(tmp_path):
    path = tmp_path / "serve.yaml"
    path.write_text("port: 1\nprotection: {refusal: Sorry., unscored: refuse}\n")
    found = load_settings(str(path), {"port": 2, "protection.refusal": "No."})
    assert (found.port, found.protection.refusal, found.protection.unscored) == (2, "No.", "refuse")
