"""What is asked is counted, and caps hold before they are reached."""

import pytest

from tests.helpers.scripted_engine import ScriptedEngine
from toxoid.data.schemas import user
from toxoid.engines.base import GenerationRequest, Sampling
from toxoid.engines.cached import CachedEngine
from toxoid.engines.metered import Meter, MeteredEngine, Usage, by_bytes, most
from toxoid.errors import UsageError
from toxoid.store.records import Records


def requests(count, n=2, max_tokens=8):
    return [
        GenerationRequest(user(f"ask {number}"), sampling=Sampling(max_tokens=max_tokens), n=n, seed=number)
        for number in range(count)
    ]


def words(conversation, prefill):
    return sum(len(turn.content.split()) for turn in conversation)


def metered(**caps):
    return MeteredEngine(ScriptedEngine(lambda request, index: "reply"), Meter(words, **caps))


def test_answers_and_identity_are_the_inner_engines():
    inner = ScriptedEngine(lambda request, index: f"{request.seed}/{index}")
    outer = MeteredEngine(inner, Meter(words))
    assert outer.generate(requests(3)) == inner.generate(requests(3))
    assert outer.identity() == inner.identity()


def test_replies_and_tokens_are_counted_by_what_came_back():
    engine = metered()
    engine.generate(requests(3))
    assert (engine.used.replies, engine.used.prompt_tokens, engine.used.reply_tokens) == (6, 6, 6)
    assert engine.used.seconds > 0
    assert engine.meter.used == engine.used


def test_an_engine_that_reports_nothing_along_the_way_is_counted_too():
    class Silent(ScriptedEngine):
        def generate(self, requests, on_done=None):
            return super().generate(requests)

    engine = MeteredEngine(Silent(lambda request, index: "reply"), Meter(words))
    engine.generate(requests(2))
    assert engine.used.replies == 4


def test_the_most_that_requests_can_take_reserves_all_tokens_of_every_reply():
    assert most(requests(3), words) == Usage(replies=6, prompt_tokens=12, reply_tokens=48)


@pytest.mark.parametrize(
    ("caps", "flag"), [({"max_replies": 5}, "--max-requests"), ({"max_tokens": 59}, "--max-total")]
)
def test_what_could_exceed_a_cap_is_not_asked(caps, flag):
    engine = metered(**caps)
    with pytest.raises(UsageError, match=flag):
        engine.generate(requests(3))
    assert engine.engine.asked == []


def test_caps_are_shared_by_all_engines_of_a_meter():
    meter = Meter(words, max_replies=10)
    first, second = (MeteredEngine(ScriptedEngine(lambda request, index: "reply"), meter) for _ in range(2))
    first.generate(requests(3))
    with pytest.raises(UsageError, match="after the 6 so far"):
        second.generate(requests(3))
    second.generate(requests(2))


def test_what_a_cache_answers_costs_nothing(tmp_path):
    with Records(tmp_path / "records.sqlite") as records:
        engine = metered(max_replies=6)
        cached = CachedEngine(engine, records)
        cached.generate(requests(3))
        cached.generate(requests(3))
    assert engine.used.replies == 6


def test_the_pace_is_told_once_after_the_first_of_several_batches():
    told = []
    engine = MeteredEngine(ScriptedEngine(lambda request, index: "reply"), Meter(words), told.append)
    engine.generate(requests(16))
    assert told == []
    engine.generate(requests(40))
    engine.generate(requests(40))
    assert [usage.replies for usage in told] == [32]


def test_no_tokenizer_makes_more_tokens_than_bytes():
    assert by_bytes(user("grüße"), "") >= len("grüße".encode())
