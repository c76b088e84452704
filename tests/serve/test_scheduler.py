"""The scheduler answers many clients at once, and each of them as if it were alone."""

from __future__ import annotations

import asyncio
import random
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from threading import Semaphore
from time import monotonic, sleep

import pytest
import torch

from tests.helpers.tiny_models import tiny_loaded
from toxoid.data.schemas import user
from toxoid.engines.base import GenerationRequest, Sampling
from toxoid.engines.contexts import Decoding, prompting
from toxoid.engines.contrast import Contrast
from toxoid.engines.explain import explain
from toxoid.engines.local import LocalEngine
from toxoid.engines.shield import Shield, made_for
from toxoid.engines.soft_prompt import Frame
from toxoid.errors import UsageError
from toxoid.serve.jobs import Draining, Failed, Finished, Full, Job, Limits, Piece, TooLong
from toxoid.serve.scheduler import Scheduler

WORDS = ["the", "fox", "carries", "a", "lantern", "to", "the", "mill", "and", "counts", "stones"]
DECODINGS = {
    "plain": Decoding.plain(),
    "guided": Decoding("safe", None, replace(Contrast(), alpha=0.0)),
    "manual": Decoding("safe", "opposite"),
    "shield": Decoding("sp", "ap"),
    "gated": Decoding("sp", "ap", Contrast(first=6, divergence=0.2)),
}


@cache
def model():
    return tiny_loaded(max_position_embeddings=1024)


@cache
def prompted(name):
    size = model().model.get_input_embeddings().embedding_dim
    halves = torch.randn(2, 5, size, generator=torch.Generator().manual_seed(1))
    shield = Shield(halves[0], halves[1], Frame("front"), made_for(model()))
    return prompting(model(), DECODINGS[name], shield)


@contextmanager
def scheduler(name="plain", loaded=None, **limits):
    served = Scheduler(
        loaded or model(), prompted(name) if loaded is None else None, replace(Limits(), **limits)
    )
    try:
        yield served
    finally:
        served.close()


@contextmanager
def held(loaded=None):
    """Let a model pass only when it is told to: `release(n)` lets it run ``n`` times."""
    passes = Semaphore(0)
    hook = (loaded or model()).model.register_forward_pre_hook(lambda *_: passes.acquire() and None)
    try:
        yield passes
    finally:
        hook.remove()
        passes.release(10_000)


def request(seed=0, *, temperature=1.0, tokens=None, **given):
    """A request of random length, drawn by its seed."""
    rng = random.Random(seed)
    text = " ".join(rng.choices(WORDS, k=rng.randint(1, 40)))
    sampling = Sampling(temperature=temperature, top_p=0.9, max_tokens=tokens or rng.randint(1, 24))
    return GenerationRequest(
        user(text), **{"sampling": sampling, "n": rng.randint(1, 3), "seed": seed} | given
    )


def long_request(tokens=60, **given):
    return request(tokens=tokens, temperature=0.0, n=1, **given)


def collected(handle):
    """Texts and ends of a job's completions."""
    events = list(handle)
    ends = {event.index: event for event in events if isinstance(event, Finished)}
    assert not [event for event in events if isinstance(event, Failed)]
    return [
        (
            "".join(event.text for event in events if isinstance(event, Piece) and event.index == index),
            end.reason,
            end.prompt_tokens,
            end.completion_tokens,
        )
        for index, end in sorted(ends.items())
    ]


def expected(name, requests, loaded=None):
    engine = LocalEngine(loaded or model(), prompted(name) if loaded is None else None)
    return [
        [(done.text, done.finish_reason, done.prompt_tokens, done.completion_tokens) for done in group]
        for group in engine.generate(requests)
    ]


def until(condition, seconds=30.0):
    """Wait for something that another thread does."""
    end = monotonic() + seconds
    while not condition():
        assert monotonic() < end, "it did not happen"
        sleep(0.001)


