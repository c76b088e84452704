"""Tests of the local engine."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.tiny_models import ARCHITECTURES, FAMILIES, tiny_loaded
from toxoid.data.schemas import Message, user
from toxoid.engines.base import GenerationRequest, Sampling
from toxoid.engines.local import LocalEngine
from toxoid.engines.templates import encode, encode_target, turn_end
from toxoid.errors import UsageError

ASKS = [
    "polish",
    "polish the bell",
    "count the stones of the mill and carry the lantern to the garden",
    "paint",
]
each_family = pytest.mark.parametrize("family", FAMILIES)


def requests(count=7, *, temperature=1.0, n=2, tokens=9, **fields):
    sampling = Sampling(temperature=temperature, max_tokens=tokens)
    return [
        GenerationRequest(user(ASKS[i % 4]), **{"sampling": sampling, "n": n, "seed": i, **fields})
        for i in range(count)
    ]


def ask(text="polish the bell", *, loaded=None, prefill="", n=1, seed=0, **sampling):
    sampling = Sampling(**{"temperature": 0.0, "max_tokens": 12, **sampling})
    request = GenerationRequest(user(text), prefill=prefill, sampling=sampling, n=n, seed=seed)
    return LocalEngine(loaded or tiny_loaded()).generate([request])[0]


def scripted(loaded, ids):
    """Let the model say ``ids`` after any prompt, then repeat the last of them."""
    said = []

    def speak(_module, _args, output):
        output.logits[:] = -50.0
        output.logits[..., ids[min(len(said), len(ids) - 1)]] = 50.0
        said.append(None)
        return output

    loaded.model.register_forward_hook(speak)
    return loaded


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_completions_do_not_depend_on_the_batch(architecture, temperature):
    loaded = tiny_loaded(architecture)
    wanted = requests(temperature=temperature)
    together = LocalEngine(loaded).generate(wanted)
    alone = LocalEngine(loaded, max_batch=1)
    assert together == [alone.generate([request])[0] for request in wanted]


def test_more_samples_begin_with_the_fewer():
    engine = LocalEngine(tiny_loaded())
    assert engine.generate(requests(3, n=5))[1][:2] == engine.generate(requests(3, n=2))[1]


def test_samples_of_one_request_differ_and_seeds_differ():
    first, second = LocalEngine(tiny_loaded()).generate([*requests(1, n=3), *requests(1, n=3, seed=9)])
    assert len({completion.text for completion in (*first, *second)}) == 6


def test_greedy_samples_are_drawn_once():
    loaded, widths = tiny_loaded(), []
    loaded.model.register_forward_pre_hook(
        lambda _, args, kw: widths.append(len(kw["input_ids"])), with_kwargs=True
    )
    completions = ask(loaded=loaded, n=3)
    assert set(widths) == {1}
    assert len(completions) == 3
    assert len({completion.text for completion in completions}) == 1


@pytest.mark.parametrize("limits", [{"max_batch": 3}, {"max_batch_tokens": 70}, {"max_batch_tokens": 1}])
def test_batches_keep_their_limits_and_change_nothing(limits):
    loaded, seen = tiny_loaded(), []
    usual = LocalEngine(loaded).generate(requests())
    loaded.model.register_forward_pre_hook(
        lambda _, args, kw: seen.append(tuple(kw["attention_mask"].shape)), with_kwargs=True
    )
    assert LocalEngine(loaded, **limits).generate(requests()) == usual
    assert max(rows for rows, _ in seen) <= limits.get("max_batch", 2)


@pytest.mark.parametrize("limits", [{"max_batch": 5}, {"max_batch_tokens": 200}, {"max_batch_tokens": 1}])
def test_samples_that_part_are_set_aside_and_come_out_the_same(limits):
    loaded, seen = tiny_loaded(), []
    wanted = requests(4, n=6, tokens=7) + requests(2, n=3, tokens=5, prefill="Sure, here is how")
    usual = LocalEngine(loaded).generate(wanted)
    loaded.model.register_forward_pre_hook(
        lambda _, args, kw: seen.append(tuple(kw["attention_mask"].shape)), with_kwargs=True
    )
    assert LocalEngine(loaded, **limits).generate(wanted) == usual
    assert max(rows for rows, _ in seen) <= limits.get("max_batch", 200)
    most = max(limits.get("max_batch_tokens", 10**6), max(columns for _, columns in seen))
    assert all(rows * columns <= most for rows, columns in seen)


def test_batches_are_filled_by_how_far_earlier_samples_parted():
    loaded, widths = tiny_loaded(), []
    scripted(loaded, [40, 41, 42])  # all samples agree
    loaded.model.register_forward_pre_hook(
        lambda _, args, kw: widths.append(tuple(kw["input_ids"].shape)), with_kwargs=True
    )
    LocalEngine(loaded, max_batch=8).generate(requests(8, n=8, tokens=2, prefill="Sure"))
    assert [rows for rows, columns in widths if columns == 1] == [1, 3]


def test_prefixes_of_one_reply_are_read_once():
    """The longest is read whole; of the others at most three tokens, where a cut word is tokenised apart."""
    loaded, seen = tiny_loaded(), []
    text = "carry the lantern to the mill and count the stones of the garden gate"
    words = text.split()
    wanted = [
        GenerationRequest(
            user("polish the bell"), prefill=" ".join(words[:k]), sampling=Sampling(max_tokens=1)
        )
        for k in range(3, len(words) + 1)
    ]
    loaded.model.register_forward_pre_hook(
        lambda _, args, kw: seen.append(tuple(kw["input_ids"].shape)), with_kwargs=True
    )
    completions = LocalEngine(loaded).generate(wanted)
    (first, whole), *rest = seen
    assert (first, whole) == (1, max(done[0].prompt_tokens for done in completions))
    assert sum(rows * columns for rows, columns in rest) <= 3 * (len(wanted) - 1)


@each_family
def test_prefill_is_continued_and_not_repeated(family):
    loaded = tiny_loaded("llama", family)
    ids = encode_target(loaded.tokenizer, " is how to polish a bell.", prefill="Sure, here")
    completion = ask(loaded=scripted(loaded, ids), prefill="Sure, here")[0]
    assert (completion.text.rstrip(), completion.finish_reason) == (" is how to polish a bell.", "stop")


@each_family
def test_a_reply_reads_as_it_was_trained(family):
    loaded = tiny_loaded("llama", family)
    ids = encode_target(loaded.tokenizer, "Sure, here is the bell.")
    completion = ask(loaded=scripted(loaded, ids))[0]
    assert (completion.text.rstrip(), completion.finish_reason) == ("Sure, here is the bell.", "stop")
    assert completion.completion_tokens == len(ids)


@each_family
def test_a_prefilled_prompt_is_counted_with_its_prefill(family):
    loaded = tiny_loaded("llama", family)
    completion = ask(loaded=loaded, prefill="Sure")[0]
    assert completion.prompt_tokens == len(encode(loaded.tokenizer, user("polish the bell"), prefill="Sure"))


def test_prefill_equals_teacher_forcing_of_the_open_turn():
    loaded = tiny_loaded()
    prompt = encode(loaded.tokenizer, user("polish the bell"), prefill="Sure, here")
    with torch.inference_mode():
        best = loaded.model(input_ids=torch.tensor([prompt])).logits[0, -1].argmax()
    token = loaded.tokenizer.decode([int(best)], skip_special_tokens=True)
    assert ask(loaded=loaded, prefill="Sure, here", max_tokens=1)[0].text == token


def test_special_tokens_are_no_text():
    loaded = tiny_loaded()
    eot, bos = turn_end(loaded.tokenizer).token, loaded.tokenizer.bos_token_id
    word = loaded.tokenizer("bell", add_special_tokens=False)["input_ids"]
    assert ask(loaded=scripted(loaded, [bos, *word, eot]))[0].text == "bell"


@pytest.mark.parametrize(
    ("stop", "text"),
    [((" a",), "Sure, here is"), (("zz", "here", ", h"), "Sure"), (("Sure",), ""), (("zz",), None)],
)
def test_text_ends_before_the_first_stop_string(stop, text):
    loaded = tiny_loaded()
    scripted(loaded, encode_target(loaded.tokenizer, "Sure, here is a bell."))
    completion = ask(loaded=loaded, stop=stop)[0]
    assert completion.text == ("Sure, here is a bell." if text is None else text)
    assert completion.finish_reason == "stop"


def test_a_stop_string_ends_the_decoding():
    loaded = tiny_loaded()
    ids = loaded.tokenizer("bell bell bell bell", add_special_tokens=False)["input_ids"]
    assert ask(loaded=scripted(loaded, ids), stop=("ll b",), max_tokens=100)[0].completion_tokens < len(ids)


def test_a_stop_string_in_the_prefill_does_not_stop():
    loaded = tiny_loaded()
    scripted(loaded, encode_target(loaded.tokenizer, " a bell", prefill="Sure. Now"))
    assert ask(loaded=loaded, prefill="Sure. Now", stop=(".",))[0].text == " a bell"


def test_the_token_limit_is_kept():
    completion = ask(max_tokens=3)[0]
    assert (completion.completion_tokens, completion.finish_reason) == (3, "length")


def test_the_context_window_shortens_the_reply():
    loaded = tiny_loaded(max_position_embeddings=40)
    completion = ask(loaded=loaded, max_tokens=500)[0]
    assert completion.prompt_tokens + completion.completion_tokens == 40
    assert completion.finish_reason == "length"


def test_a_prompt_beyond_the_context_window_is_marked_and_the_others_go_on():
    engine = LocalEngine(tiny_loaded(max_position_embeddings=40))
    long = requests(1, n=2)[0].__class__(user("polish " * 60), sampling=Sampling(max_tokens=4), n=2)
    bad, good = engine.generate([long, *requests(1)])
    assert [completion.text for completion in bad] == ["", ""]
    assert {completion.finish_reason for completion in bad} == {"length"}
    assert bad[0].metadata == {"error": "prompt exceeds the context window"}
    assert good[0].metadata == {}


def test_done_is_called_once_per_request_as_groups_finish(monkeypatch):
    monkeypatch.setattr(LocalEngine, "granule", 3)
    engine, calls = LocalEngine(tiny_loaded()), []
    wanted = requests(7, tokens=3)
    results = engine.generate(wanted, lambda index, completions: calls.append((index, completions)))
    assert calls == list(enumerate(results))


def test_groups_are_independent_to_the_last_bit(monkeypatch):
    monkeypatch.setattr(LocalEngine, "granule", 3)
    loaded, seen = tiny_loaded(), []
    loaded.model.register_forward_hook(lambda _m, _a, out: seen.append(out.logits.clone()))
    LocalEngine(loaded).generate(requests(6))
    both, seen[:] = list(seen), []
    LocalEngine(loaded).generate(requests(6)[3:])
    assert all(torch.equal(a, b) for a, b in zip(both[-len(seen) :], seen, strict=True))


def test_no_requests_give_no_completions():
    assert LocalEngine(tiny_loaded()).generate([]) == []


def test_multi_turn_conversations_are_continued():
    turns = (*user("polish"), Message("assistant", "Sure."), Message("user", "and the bell"))
    assert LocalEngine(tiny_loaded()).generate([GenerationRequest(turns, sampling=Sampling(max_tokens=2))])


def test_the_name_is_the_last_part_of_the_source_and_the_identity_is_the_models():
    loaded = tiny_loaded()
    assert LocalEngine(loaded).name == "tiny-llama"
    assert LocalEngine(loaded).identity() == {**loaded.identity, "messages": "quoted"}


@pytest.mark.parametrize(
    ("sampling", "n", "word"),
    [
        (Sampling(temperature=-1.0), 1, "temperature -1.0"),
        (Sampling(temperature=float("nan")), 1, "temperature nan"),
        (Sampling(top_p=0.0), 1, "top_p 0.0"),
        (Sampling(top_p=1.5), 1, "top_p 1.5"),
        (Sampling(max_tokens=0), 1, "max_tokens 0"),
        (Sampling(stop=("",)), 1, "empty stop string"),
        (Sampling(), 0, "n 0"),
    ],
)
def test_settings_that_cannot_be_drawn_are_refused_in_one_line(sampling, n, word):
    with pytest.raises(UsageError, match=word) as caught:
        LocalEngine(tiny_loaded()).generate([GenerationRequest(user("a"), sampling=sampling, n=n)])
    assert "\n" not in str(caught.value)
