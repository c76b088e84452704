"""The wire format of chat completions."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.openai_server import chat
from toxoid.data.schemas import user
from toxoid.engines.base import GenerationRequest, Sampling
from toxoid.engines.endpoint_wire import (
    BadReply,
    Dialect,
    alternatives,
    chat_url,
    completions_of,
    derived_seed,
    payload,
    public_url,
    refusal_of_prompt,
    without_echo,
)
from toxoid.errors import UsageError

REQUEST = GenerationRequest(
    user("How tall is the mill?"), sampling=Sampling(0.0, 0.9, 33, ("#", ";")), seed=5
)
OPEN = GenerationRequest(user("How tall is the mill?"), prefill="The mill is")


def body(request=REQUEST, dialect=None, n=1, first=0):
    return payload("m", request, dialect or Dialect(), n=n, first=first)


def read(answer, request=REQUEST, dialect=None):
    return completions_of(answer, request, dialect or Dialect())


def test_sampling_is_sent():
    sent = body()
    assert (sent["temperature"], sent["top_p"], sent["max_tokens"], sent["stop"]) == (
        0.0,
        0.9,
        33,
        ["#", ";"],
    )


def test_single_completion_sends_no_n():
    assert "n" not in body()


def test_several_completions_send_n():
    assert body(n=3)["n"] == 3


def test_dialect_without_many_sends_no_n():
    assert "n" not in body(dialect=Dialect(many=False), n=3)


def test_no_stop_strings_send_no_stop():
    assert "stop" not in body(OPEN)


@given(st.integers(0, 2**63), st.integers(0, 1000))
def test_seed_fits_a_signed_32_bit_integer(seed, first):
    assert 0 <= derived_seed(seed, first) < 2**31


def test_seed_depends_on_the_first_completion_asked():
    assert body(first=0)["seed"] != body(first=2)["seed"]


def test_prefill_is_an_open_assistant_turn():
    sent = body(OPEN)
    assert sent["messages"][-1] == {"role": "assistant", "content": "The mill is"}
    assert sent["continue_final_message"] is True
    assert sent["add_generation_prompt"] is False


def test_fallback_puts_the_prefill_into_the_users_turn():
    sent = body(OPEN, Dialect(prefill="fallback"))
    assert sent["messages"][-1]["role"] == "user"
    assert sent["messages"][-1]["content"].startswith("How tall is the mill?\n\n")
    assert "The mill is" in sent["messages"][-1]["content"]
    assert "continue_final_message" not in sent


def test_prefill_with_braces_is_left_alone():
    request = GenerationRequest(user("q"), prefill="{x} {prefill} {0}")
    assert "{x} {prefill} {0}" in body(request, Dialect(prefill="fallback"))["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("content_filter", "content_filter"),
        (None, "stop"),
    ],
)
def test_finish_reasons_are_mapped(said, reason):
    (completion,) = read(chat(["x"], said))
    assert completion.finish_reason == reason
    assert "finish_reason" not in completion.metadata


def test_unknown_finish_reason_is_kept_in_the_metadata():
    (completion,) = read(chat(["x"], "tool_calls"))
    assert (completion.finish_reason, completion.metadata["finish_reason"]) == ("stop", "tool_calls")


def test_choices_are_sorted_by_index():
    answer = chat(["a", "b"])
    answer["choices"].reverse()
    assert [c.text for c in read(answer)] == ["a", "b"]


def test_completion_tokens_are_shared_out_exactly():
    answer = chat(["a", "b", "c"], usage={"prompt_tokens": 4, "completion_tokens": 11})
    assert [c.completion_tokens for c in read(answer)] == [4, 4, 3]


def test_missing_usage_counts_nothing():
    answer = chat(["a"])
    del answer["usage"]
    assert read(answer)[0].prompt_tokens == 0


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": None}, ""),
        ({}, ""),
        ({"content": None, "refusal": "No."}, "No."),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "ab"),
    ],
)
def test_content_may_be_missing_or_in_parts(message, text):
    assert read({"choices": [{"message": message}]})[0].text == text


@pytest.mark.parametrize(
    "answer",
    [
        None,
        3,
        [],
        "x",
        {},
        {"choices": []},
        {"choices": None},
        {"choices": ["x"]},
        {"choices": [{"text": "x"}]},
        {"choices": [{"message": {"content": 5}}]},
    ],
)
def test_what_is_no_chat_completion_is_a_bad_reply(answer):
    with pytest.raises(BadReply):
        read(answer)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "usage", "index", "error"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_read_or_a_bad_reply(answer):
    with contextlib.suppress(BadReply):
        assert read(answer)


def test_echoed_prefill_is_stripped():
    (completion,) = read(chat(["The mill is tall."]), OPEN)
    assert completion.text == " tall."


def test_echo_without_the_prefills_last_space_is_stripped():
    assert without_echo("Sure: one", "Sure: ") == ("one", True)
    assert without_echo(" Sure:one", "Sure: ") == ("one", True)


@given(st.text(), st.text(min_size=1))
def test_stripping_an_echo_gives_back_the_continuation(text, prefill):
    assert without_echo(prefill + text, prefill) == (text, True)


def test_text_without_echo_is_left_alone():
    assert without_echo(" tall.", "The mill is") == (" tall.", False)


def test_metadata_say_how_the_prefill_was_sent():
    assert read(chat(["x"]), OPEN)[0].metadata["prefill"] == "continue"
    marked = read(chat(["x"]), OPEN, Dialect(prefill="fallback"))[0].metadata
    assert marked == {"prefill": "fallback", "prefill_repeated": False}


def tried(request, n=1, mode="auto", message="no", dialect=None):
    return list(alternatives(dialect or Dialect(), request, n=n, mode=mode, message=message))


def test_plain_request_has_no_alternative():
    assert tried(REQUEST) == []


def test_refused_prefill_falls_back_in_mode_auto_only():
    assert [d.prefill for d in tried(OPEN)] == ["fallback"]
    assert tried(OPEN, mode="continue") == []


def test_server_that_has_continued_before_is_not_given_fallbacks():
    assert tried(OPEN, dialect=Dialect(proven=True)) == []


def test_several_completions_may_be_asked_one_by_one():
    assert [d.many for d in tried(REQUEST, n=2)] == [False]


def test_both_may_be_refused_at_once():
    assert Dialect(prefill="fallback", many=False) in tried(OPEN, n=2)


def test_newer_name_of_the_token_limit_is_tried_when_the_message_names_it():
    assert [d.limit for d in tried(REQUEST, message="use max_completion_tokens")] == ["max_completion_tokens"]


def test_filtered_prompt_is_told_from_other_errors():
    assert refusal_of_prompt(400, {"error": {"code": "content_filter"}})[0] == "content_filter"
    assert refusal_of_prompt(400, {"error": {"message": "exceeds the maximum context length"}})[0] == "length"
    assert refusal_of_prompt(400, {"error": {"message": "bad"}}) is None
    assert refusal_of_prompt(500, {"error": {"code": "content_filter"}}) is None


@pytest.mark.parametrize(
    "given_url", ["http://h:1/v1", "http://h:1/v1/", "http://h:1/v1/chat/completions", " http://h:1/v1 "]
)
def test_url_may_end_anywhere(given_url):
    assert chat_url(given_url) == "http://h:1/v1/chat/completions"


def test_query_of_the_url_is_kept():
    assert chat_url("https://h/v1?api-version=2") == "https://h/v1/chat/completions?api-version=2"


@pytest.mark.parametrize(
    "given_url", ["", "h:1/v1", "ftp://h/v1", "http://", "http://h:x/", "localhost:8000"]
)
def test_what_is_no_http_address_is_a_usage_error(given_url):
    with pytest.raises(UsageError, match="no endpoint address"):
        chat_url(given_url)


@pytest.mark.parametrize(
    "secret_url",
    ["http://u:hush@h/v1", "http://h/v1?key=hush", "http://h/v1#hush", "http://u:a/hush@h/v1", "u:hush@h/v1"],
)
def test_public_url_shows_no_credentials(secret_url):
    assert "hush" not in public_url(secret_url)
    assert "h/v1" in public_url(secret_url)
