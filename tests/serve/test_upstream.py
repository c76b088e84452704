"""A model behind another server: streams passed on, errors told, the key kept."""

from __future__ import annotations

import json
import time

import pytest

from tests.helpers.openai_server import OpenAIServer, Reply, error
from tests.serve.backends import WordJudge
from tests.serve.test_app import chat, chunks, problem, service
from toxoid.data.schemas import user
from toxoid.engines.base import GenerationRequest, Sampling
from toxoid.errors import UsageError
from toxoid.serve.jobs import Draining, Failed, Finished, Job, Piece
from toxoid.serve.upstream import Rejected, Upstream

ASKED = GenerationRequest(user("hi"), sampling=Sampling(0.5, max_tokens=9), seed=3)


def sse(*events, done=True):
    lines = [f"data: {json.dumps(event)}\n\n" for event in events]
    body = "".join([": a comment\n\n", *lines, "data: [DONE]\n\n" if done else ""])
    return Reply(body=body.encode(), headers={"content-type": "text/event-stream"})


def delta(text, finish=None, logprobs=None):
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish, "logprobs": logprobs}
    return {"choices": [choice]}


def said(*texts, finish="stop"):
    usage = {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 6}}
    return sse(
        {"choices": [{"delta": {"role": "assistant"}}]}, *map(delta, texts), delta(None, finish), usage
    )


@pytest.fixture
def server():
    with OpenAIServer(default=lambda body: said("one ", "two")) as started:
        yield started


@pytest.fixture
def upstream(server):
    backend = Upstream(server.url, "m", key="secret-key")
    yield backend
    backend.close()


def test_a_stream_is_passed_on_piece_by_piece(upstream, server):
    events = list(upstream.submit(Job(ASKED)))
    assert events == [Piece(0, "one "), Piece(0, "two"), Finished(0, "stop", 4, 6)]
    (body,) = server.requests
    assert body["model"] == "m"
    assert body["messages"] == [{"role": "user", "content": "hi"}]
    assert (body["stream"], body["temperature"], body["max_tokens"]) == (True, 0.5, 9)
    assert server.headers[0]["authorization"] == "Bearer secret-key"


def test_every_completion_is_a_call_with_a_seed_of_its_own(upstream, server):
    request = GenerationRequest(user("hi"), n=3)
    ends = [event.index for event in upstream.submit(Job(request)) if isinstance(event, Finished)]
    assert sorted(ends) == [0, 1, 2]
    assert len({body["seed"] for body in server.requests}) == 3
    assert all("n" not in body for body in server.requests)


def test_an_open_turn_is_continued_there(upstream, server):
    list(upstream.submit(Job(GenerationRequest(user("hi"), prefill="Sure"))))
    body = server.requests[0]
    assert body["messages"][-1] == {"role": "assistant", "content": "Sure"}
    assert body["continue_final_message"] is True


def test_probabilities_are_passed_on(upstream, server):
    token = {"token": "a", "logprob": -1.0, "top_logprobs": [{"token": "b", "logprob": -2.0}]}
    server.script.append(sse(delta("a", "length", {"content": [token]})))
    piece, end = upstream.submit(Job(ASKED, logprobs=1))
    assert (piece.scores[0].text, piece.scores[0].top) == ("a", (("b", -2.0),))
    assert (end.reason, end.completion_tokens) == ("length", 1)
    assert server.requests[0]["top_logprobs"] == 1


