"""Tests of safe decoding."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.helpers.tiny_models import ARCHITECTURES, tiny_loaded
from toxoid.data.schemas import user
from toxoid.engines.base import GenerationRequest, Sampling
from toxoid.engines.local import LocalEngine
from toxoid.engines.safe_decoding import SafeDecodingEngine, guided

ASKS = ["polish", "polish the bell", "count the stones of the mill and carry the lantern", "paint"]


def requests(count=6, *, temperature=1.0, n=2, tokens=6, **sampling):
    drawn = Sampling(temperature=temperature, max_tokens=tokens, **sampling)
    return [GenerationRequest(user(ASKS[i % 4]), sampling=drawn, n=n, seed=i) for i in range(count)]


def logits(*probabilities):
    return torch.tensor([probabilities]).log()


def test_a_step_by_hand():
    """Top 1: {0} and {2}; top 2: {0, 1} and {2, 1}, which share token 1; top 3: {0, 1, 2} twice.

    With c = 2 the space is {0, 1, 2}. P = p + 2 (q - p) = (.5 - .8, .3 + 0, .15 + .9) = (-.3, .3, 1.05), that is
    (0, .3, 1.05) / 1.35.
    """
    found = guided(logits(0.5, 0.3, 0.15, 0.05), logits(0.1, 0.3, 0.6, 0.0), alpha=2.0, candidates=2).exp()
    assert found[0].tolist() == pytest.approx([0.0, 0.3 / 1.35, 1.05 / 1.35, 0.0], abs=1e-6)


def test_a_single_candidate_is_the_first_that_both_models_reach():
    found = guided(logits(0.5, 0.3, 0.15, 0.05), logits(0.1, 0.3, 0.6, 0.0), alpha=2.0, candidates=1).exp()
    assert found[0].tolist() == pytest.approx([0.0, 1.0, 0.0, 0.0])


def test_where_nothing_is_left_the_expert_decides():
    """The expert's mass lies on token 3, outside of the space {0, 1}, on which it has less than 2/3 of the base's."""
    base, expert = logits(0.6, 0.39, 0.01, 0.0), logits(0.2, 0.1, 0.0, 0.7)
    found = guided(base, expert, alpha=3.0, candidates=2).exp()
    assert found[0].tolist() == pytest.approx([2 / 3, 1 / 3, 0.0, 0.0], abs=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_an_expert_that_is_the_base_leaves_its_probabilities_on_the_space(alpha):
    base = torch.randn(4, 20, generator=torch.Generator().manual_seed(0))
    found = guided(base, base.clone(), alpha=alpha, candidates=5).exp()
    best = base.topk(5).indices
    wanted = torch.zeros_like(base).scatter(-1, best, base.softmax(-1).gather(-1, best))
    assert torch.allclose(found.float(), wanted / wanted.sum(-1, keepdim=True), atol=1e-6)


def test_the_space_is_the_smallest_common_top_k():
    generator = torch.Generator().manual_seed(3)
    base, expert = torch.randn(2, 30, 40, generator=generator)
    found = guided(base, expert, alpha=0.0, candidates=5) > -torch.inf
    for row in range(30):
        tops = [logits[row].argsort(descending=True).tolist() for logits in (base, expert)]
        shared = next(both for k in range(1, 41) if len(both := set(tops[0][:k]) & set(tops[1][:k])) >= 5)
        assert set(found[row].nonzero().flatten().tolist()) == shared


def test_numbers_that_are_none_stay_visible():
    broken = torch.tensor([[float("nan"), 0.0, 1.0]])
    assert guided(broken, torch.zeros(1, 3), alpha=3.0, candidates=2).isnan().any()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_without_strength_and_limits_it_is_the_base_model(architecture, temperature):
    base, expert = tiny_loaded(architecture), tiny_loaded(architecture, seed=1)
    wanted = requests(temperature=temperature, top_p=0.9)
    everything = len(base.tokenizer)
    engine = SafeDecodingEngine(base, expert, alpha=0.0, candidates=everything)
    assert engine.generate(wanted) == LocalEngine(base).generate(wanted)


def test_an_expert_that_is_the_base_changes_no_greedy_reply():
    base = tiny_loaded()
    wanted = requests(temperature=0.0)
    assert SafeDecodingEngine(base, tiny_loaded()).generate(wanted) == LocalEngine(base).generate(wanted)


def test_the_expert_guides_the_first_tokens_only():
    base, expert = tiny_loaded(), tiny_loaded(seed=1)
    seen = []
    expert.model.register_forward_hook(lambda *_: seen.append(None))
    (done,) = SafeDecodingEngine(base, expert, first=3).generate(requests(1, n=1, temperature=0.0))
    assert len(seen) == 3
    assert done[0].completion_tokens == 6
    assert done != LocalEngine(base).generate(requests(1, n=1, temperature=0.0))[0]


def test_completions_do_not_depend_on_the_batch():
    base, expert = tiny_loaded(), tiny_loaded(seed=1)
    wanted = requests(9, n=3)
    alone = SafeDecodingEngine(base, expert, max_batch=1)
    assert SafeDecodingEngine(base, expert).generate(wanted) == [
        alone.generate([request])[0] for request in wanted
    ]


def test_a_reply_may_end_while_it_is_guided():
    base, expert = tiny_loaded(), tiny_loaded(seed=1)
    engine = SafeDecodingEngine(base, expert, first=4)
    (short,) = engine.generate(requests(1, n=1, tokens=2))
    assert (short[0].finish_reason, short[0].completion_tokens) == ("length", 2)
    text = engine.generate(requests(1, n=1, tokens=4))[0][0].text
    (stopped,) = engine.generate(requests(1, n=1, tokens=4, stop=(text[:2],)))
    assert (stopped[0].finish_reason, stopped[0].text) == ("stop", "")


def test_streaming_gives_the_same_completions():
    engine = SafeDecodingEngine(tiny_loaded(), tiny_loaded(seed=1))
    request = requests(1, n=3)[0]
    done = engine.generate([request])[0]
    assert [(piece.text, piece.finish) for piece in engine.stream(request)] == [
        (each.text, each.finish_reason) for each in done
    ]


def test_identity_names_expert_and_settings():
    base, expert = tiny_loaded(), tiny_loaded(seed=1)
    other = replace(expert, identity={**expert.identity, "adapter": "another"})
    found = [
        SafeDecodingEngine(base, expert),
        SafeDecodingEngine(base, other),
        SafeDecodingEngine(base, expert, alpha=2.0),
        SafeDecodingEngine(base, expert, first=3),
        SafeDecodingEngine(base, expert, candidates=4),
        LocalEngine(base),
    ]
    assert len({str(engine.identity()) for engine in found}) == len(found)
