"""The API as clients see it: shapes, parameters, errors, protection."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from tests.serve.backends import FakeBackend, WordJudge, panel
from toxoid.data.schemas import Message
from toxoid.engines.prompting import Prompting
from toxoid.errors import ToxoidError, UsageError
from toxoid.serve.app import create_app
from toxoid.serve.jobs import Failed, Full, TooLong
from toxoid.serve.judging import JudgeThread
from toxoid.serve.service import Service
from toxoid.serve.settings import load_settings
from toxoid.serve.upstream import Rejected

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
WINDOW_OF_1 = {"protection.hold_back": {"size": 1}}


def service(backend=None, *, judge=None, given=None, **rest):
    judges = JudgeThread(panel(judge)) if judge else None
    return Service(backend or FakeBackend(), load_settings(given=given), judges, **rest)


def ask(served, path, body=None, *, method=None, headers=None, content=None):
    async def run():
        transport = httpx.ASGITransport(create_app(served), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            verb = method or ("GET" if body is None and content is None else "POST")
            kind = {"content-type": "application/json"} if content is not None else {}
            return await client.request(
                verb, path, json=body, content=content, headers={**kind, **(headers or {})}
            )

    return asyncio.run(run())


def chat(served=None, text="hello", **given):
    headers = given.pop("headers", None)
    return ask(
        served or service(), CHAT, {"messages": [{"role": "user", "content": text}], **given}, headers=headers
    )


def chat_end(answer):
    return answer.json()["choices"][0]["finish_reason"]


def chunks(answer):
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    return [json.loads(event) for event in events[:-1]]


def problem(answer, status):
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


def test_an_answer_has_the_shape_of_openai():
    answer = chat(n=2).json()
    assert answer.pop("id").startswith("chatcmpl-")
    assert isinstance(answer.pop("created"), int)
    assert answer == {
        "object": "chat.completion",
        "model": "fake",
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": f"reply {index}"},
                "finish_reason": "stop",
                "logprobs": None,
            }
            for index in range(2)
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11},
    }


def test_a_stream_says_what_is_said_without_it_and_ends_with_usage_and_done():
    found = chunks(chat(n=2, stream=True, stream_options={"include_usage": True}))
    assert {chunk["object"] for chunk in found} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in found}) == 1
    *pieces, usage = found
    for index in range(2):
        choices = [choice for chunk in pieces for choice in chunk["choices"] if choice["index"] == index]
        assert choices[0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(choice["delta"].get("content", "") for choice in choices) == f"reply {index}"
        assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["stop"]
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}


def test_a_stream_without_the_option_has_no_usage():
    assert all(chunk["choices"] for chunk in chunks(chat(stream=True)))


@pytest.mark.parametrize("stream", [False, True])
def test_completions_put_the_prompt_into_the_users_turn(stream):
    served = service()
    answer = ask(served, TEXT, {"prompt": "say it", "stream": stream, "max_tokens": 7})
    if stream:
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks(answer)) == "reply 0"
    else:
        assert answer.json()["object"] == "text_completion"
        assert answer.json()["choices"][0]["text"] == "reply 0"
    (job,) = served.backend.jobs
    assert job.request.conversation == (Message("user", "say it"),)
    assert job.request.sampling.max_tokens == 7


@pytest.mark.parametrize("stream", [False, True])
def test_probabilities_of_a_chat_cover_its_text(stream):
    answer = chat(logprobs=True, top_logprobs=2, stream=stream)
    choices = [chunk["choices"][0] for chunk in chunks(answer)] if stream else answer.json()["choices"]
    tokens = [token for choice in choices for token in (choice["logprobs"] or {"content": []})["content"]]
    assert "".join(token["token"] for token in tokens) == "reply 0"
    assert tokens[0]["logprob"] == -0.5
    assert tokens[0]["bytes"] == list(b"rep")
    assert [other["token"] for other in tokens[0]["top_logprobs"]] == ["other0", "other1"]


@pytest.mark.parametrize("stream", [False, True])
def test_probabilities_of_a_completion_have_offsets_into_the_whole_text(stream):
    answer = ask(service(), TEXT, {"prompt": "x", "logprobs": 1, "stream": stream})
    found = [chunk["choices"][0] for chunk in chunks(answer)] if stream else answer.json()["choices"]
    told = [choice["logprobs"] for choice in found if choice["logprobs"]]
    offsets = [offset for one in told for offset in one["text_offset"]]
    assert offsets == [0, 3, 6]
    assert [top for one in told for top in one["top_logprobs"]] == [{"other0": -2.0}] * 3


def test_every_parameter_of_the_contract_is_accepted_and_reaches_the_model():
    served = service()
    body = {
        "model": "fake",
        "messages": [
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        ],
        "n": 3,
        "seed": 7,
        "stop": ["#", ";"],
        "temperature": 0.5,
        "top_p": 0.9,
        "max_completion_tokens": 11,
        "max_tokens": 99,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.5,
        "user": "somebody",
        "metadata": {"a": "b"},
        "logit_bias": {},
        "response_format": {"type": "text"},
    }
    answer = ask(served, CHAT, body)
    assert answer.status_code == 200
    assert answer.headers["x-toxoid-ignored"] == "presence_penalty"
    request = served.backend.jobs[0].request
    assert request.conversation == (Message("system", "Be kind."), Message("user", "ab"))
    assert (request.n, request.seed) == (3, 7)
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0.5, 0.9, 11)
    assert sampling.stop == ("#", ";")


@pytest.mark.parametrize(("given", "drawn"), [(5e-324, 5e-324), (0, 0.0), (0.01, 0.01), (None, 1.0)])
def test_a_temperature_is_the_models_affair(given, drawn):
    served = service()
    chat(served, temperature=given)
    assert served.backend.jobs[0].request.sampling.temperature == drawn


def test_a_whole_number_may_be_written_with_a_point():
    served = service()
    assert chat(served, n=2.0, seed=3.0, max_tokens=4.0).status_code == 200
    assert served.backend.jobs[0].request.n == 2


def test_without_a_seed_every_request_has_another():
    served = service()
    chat(served)
    chat(served)
    first, second = (job.request.seed for job in served.backend.jobs)
    assert first != second


@pytest.mark.parametrize("flags", [{"continue_final_message": True}, {"add_generation_prompt": False}])
def test_an_open_assistant_turn_is_continued(flags):
    served = service()
    turns = [{"role": "user", "content": "go"}, {"role": "assistant", "content": "Sure, "}]
    assert ask(served, CHAT, {"messages": turns, **flags}).status_code == 200
    request = served.backend.jobs[0].request
    assert request.prefill == "Sure, "
    assert request.conversation == (Message("user", "go"),)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, None),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 10**9}, "n"),
        ({"n": 1.5}, "n"),
        ({"n": 10**30}, "n"),
        ({"seed": 2**70}, "seed"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"continue_final_message": True}, "messages"),
        ({"continue_final_message": True, "add_generation_prompt": True}, "continue_final_message"),
        ({"stop": ["x"] * 17}, None),
    ],
    ids=str,
)
def test_what_cannot_be_honoured_is_an_error_that_names_it(given, param):
    body = {"messages": [{"role": "user", "content": "x"}], **given}
    error = problem(ask(service(), CHAT, body), 400)
    assert error["type"] == "invalid_request_error"
    if param:
        assert error["param"] == param


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[1]",
        b"\xff\xfe{}",
        b'{"messages": [{"role": "user", "content": "\xff"}]}',
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"model": "\\ud800", "messages": [{"role": "user", "content": "x"}]}',
        b'{"messages": [{"role": "user", "content": "x"}], "stop": "\\udfff"}',
        b'{"messages": [{"role": "user", "content": "x"}], "temperature": NaN}',
        b'{"messages": [{"role": "user", "content": "x"}], "temperature": 1e999}',
        b'{"messages": [{"role": "user", "content": "x"}], "n": ' + b"9" * 5000 + b"}",
        b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"messages": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}",
    ],
    ids=lambda content: f"{content[:24]!r}",
)
def test_no_body_breaks_the_server(content):
    problem(ask(service(), CHAT, content=content), 400)


def test_another_model_is_not_found():
    assert problem(chat(model="gpt-4"), 404)["code"] == "model_not_found"
    assert problem(ask(service(), "/v1/models/gpt-4"), 404)["param"] == "model"


def test_models_health_and_root_answer():
    served = service()
    assert [model["id"] for model in ask(served, "/v1/models").json()["data"]] == ["fake"]
    assert ask(served, "/v1/models/fake").json()["object"] == "model"
    assert ask(served, "/v1/").status_code == 200
    assert ask(served, "/health").json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Full("wait", 2.2), 429, "rate_limit_exceeded"),
        (TooLong("too long"), 400, "context_length_exceeded"),
        (UsageError("the template refuses it"), 400, None),
        (ToxoidError("secret path"), 500, None),
        (RuntimeError("secret path"), 500, None),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_refused_job_has_the_status_of_its_reason_streamed_or_not(error, status, code, stream):
    answer = chat(service(FakeBackend(refusal=error)), stream=stream)
    told = problem(answer, status)
    assert told["code"] == code
    assert "secret" not in told["message"]
    assert answer.headers.get("retry-after") == ("3" if status == 429 else None)


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (Failed("late", "timeout"), 504),
        (Failed("NaN"), 500),
        (Failed("bye", "stopped"), 503),
        (Rejected("no", status=429, retry_after=1), 429),
        (Rejected("down"), 502),
    ],
)
def test_a_failed_job_has_the_status_of_its_kind(event, status):
    problem(chat(service(FakeBackend(lambda request, i: "", failure=event))), status)


def test_a_stream_that_fails_on_the_way_ends_with_an_error_and_no_done():
    answer = chat(service(FakeBackend(failure=Failed("late", "timeout"))), stream=True)
    *_, last = [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n") if line]
    assert last["error"]["message"] == "late"
    assert "[DONE]" not in answer.text


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_the_judge_rejects_never_reaches_the_model(stream):
    served = service(judge=WordJudge(), given={"protection.refusal": "Not here."})
    answer = chat(served, "BAD", n=2, stream=stream)
    assert served.backend.jobs == []
    if stream:
        assert [c["choices"][0]["finish_reason"] for c in chunks(answer)].count("content_filter") == 2
    else:
        assert [choice["message"]["content"] for choice in answer.json()["choices"]] == ["Not here."] * 2
        assert {choice["finish_reason"] for choice in answer.json()["choices"]} == {"content_filter"}


def test_after_a_refused_message_the_chat_goes_on_without_it():
    served = service(judge=WordJudge())
    refusal = chat(served, "BAD").json()["choices"][0]["message"]
    messages = [{"role": "user", "content": "BAD"}, refusal, {"role": "user", "content": "hello"}]
    assert chat_end(ask(served, CHAT, {"messages": messages})) == "stop"
    (job,) = served.backend.jobs
    assert job.request.conversation == (Message("user", "hello"),)


@pytest.mark.parametrize("stream", [False, True])
def test_the_servers_own_replies_in_a_history_are_no_requests(stream):
    served = service(FakeBackend(lambda request, i: "BAD"), judge=WordJudge("problematic"))
    chat(served, stream=stream)
    asked = {"role": "user", "content": "hello"}
    for said, admitted in (("BAD", True), ("BAD too", False)):
        messages = [asked, {"role": "assistant", "content": said}, asked]
        assert (chat_end(ask(served, CHAT, {"messages": messages})) == "stop") is admitted


def test_a_beginning_that_was_refused_is_not_the_servers_own_word():
    served = service(judge=WordJudge())
    asked, begun = {"role": "user", "content": "hello"}, {"role": "assistant", "content": "BAD"}
    answer = ask(served, CHAT, {"messages": [asked, begun], "continue_final_message": True}).json()
    begun["content"] += answer["choices"][0]["message"]["content"]
    assert chat_end(ask(served, CHAT, {"messages": [asked, begun, asked]})) == "content_filter"
    assert served.backend.jobs == []


def test_without_judges_no_message_is_left_out():
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "I can't help with that."}]
    served = service()
    ask(served, CHAT, {"messages": [*messages, {"role": "user", "content": "b"}]})
    assert len(served.backend.jobs[0].request.conversation) == 3


def test_a_reply_that_is_cut_has_its_tokens_counted():
    served = service(FakeBackend(lambda request, i: "BAD more"), judge=WordJudge(), given=WINDOW_OF_1)
    *_, usage = chunks(chat(served, stream=True, stream_options={"include_usage": True}))
    assert usage["usage"] == {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}


def test_a_harmful_reply_is_replaced():
    answer = chat(service(FakeBackend(lambda request, i: "BAD"), judge=WordJudge())).json()
    assert answer["choices"][0]["message"]["content"] == "I can't help with that."
    assert answer["choices"][0]["finish_reason"] == "content_filter"


def test_a_harmful_stream_is_cut_and_its_job_given_up():
    backend = FakeBackend(lambda request, i: "fine. BAD" + " more" * 200, cut=1, pace=0.001)
    served = service(backend, judge=WordJudge(), given={"protection.hold_back": {"size": 6}})
    found = chunks(chat(served, stream=True))
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in found)
    assert text == "fine. \n\nI can't help with that."
    assert backend.cancelled == 1


def test_a_judge_that_fails_is_an_error_and_no_answer():
    assert "reply" not in problem(chat(service(judge=WordJudge()), "BOOM"), 503)["message"]


@pytest.mark.parametrize(
    "switch",
    [
        {"headers": {"x-toxoid-protection": "off"}},
        {"protection": "off"},
        {"guided": False},
        {"shield": None},
        {"judge": None},
        {"prompting": None, "hold_back": 0},
        {"toxoid": {"protection": {"unscored": "answer"}}},
    ],
    ids=str,
)
def test_no_client_can_switch_protection_off(switch):
    served = service(judge=WordJudge(), bare=object())
    assert chat(served, "BAD", **switch).json()["choices"][0]["finish_reason"] == "content_filter"
    chat(served, "hello", **switch)
    assert served.backend.jobs[0].prompting is None


def test_an_operator_may_let_clients_lower_it():
    bare = Prompting(None)
    served = service(judge=WordJudge(), bare=bare, given={"protection.allow_lowering": True})
    off = {"headers": {"x-toxoid-protection": "off"}}
    assert chat(served, "BAD", **off).json()["choices"][0]["finish_reason"] == "stop"
    assert served.backend.jobs[0].prompting is bare
    assert chat(served, "BAD").json()["choices"][0]["finish_reason"] == "content_filter"


def test_guidance_stands_before_the_clients_system_message():
    served = service(guidance="Be good.")
    turns = [{"role": "system", "content": "Be bad."}, {"role": "user", "content": "x"}]
    ask(served, CHAT, {"messages": turns})
    assert served.backend.jobs[0].request.conversation[0] == Message("system", "Be good.\n\nBe bad.")


def test_scores_are_told_only_if_the_operator_says_so():
    told = {"toxoid": {"request_score": 0.1, "reply_scores": [0.1]}}
    open_ = service(judge=WordJudge(), given={"protection.tell_scores": True})
    assert chat(open_).json()["toxoid"] == told["toxoid"]
    assert chunks(chat(open_, stream=True))[-1]["toxoid"] == told["toxoid"]
    assert "toxoid" not in chat(service(judge=WordJudge())).json()


def test_metrics_count_refusals_and_show_the_backend():
    served = service(judge=WordJudge())
    chat(served, "BAD")
    chat(served, "DIM")
    text = ask(served, "/metrics").text
    assert 'toxoid_refusals_total{stage="request"} 1.0' in text
    assert 'toxoid_unscored_total{stage="request"} 1.0' in text
    assert 'toxoid_requests_total{route="/v1/chat/completions",status="200"} 2.0' in text
    assert "toxoid_backend_submitted_total 1" in text


def test_the_shield_is_reloaded_from_this_machine_only_and_only_if_allowed():
    calls = []
    served = service(reload=lambda: calls.append(1), given={"reload_endpoint": True})
    assert ask(served, "/admin/reload-shield", method="POST").status_code == 200
    forwarded = {"x-forwarded-for": "10.0.0.1"}
    problem(ask(served, "/admin/reload-shield", method="POST", headers=forwarded), 403)
    assert calls == [1]
    problem(ask(service(), "/admin/reload-shield", method="POST"), 404)


def test_the_log_holds_no_prompts_unless_asked_for(caplog):
    with caplog.at_level("INFO", logger="toxoid.serve"):
        chat(service(), "a secret question")
        assert all("secret" not in str(getattr(record, "fields", "")) for record in caplog.records)
        chat(service(given={"log_prompts": True}), "a secret question")
    assert "a secret question" in str(caplog.records[-1].fields)
    assert "reply 0" in str(caplog.records[-1].fields)


def test_the_document_shows_errors_as_they_are():
    document = ask(service(), "/openapi.json").json()
    responses = document["paths"][CHAT]["post"]["responses"]
    assert "422" not in responses
    assert responses["400"]["content"]["application/json"]["schema"]["$ref"].endswith("ErrorBody")
    assert "HTTPValidationError" not in document["components"]["schemas"]
