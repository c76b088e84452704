"""GCG: the adapter of nanogcg, with a stand-in for the package, and with the package where it is."""

import importlib.metadata
import random
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.helpers.playing import questions, said
from tests.helpers.tiny_models import tiny_loaded
from toxoid.attacks.gcg import GCG, SearchSettings, SuffixSearch
from toxoid.attacks.interactive import Ask, Consult
from toxoid.attacks.prefill import MAX_WORDS
from toxoid.data.schemas import Request, user
from toxoid.engines.base import GenerationRequest
from toxoid.errors import UsageError

REQUEST = Request("set/1", "Which oath is false?", target="Sure. The false oath " + "is " * 60)
FEW = SearchSettings(steps=2, candidates=6, topk=8, suffix=" x x", early_stop=False)


@pytest.fixture
def package(monkeypatch):
    """A stand-in that keeps what it was given, and disturbs what the package disturbs."""
    calls = []

    def run(model, tokenizer, messages, target, config):
        random.seed(config.seed)
        np.random.seed(config.seed)
        torch.manual_seed(config.seed)
        torch.use_deterministic_algorithms(True, warn_only=True)
        sys.stderr.write("a progress bar\n")
        calls.append((messages, target, config))
        return SimpleNamespace(best_string=f" !{config.seed % 7}", best_loss=0.5, losses=[1.0, 0.5, 0.6])

    stand_in = SimpleNamespace(run=run, GCGConfig=lambda **given: SimpleNamespace(**given), calls=calls)
    monkeypatch.setitem(sys.modules, "nanogcg", stand_in)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0")
    monkeypatch.setattr("toxoid.attacks.gcg.version", lambda name: "0")
    return stand_in


def loaded():
    return SimpleNamespace(
        model=None, tokenizer=lambda text, **_: {"input_ids": text.split()}, source="m", identity={"w": 1}
    )


def test_the_suffix_found_is_asked_of_the_target():
    asked = questions(GCG(), REQUEST, lambda question, number: said(" !! ??"))
    assert [type(question) for question in asked] == [Consult, Ask]
    assert asked[1].conversation == user(REQUEST.prompt + " !! ??")


def test_the_search_aims_at_the_first_words_of_the_target():
    consult = questions(GCG(), REQUEST, lambda question, number: said("!"))[0]
    assert consult.conversation == user(REQUEST.prompt)
    assert consult.prefill.split() == REQUEST.target.split()[:MAX_WORDS]


def test_without_a_target_the_search_aims_at_an_opener():
    consult = questions(GCG(), Request("set/2", "x"), lambda question, number: said("!"))[0]
    assert consult.prefill


def test_no_suffix_no_question():
    assert len(questions(GCG(), REQUEST, lambda question, number: said(""))) == 1


def test_package_gets_conversation_beginning_and_settings(package):
    request = GenerationRequest(user("ask"), prefill="Sure", seed=2**40 + 5)
    heard = []
    (found,) = SuffixSearch(loaded(), FEW).generate([request], lambda *told: heard.append(told))
    ((messages, target, config),) = package.calls
    assert (messages, target) == ([{"role": "user", "content": "ask"}], "Sure")
    assert (config.num_steps, config.search_width, config.topk, config.optim_str_init) == (2, 6, 8, " x x")
    assert 0 <= config.seed < 2**32
    assert found[0].prompt_tokens == 3 * 6
    assert found[0].metadata == {"loss": 0.5, "steps": 3}
    assert heard == [(0, found)]


def test_search_leaves_random_states_settings_and_terminal_alone(package, capsys):
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    strict = torch.are_deterministic_algorithms_enabled()
    SuffixSearch(loaded(), FEW).generate([GenerationRequest(user("ask"), prefill="Sure")])
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
    assert torch.are_deterministic_algorithms_enabled() == strict
    assert capsys.readouterr().err == ""


def test_identity_depends_on_weights_and_settings(package):
    one, other = SuffixSearch(loaded(), FEW), SuffixSearch(loaded())
    assert one.identity() != other.identity()
    assert one.identity()["model"] == {"w": 1}


def test_an_endpoint_has_no_weights_to_search(package):
    with pytest.raises(UsageError, match="checkpoint folder"):
        SuffixSearch(None)


def test_a_missing_package_is_told_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "nanogcg", None)
    with pytest.raises(UsageError, match="pip install --no-deps nanogcg"):
        SuffixSearch(loaded())


def test_the_package_itself_finds_a_suffix_and_the_same_again():
    pytest.importorskip("nanogcg")
    search = SuffixSearch(tiny_loaded(), FEW)
    request = GenerationRequest(user("ask"), prefill="Sure", seed=1)
    ((one,),), ((two,),) = search.generate([request]), search.generate([request])
    assert one == two
    assert one.text
    assert one.metadata["steps"] == 2