def failure(handle):
    *_, last = handle
    assert isinstance(last, Failed)
    return last


# What is drawn


@pytest.mark.parametrize("name", DECODINGS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_requests_that_come_together_are_answered_as_the_engine_does(name, temperature):
    requests = [request(seed, temperature=temperature) for seed in range(10)]
    with scheduler(name, prefill_tokens=64) as served:
        found = [collected(handle) for handle in [served.submit(Job(each)) for each in requests]]
    assert found == expected(name, requests)


@pytest.mark.parametrize("name", ["plain", "gated"])
def test_requests_that_come_and_go_at_any_time_are_answered_as_if_alone(name):
    requests = [request(seed, temperature=seed % 2) for seed in range(8)]
    rng = random.Random(3)
    with scheduler(name, prefill_tokens=32, rows=16) as served, held() as passes:
        handles = []
        for each in requests:
            handles.append(served.submit(Job(each)))
            if rng.random() < 0.5:
                served.submit(Job(long_request(seed=each.seed))).cancel()
            passes.release(rng.randint(1, 6))
            sleep(0.002)
        passes.release(10_000)
        assert [collected(handle) for handle in handles] == expected(name, requests)


@pytest.mark.parametrize("prefill_tokens", [1, 16])
@pytest.mark.parametrize("name", ["plain", "shield"])
def test_prompts_that_are_read_in_parts_are_answered_alike(name, prefill_tokens):
    requests = [request(seed, temperature=0.0) for seed in (4, 5, 6)]
    with scheduler(name, prefill_tokens=prefill_tokens) as served:
        found = [collected(handle) for handle in [served.submit(Job(each)) for each in requests]]
    assert found == expected(name, requests)


def test_a_model_that_remembers_more_than_keys_and_values_answers_group_after_group():
    loaded = tiny_loaded("mistral")
    from transformers import AutoModelForCausalLM, MambaConfig

    torch.manual_seed(0)
    config = MambaConfig(
        vocab_size=len(loaded.tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        state_size=8,
        initializer_range=0.2,
    )
    mamba = replace(loaded, model=AutoModelForCausalLM.from_config(config).eval())
    requests = [request(seed, temperature=0.0) for seed in range(5)]
    with scheduler(loaded=mamba) as served:
        found = [collected(handle) for handle in [served.submit(Job(each)) for each in requests]]
    assert found == expected("plain", requests, mamba)


def test_a_prefill_is_continued_and_stop_strings_end_a_reply():
    plain = LocalEngine(model())
    whole = plain.generate([request(1, temperature=0.0, prefill="Sure, the", n=1, tokens=24)])[0][0].text
    stop = whole[len(whole) // 2 :][:3]
    asked = request(1, temperature=0.0, prefill="Sure, the", n=1)
    asked = replace(asked, sampling=Sampling(temperature=0.0, max_tokens=24, stop=(stop,)))
    with scheduler() as served:
        found = collected(served.submit(Job(asked)))
    assert [found] == expected("plain", [asked])
    assert found[0][1] == "stop"
    assert stop not in found[0][0]


def test_scores_are_those_of_the_model():
    asked = request(2, temperature=1.0, n=1, tokens=12)
    drawn = LocalEngine(model()).draw(asked)[0]
    prompt = LocalEngine(model()).prompts(asked.conversation)[0]
    with torch.inference_mode():
        logits = model().model(torch.tensor([[*prompt, *drawn.ids]])).logits[0, len(prompt) - 1 : -1]
    wanted = logits.log_softmax(-1)[torch.arange(len(drawn.ids)), drawn.ids].tolist()
    with scheduler() as served:
        events = list(served.submit(Job(asked, logprobs=3)))
    scores = [score for event in events if isinstance(event, Piece) for score in event.scores]
    assert [score.logprob for score in scores] == pytest.approx(wanted[: len(scores)], abs=1e-4)
    assert "".join(score.text for score in scores) == drawn.completion.text.replace("\ufffd", "")
    assert all(score.top == tuple(sorted(score.top, key=lambda one: -one[1])) for score in scores)
    assert {len(score.top) for score in scores} == {3}


def test_scores_under_a_mask_are_finite():
    with scheduler("manual") as served:
        events = list(served.submit(Job(request(3, tokens=20, n=1), logprobs=20)))
    scores = [score for event in events if isinstance(event, Piece) for score in event.scores]
    values = [value for score in scores for value in (score.logprob, *(value for _, value in score.top))]
    assert values
    assert all(-1e4 < value <= 0 for value in values)


def test_an_explanation_is_the_one_of_the_engine():
    asked = request(5, temperature=0.0, n=1)
    engine = LocalEngine(model(), prompted("shield"))
    with scheduler("shield") as served:
        *_, end = served.submit(Job(asked, explain=True))
    assert end.explanation == explain(engine, asked, engine.draw(asked)[0])
    assert len(end.explanation.tokens) == end.completion_tokens


def test_the_operator_can_ask_under_other_contexts_beside_the_own():
    asked = request(7, temperature=0.0)
    with scheduler("shield") as served:
        handles = [served.submit(Job(asked)), served.submit(Job(asked, prompting=prompted("plain")))]
        found = [collected(handle) for handle in handles]
    assert found == expected("shield", [asked]) + expected("plain", [asked])


# Coming and going


def test_a_new_request_joins_what_runs():
    with scheduler() as served, held() as passes:
        first = served.submit(Job(long_request()))
        passes.release(6)
        until(lambda: served.stats().steps >= 5)
        second = served.submit(Job(request(1, tokens=2, n=1)))
        passes.release(20)
        assert len(collected(second)) == 1
        assert not first.done
        passes.release(10_000)
        assert [collected(first)] == expected("plain", [long_request()])


def test_what_runs_goes_on_while_a_long_prompt_is_read():
    long_prompt = GenerationRequest(user("the mill " * 120), sampling=Sampling(temperature=0.0, max_tokens=3))
    with scheduler(prefill_tokens=16) as served, held() as passes:
        first = served.submit(Job(long_request()))
        passes.release(12)
        until(lambda: served.stats().steps >= 3)
        second = served.submit(Job(long_prompt))
        until(lambda: served.stats().running == 2)
        steps = served.stats().steps
        passes.release(8)
        until(lambda: served.stats().steps >= steps + 3)
        assert served.stats().rows == 1
        passes.release(10_000)
        assert [collected(second)] == expected("plain", [long_prompt])
        first.cancel()


@pytest.mark.parametrize("name", ["plain", "shield"])
def test_the_rows_of_who_gives_up_are_free_at_the_next_step(name):
    with scheduler(name) as served, held() as passes:
        kept, gone = (served.submit(Job(long_request(seed=seed))) for seed in range(2))
        passes.release(8)
        until(lambda: served.stats().running == 2 and served.stats().steps >= 2)
        rows = served.stats().rows
        gone.cancel()
        steps = served.stats().steps
        passes.release(4)
        until(lambda: served.stats().steps > steps)
        assert served.stats().rows == rows // 2
        assert served.stats().cancelled == 1
        passes.release(10_000)
        assert [collected(kept)] == expected(name, [long_request(seed=0)])


def test_a_request_beyond_its_deadline_fails_and_frees_its_rows():
    with scheduler() as served:
        late = served.submit(Job(long_request(900), timeout=0.05))
        assert failure(late).kind == "timeout"
        until(lambda: served.stats().running == 0 and served.stats().failed == 1)


def test_a_full_queue_refuses_and_says_when_to_come_back():
    with scheduler(queue=2, rows=1) as served, held() as passes:
        handles = [served.submit(Job(long_request(2)))]
        until(lambda: served.stats().running == 1)
        handles += [served.submit(Job(long_request(2))) for _ in range(2)]
        with pytest.raises(Full) as refusal:
            served.submit(Job(long_request(2)))
        assert 1 <= refusal.value.retry_after <= 60
        assert served.stats().refused == 1
        passes.release(10_000)
        assert [len(collected(handle)) for handle in handles] == [1, 1, 1]
        collected(served.submit(Job(long_request(2))))


def test_asyncio_readers_are_answered_alike():
    requests = [request(seed, temperature=0.0) for seed in range(6)]

    async def read(handle):
        return [event async for event in handle]

    async def ask(served):
        return await asyncio.gather(*(read(served.submit(Job(each))) for each in requests))

    with scheduler() as served:
        assert [collected(events) for events in asyncio.run(ask(served))] == expected("plain", requests)


def test_draining_finishes_what_was_taken_and_takes_no_more():
    requests = [request(seed) for seed in range(6)]
    with scheduler(rows=4) as served, held() as passes:
        handles = [served.submit(Job(each)) for each in requests]
        assert not served.drain(0.01)
        with pytest.raises(Draining):
            served.submit(Job(requests[0]))
        passes.release(10_000)
        assert served.drain(10)
        assert [collected(handle) for handle in handles] == expected("plain", requests)


def test_closing_fails_what_is_not_done():
    with scheduler(rows=1) as served, held() as passes:
        handles = [served.submit(Job(long_request())) for _ in range(2)]
        passes.release(3)
        until(lambda: served.stats().steps >= 1)
        passes.release(10_000)
        served.close()
    assert [failure(handle).kind for handle in handles] == ["stopped", "stopped"]


def test_a_swap_leaves_what_was_submitted_under_its_contexts():
    asked = long_request(40)
    with scheduler("manual") as served, held() as passes:
        before = served.submit(Job(asked))
        passes.release(4)
        until(lambda: served.stats().steps >= 1)
        served.swap(prompted("shield"))
        after = served.submit(Job(asked))
        passes.release(10_000)
        assert [collected(before)] == expected("manual", [asked])
        assert [collected(after)] == expected("shield", [asked])


# What goes wrong


def test_logits_that_are_not_numbers_fail_their_own_job_only():
    loaded = tiny_loaded()
    bad = loaded.tokenizer("Q", add_special_tokens=False)["input_ids"][0]
    with torch.no_grad():
        loaded.model.get_input_embeddings().weight[bad] = torch.nan
    good = [request(seed, temperature=seed % 2) for seed in range(3)]
    wrong = [replace(each, conversation=user("Q")) for each in good]
    with scheduler(loaded=loaded) as served:
        handles = [served.submit(Job(each)) for pair in zip(good, wrong, strict=True) for each in pair]
        found = [collected(handle) for handle in handles[::2]]
        messages = [failure(handle).message for handle in handles[1::2]]
        assert served.stats().failed == 3
    assert found == expected("plain", good, loaded)
    assert all("NaN" in message and "\n" not in message for message in messages)


def test_an_error_in_the_model_fails_what_runs_and_the_next_job_is_answered():
    loaded = tiny_loaded()
    asked = request(1, temperature=0.0)

    def explode(*_):
        raise RuntimeError("out of\nmemory")

    with scheduler(loaded=loaded) as served:
        hook = loaded.model.register_forward_pre_hook(explode)
        message = failure(served.submit(Job(asked))).message
        hook.remove()
        assert message == "the model failed: RuntimeError: out of memory"
        assert [collected(served.submit(Job(asked)))] == expected("plain", [asked], loaded)


def test_an_error_in_a_step_fails_what_runs_and_not_what_waits():
    loaded = tiny_loaded()
    asked = request(1, temperature=0.0, n=1, tokens=5)
    with scheduler(loaded=loaded, rows=1) as served, held(loaded) as passes:
        first, second = (served.submit(Job(asked)) for _ in range(2))
        passes.release(1)
        until(lambda: served.stats().steps >= 1)

        def explode(*_):
            hook.remove()
            raise RuntimeError("no")

        hook = loaded.model.register_forward_pre_hook(explode)
        passes.release(10_000)
        assert "RuntimeError" in failure(first).message
        assert [collected(second)] == expected("plain", [asked], loaded)


@pytest.mark.parametrize(
    ("job", "error"),
    [
        (Job(request(sampling=Sampling(temperature=-1.0))), UsageError),
        (Job(request(sampling=Sampling(top_p=0.0))), UsageError),
        (Job(request(), logprobs=-1), UsageError),
        (Job(request(n=100)), UsageError),
        (Job(replace(request(), conversation=())), UsageError),
        (Job(replace(request(), conversation=user("the mill " * 2000))), TooLong),
        (Job(request(tokens=900, n=8)), TooLong),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(job, error):
    with scheduler(cache_bytes=2**21, prefix_bytes=0) as served:
        with pytest.raises(error) as refusal:
            served.submit(job)
        assert type(refusal.value) is error
        assert "\n" not in str(refusal.value)
        assert served.stats().refused == 1


@pytest.mark.parametrize("wrong", [{"queue": 0}, {"rows": 0}, {"prefix_bytes": 2**40}, {"prefill_tokens": 0}])
def test_limits_that_allow_nothing_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Limits(**wrong)


# Memory


@pytest.mark.parametrize("name", ["plain", "shield"])
def test_the_memory_of_the_caches_stays_within_its_limit(name):
    requests = [request(seed, temperature=seed % 2, tokens=24) for seed in range(10)]
    limit = 2**20
    with scheduler(name, cache_bytes=limit, prefix_bytes=2**16) as served:
        handles = [served.submit(Job(each)) for each in requests]
        largest = 0
        while not all(handle.done for handle in handles):
            largest = max(largest, served.stats().cache_bytes)
            sleep(0.001)
        assert [collected(handle) for handle in handles] == expected(name, requests)
    assert 0 < largest <= limit


def test_a_batch_that_never_empties_does_not_grow():
    with scheduler(rows=2) as served:
        sizes = []
        handles = [served.submit(Job(long_request(30 + 10 * (seed % 2), seed=seed))) for seed in range(10)]
        for handle in handles:
            collected(handle)
            sizes.append(served.stats().cache_bytes - served.stats().prefix_bytes)
    assert max(sizes) <= 2 * max(sizes[:3])


def test_a_system_prompt_is_read_once():
    system = "You are a careful clerk. " * 12
    asked = [
        replace(long_request(2, seed=seed), conversation=user(f"{word} stones", system))
        for seed, word in enumerate(WORDS[:5])
    ]
    with scheduler() as served:
        found, known = [], []
        for each in asked:
            found.append(collected(served.submit(Job(each))))
            known.append(served.stats().known_tokens)
        prompt_tokens = served.stats().prompt_tokens
        assert served.stats().prefix_bytes > 0
    assert found == expected("plain", asked)
    assert known[:2] == [0, 0]
    assert known[-1] > 0.5 * prompt_tokens


def test_soft_prompts_are_known_from_the_first_request_on():
    with scheduler("shield") as served:
        collected(served.submit(Job(long_request(2))))
        assert served.stats().known_tokens == 10


def test_counts_add_up():
    requests = [request(seed) for seed in range(5)]
    with scheduler() as served:
        found = [collected(handle) for handle in [served.submit(Job(each)) for each in requests]]
        assert served.drain(5)
        stats = served.stats()
    assert (stats.submitted, stats.finished, stats.queued, stats.running, stats.rows) == (5, 5, 0, 0, 0)
    assert stats.completion_tokens == sum(tokens for group in found for _, _, _, tokens in group)
    assert stats.prompt_tokens == sum(group[0][2] for group in found)
    assert stats.steps > 0
    assert stats.step_seconds > 0
    assert stats.cache_bytes == stats.prefix_bytes
