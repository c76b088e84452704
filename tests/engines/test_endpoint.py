"""The endpoint engine against a scripted server on loopback."""

from __future__ import annotations

import os
import signal
import socket
import threading
import warnings

import pytest

from tests.helpers.openai_server import OpenAIServer, Reply, chat, echo, error
from toxoid.data.schemas import user
from toxoid.engines.base import GenerationRequest, Sampling
from toxoid.engines.endpoint import EndpointEngine, Price
from toxoid.errors import UsageError

KEY = "sk-loopback-0123456789"


def ask(text="hello", n=1, seed=0, prefill="", temperature=1.0):
    return GenerationRequest(user(text), prefill, Sampling(temperature=temperature), n, seed)


OPENED: list[EndpointEngine] = []


def opened(*args, **options):
    OPENED.append(EndpointEngine(*args, **options))
    return OPENED[-1]


@pytest.fixture(autouse=True)
def _close_engines():
    yield
    while OPENED:
        OPENED.pop().close()


def engine(server, **options):
    return opened(server.url, "m", **{"backoff": 0.001, "timeout": 10.0, **options})


def texts(completions):
    return [[c.text for c in done] for done in completions]


def answers(script, request=None, **options):
    """Run one request against a script; return its texts, the engine and the server."""
    with OpenAIServer(script) as server:
        asked = engine(server, **options)
        return texts(asked.generate([request or ask()])), asked, server


def failure(script, request=None, **options):
    with OpenAIServer(script) as server, pytest.raises(UsageError) as caught:
        engine(server, **options).generate([request or ask()])
    assert "\n" not in str(caught.value)
    return str(caught.value), server


def always(reply):
    return [reply] * 40


def test_results_come_in_the_order_of_the_requests():
    with OpenAIServer() as server:
        found = engine(server).generate([ask(str(i)) for i in range(50)])
    assert texts(found) == [[f"echo: {i}"] for i in range(50)]


def test_no_requests_give_no_results():
    with OpenAIServer() as server:
        assert engine(server).generate([]) == []


def test_on_done_hears_of_every_request_in_the_callers_thread():
    heard, threads = {}, set()

    def on_done(index, completions):
        heard[index] = completions
        threads.add(threading.current_thread())

    with OpenAIServer() as server:
        found = engine(server).generate([ask(str(i)) for i in range(9)], on_done)
    assert [heard[i] for i in range(9)] == found
    assert threads == {threading.current_thread()}


def test_calls_in_flight_never_exceed_the_limit():
    with OpenAIServer() as server:
        engine(server, max_concurrency=3).generate([ask(str(i)) for i in range(40)])
    assert server.most_in_flight <= 3


def test_requests_run_at_the_same_time():
    gate = threading.Event()
    with OpenAIServer([Reply(texts=("a",), wait=gate), Reply(texts=("b",))]) as server:
        engine(server).generate([ask(), ask()], lambda index, done: gate.set())
    assert server.most_in_flight == 2


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
def test_passing_failures_are_tried_again(status):
    found, asked, _ = answers([error(status), error(status), Reply(texts=("ok",))])
    assert found == [["ok"]]
    assert asked.counters.retries == 2


def test_throttling_and_server_errors_are_counted_apart():
    _, asked, _ = answers([error(429), error(500), error(503)])
    assert (asked.counters.throttled, asked.counters.server_errors, asked.counters.ok) == (1, 2, 1)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (error(429, "slow down"), ("HTTP 429", "slow down", "3 throttled")),
        (error(503, "overloaded"), ("HTTP 503", "overloaded", "3 server errors")),
        (Reply(body=b"<html>"), ("not JSON", "3 malformed")),
        (Reply(drop=True), ("3 disconnects",)),
    ],
)
def test_giving_up_says_what_kept_failing(reply, words):
    message, _ = failure(always(reply), retries=2)
    assert "gave up after 3 tries" in message
    assert all(word in message for word in words)