@pytest.mark.parametrize(
    ("reply", "status", "words"),
    [
        (error(500, "boom"), 502, "boom"),
        (error(401, "your key secret-key is wrong"), 502, "does not accept this server's key"),
        (error(400, "bad thing"), 400, "bad thing"),
        (error(400, "x", "context_length_exceeded"), 400, "x"),
        (error(429, "slow down", retry_after="7"), 429, "slow down"),
        (error(418, "about secret-key"), 502, "about ***"),
        (Reply(status=200, body={"choices": []}), 502, "does not stream"),
        (sse({"error": {"message": "overloaded"}}), 502, "overloaded"),
        (sse({"nothing": 1}, done=False), 502, "broke off"),
        (Reply(body=b"data: {\n\n", headers={"content-type": "text/event-stream"}), 502, "failed"),
        (Reply(body=b"data: 3\n\n", headers={"content-type": "text/event-stream"}), 502, "failed"),
        (sse({"choices": [{"delta": {"content": 3}}]}), 502, "failed"),
        (Reply(drop=True), 502, "failed"),
    ],
    ids=range(13),
)
def test_what_goes_wrong_there_is_told_without_the_key(upstream, server, reply, status, words):
    server.script.append(reply)
    *_, failed = upstream.submit(Job(ASKED))
    assert isinstance(failed, Rejected)
    assert failed.status == status
    assert words in failed.message
    assert "secret-key" not in failed.message


def test_the_token_limit_has_its_other_name_where_the_upstream_wants_that(upstream, server):
    server.script.append(error(400, "Use 'max_completion_tokens' instead of 'max_tokens'."))
    for _ in range(2):
        assert [type(event) for event in upstream.submit(Job(ASKED))][-1] is Finished
    asked, again, later = server.requests
    assert asked["max_tokens"] == again["max_completion_tokens"] == later["max_completion_tokens"] == 9
    assert "max_tokens" not in again | later


def test_an_upstream_that_wants_no_name_of_the_token_limit_is_asked_twice_and_no_more(upstream, server):
    server.script += [error(400, "max_completion_tokens: no"), error(400, "max_completion_tokens: no")]
    (failed,) = upstream.submit(Job(ASKED))
    assert (type(failed), failed.status, len(server.requests)) == (Rejected, 400, 2)


def test_a_wait_is_passed_on_to_the_client(upstream, server):
    server.script.append(error(429, "slow down", retry_after="7"))
    assert chat(service(upstream)).headers["retry-after"] == "7"


def test_an_upstream_that_is_down_is_told_so():
    backend = Upstream("http://127.0.0.1:9/v1", "m")
    problem(chat(service(backend)), 502)
    backend.close()


def test_a_deadline_holds(upstream, server):
    import threading

    never = threading.Event()
    server.script.append(Reply(wait=never))
    (failed,) = upstream.submit(Job(ASKED, timeout=0.1))
    assert (type(failed), failed.kind) == (Failed, "timeout")
    never.set()


def test_a_cancelled_job_hangs_up(upstream, server):
    import threading

    never = threading.Event()
    server.script.append(Reply(wait=never))
    handle = upstream.submit(Job(ASKED))
    handle.cancel()
    assert list(handle) == []
    for _ in range(100):
        if upstream.stats().cancelled:
            break
        time.sleep(0.02)
    assert upstream.stats().running == 0
    never.set()


def test_after_draining_no_job_is_taken(upstream):
    handle = upstream.submit(Job(ASKED))
    assert upstream.drain(20)
    assert [type(event) for event in handle][-1] is Finished
    with pytest.raises(Draining):
        upstream.submit(Job(ASKED))


def test_judge_and_guidance_stand_in_front_of_it(upstream, server):
    served = service(upstream, judge=WordJudge(), guidance="Be good.", forwards=True)
    answer = chat(served, "BAD")
    assert answer.json()["choices"][0]["finish_reason"] == "content_filter"
    assert server.requests == []
    answer = chat(served, "hello", frequency_penalty=0.5)
    assert answer.json()["choices"][0]["message"]["content"] == "one two"
    assert "x-toxoid-ignored" not in answer.headers
    assert server.requests[0]["messages"][0] == {"role": "system", "content": "Be good."}
    assert server.requests[0]["frequency_penalty"] == 0.5


def test_a_stream_from_there_is_held_back_and_cut(upstream, server):
    server.script.append(said("fine words. ", "BAD ", "words"))
    served = service(upstream, judge=WordJudge(), given={"protection.hold_back": {"size": 5}})
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks(chat(served, stream=True)))
    assert text == "fine words. \n\nI can't help with that."


def test_an_address_that_is_none_is_told():
    with pytest.raises(UsageError, match="is no endpoint address"):
        Upstream("example.org", "m")