def test_throttling_cuts_the_concurrency():
    _, asked, _ = answers([error(429)], max_concurrency=10)
    assert asked._limit.limit == 8


def test_server_error_does_not_cut_the_concurrency():
    _, asked, _ = answers([error(500)], max_concurrency=10)
    assert asked._limit.limit == 10


def test_retry_after_is_waited_for(monkeypatch):
    waits = []
    monkeypatch.setattr(EndpointEngine, "_wait", lambda self, seconds, stop: waits.append(seconds))
    answers([error(503, retry_after="7"), error(503)])
    assert waits[0] == 7
    assert waits[1] < 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 422])
def test_client_errors_are_not_tried_again(status):
    message, server = failure(always(error(status, "unknown model `m`")))
    assert len(server.requests) == 1
    assert f"HTTP {status}" in message
    assert "unknown model `m`" in message


def test_missing_right_names_the_environment_variable():
    message, _ = failure([error(401, "no key")], api_key_env="MY_KEY")
    assert "MY_KEY" in message


def test_spent_quota_is_not_tried_again():
    _, server = failure(always(error(429, "quota", "insufficient_quota")))
    assert len(server.requests) == 1


def test_redirection_is_an_error():
    message, _ = failure([Reply(status=307, body={}, headers={"location": "/elsewhere"})])
    assert "--endpoint" in message


def test_error_hidden_in_a_good_status_is_seen():
    found, asked, _ = answers([Reply(body={"error": {"code": 503, "message": "busy"}})])
    assert (found, asked.counters.server_errors) == ([["echo: hello"]], 1)


def test_endpoint_that_is_down_is_one_clear_line():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        with pytest.raises(
            UsageError, match=r"endpoint is down: http://127.0.0.1:\d+/v1.*check --endpoint"
        ) as e:
            opened(url, "m", backoff=0.001).generate([ask(str(i)) for i in range(30)])
    assert "\n" not in str(e.value)


def test_server_that_does_not_answer_in_time_is_a_timeout():
    gate = threading.Event()
    message, _ = failure(always(Reply(wait=gate)), timeout=0.05, retries=1)
    gate.set()
    assert "2 timeouts" in message


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"null", b"{}", b'{"choices": []}', b"[" * 5000])
def test_malformed_answers_are_tried_again(body):
    found, asked, _ = answers([Reply(body=body)])
    assert (found, asked.counters.malformed) == ([["echo: hello"]], 1)


def test_missing_choices_are_named_when_giving_up():
    message, _ = failure(always(Reply(body={"object": "x"})), retries=1)
    assert "no choices" in message


def test_server_text_is_cleaned_for_the_terminal():
    message, _ = failure([error(400, "bad\x1b[31m\nline " + "x" * 5000)])
    assert "\x1b" not in message
    assert len(message) < 600


def test_fewer_choices_than_asked_are_made_up_for():
    script = [Reply(texts=("a",)), Reply(texts=("b", "c")), Reply(texts=("d", "e"))]
    found, _, server = answers(script, ask(n=4))
    assert found == [["a", "b", "c", "d"]]
    assert [r.get("n", 1) for r in server.requests] == [4, 3, 1]
    assert len({r["seed"] for r in server.requests}) == 3


def test_seed_sent_depends_on_the_request_alone():
    with OpenAIServer() as server:
        for batch in ([ask("a", seed=1)], [ask("b", seed=2), ask("a", seed=1)]):
            engine(server, max_concurrency=1).generate(batch)
    first, other, again = (r["seed"] for r in server.requests)
    assert first == again != other


def test_server_that_refuses_n_is_asked_one_by_one():
    def single(request):
        return error(400, "n must be 1") if request.get("n", 1) > 1 else echo(request)

    with OpenAIServer(default=single) as server:
        asked = engine(server)
        assert texts(asked.generate([ask(n=2)])) == [["echo: hello"] * 2]
        asked.generate([ask(n=2)])
    assert sum("n" in r for r in server.requests) == 1


def test_greedy_completions_are_asked_once_and_repeated():
    found, _, server = answers([], ask(n=3, temperature=0))
    assert found == [["echo: hello"] * 3]
    assert len(server.requests) == 1


def test_zero_completions_ask_nothing():
    found, _, server = answers([], ask(n=0))
    assert (found, server.requests) == ([[]], [])


def test_newer_token_limit_is_found_out():
    def strict(request):
        named = "max_completion_tokens" in request
        return echo(request) if named else error(400, "Use 'max_completion_tokens' instead")

    with OpenAIServer(default=strict) as server:
        asked = engine(server)
        asked.generate([ask()])
        asked.generate([ask()])
    assert len(server.requests) == 3


def no_open_turn(request):
    if "continue_final_message" in request:
        return error(400, "Unrecognized request argument: continue_final_message")
    return Reply(texts=("Sure, it is tall.",))


def test_prefill_is_continued_where_the_server_allows_it():
    with OpenAIServer(default=lambda request: Reply(texts=(" tall.",))) as server, warnings.catch_warnings():
        warnings.simplefilter("error")
        ((done,),) = engine(server).generate([ask(prefill="Sure, it is")])
    assert (done.text, done.metadata) == (" tall.", {"prefill": "continue"})


def test_prefill_falls_back_marked_and_with_one_warning():
    with OpenAIServer(default=no_open_turn) as server:
        asked = engine(server)
        with pytest.warns(UserWarning, match="fallback") as caught:
            found = asked.generate([ask(str(i), prefill="Sure, it is") for i in range(8)])
    assert {c.text for (c,) in found} == {" tall."}
    assert all(c.metadata == {"prefill": "fallback", "prefill_repeated": True} for (c,) in found)
    assert sum(warning.category is UserWarning for warning in caught) == 1


def test_mode_continue_does_not_fall_back():
    message, _ = failure([error(400, "no open turns")], ask(prefill="Sure"), prefill="continue")
    assert "no open turns" in message


def test_mode_fallback_does_not_try_an_open_turn():
    with OpenAIServer(default=no_open_turn) as server, pytest.warns(UserWarning, match="fallback"):
        engine(server, prefill="fallback").generate([ask(prefill="Sure")])
    assert len(server.requests) == 1


def test_mode_refuse_asks_nothing():
    message, server = failure([], ask(prefill="Sure"), prefill="refuse")
    assert server.requests == []
    assert "prefill" in message


def test_bad_request_is_not_blamed_on_the_prefill():
    message, _ = failure(
        [error(400, "temperature too high"), error(400, "something else")], ask(prefill="Sure")
    )
    assert "temperature too high" in message


def test_filtered_prompt_is_an_empty_completion_and_the_rest_goes_on():
    def filtered(request):
        bad = "mill" in request["messages"][-1]["content"]
        return error(400, "policy", "content_filter") if bad else echo(request)

    with OpenAIServer(default=filtered) as server:
        (blocked, twin), (plain,) = engine(server).generate([ask("mill", n=2), ask("hill")])
    assert (blocked.text, blocked.finish_reason) == ("", "content_filter")
    assert "content filter" in blocked.metadata["error"]
    assert twin == blocked
    assert plain.text == "echo: hill"


def test_prompt_beyond_the_context_is_an_empty_completion():
    message = "This model's maximum context length is 10 tokens"
    with OpenAIServer([error(400, message)]) as server:
        ((done,),) = engine(server).generate([ask()])
    assert (done.text, done.finish_reason) == ("", "length")
    assert "context" in done.metadata["error"]


def test_tokens_and_cost_are_counted_once_per_answer():
    """7 prompt tokens; two choices of 2 and 3 words: (7 * 1 + 5 * 2) / 1e6."""
    script = [Reply(body=chat(["a b", "a b c"]))]
    _, asked, _ = answers(script, ask(n=2), price=Price(prompt=1.0, completion=2.0))
    assert (asked.counters.prompt_tokens, asked.counters.completion_tokens) == (7, 5)
    assert asked.cost == pytest.approx(17e-6)


def test_cost_without_price_is_unknown():
    with OpenAIServer() as server:
        assert engine(server).cost is None


def test_key_of_the_environment_is_sent(monkeypatch):
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    _, _, server = answers([], api_key_env="MY_KEY")
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


def test_without_key_no_authorization_is_sent(monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    _, _, server = answers([], api_key_env="MY_KEY")
    assert "authorization" not in server.headers[0]


def test_key_is_shown_nowhere(monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    echoed = error(401, f"Incorrect API key provided: {KEY}")
    message, server = failure([echoed], api_key_env="MY_KEY")
    asked = engine(server, api_key_env="MY_KEY")
    assert KEY not in message
    assert KEY not in f"{asked!r} {asked.name} {asked.identity()}"


def test_credentials_in_the_address_are_used_and_shown_nowhere():
    with OpenAIServer([error(400, "who is hush-hush?")]) as server:
        asked = opened(f"http://me:hush-hush@{server.address}/v1?token=also-hush", "m")
        with pytest.raises(UsageError) as caught:
            asked.generate([ask()])
    shown = f"{caught.value} {asked!r} {asked.name} {asked.identity()}"
    assert "hush" not in shown
    assert server.headers[0]["authorization"].startswith("Basic ")
    assert server.paths[0] == "/v1/chat/completions?token=also-hush"


def test_key_that_no_header_can_carry_is_a_usage_error(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-grüße")
    with pytest.raises(UsageError, match="MY_KEY") as caught:
        opened("http://127.0.0.1:1/v1", "m", api_key_env="MY_KEY")
    assert "grüße" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"model": " "},
        {"prefill": "atuo"},
        {"max_concurrency": 0},
        {"retries": -1},
        {"timeout": 0},
        {"base_url": "x"},
    ],
)
def test_arguments_that_cannot_work_are_usage_errors(options):
    with pytest.raises(UsageError):
        opened(**{"base_url": "http://127.0.0.1:1/v1", "model": "m", **options})


def test_misspelt_prefill_mode_gets_a_suggestion():
    with pytest.raises(UsageError, match='Did you mean "auto"'):
        opened("http://127.0.0.1:1/v1", "m", prefill="atuo")


def test_identity_depends_on_model_and_prefill_not_on_pace():
    def of(**options):
        return opened("http://127.0.0.1:1/v1", **{"model": "m", **options}).identity()

    assert of() == of(timeout=5, max_concurrency=2, retries=1)
    assert of() != of(model="other")
    assert of() != of(prefill="fallback")


def test_lone_surrogates_travel():
    found, _, server = answers(
        [Reply(body=b'{"choices": [{"message": {"content": "\\ud800"}}]}')], ask("a\ud800")
    )
    assert found == [["\ud800"]]
    assert server.requests[0]["messages"][0]["content"] == "a\ud800"


def test_error_keeps_what_is_done():
    heard = []
    script = [Reply(texts=("one",)), error(400, "no more")]
    with OpenAIServer(script) as server, pytest.raises(UsageError, match="no more"):
        engine(server, max_concurrency=1).generate([ask(), ask(), ask()], lambda i, done: heard.append(i))
    assert heard == [0]
    assert len(server.requests) == 2


@pytest.fixture
def interruptible():
    """A shell that starts the tests in the background has them ignore interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_interrupt_stops_at_once_and_keeps_what_is_done():
    """The second request hangs until the test is over: only an interrupt ends the wait for it."""
    gate, heard = threading.Event(), []

    def on_done(index, completions):
        heard.append(index)
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()

    with OpenAIServer(
        [Reply(texts=("a",))], default=lambda request: Reply(texts=("b",), wait=gate)
    ) as server:
        try:
            with pytest.raises(KeyboardInterrupt):
                engine(server, max_concurrency=1).generate([ask(), ask(), ask()], on_done)
        finally:
            gate.set()
    assert heard == [0]
    assert len(server.requests) <= 2
