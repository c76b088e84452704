"""Pieces of a reply are never taken back, and together they are the completion."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.tiny_models import FAMILIES, tiny_loaded
from toxoid.data.schemas import user
from toxoid.engines.base import GenerationRequest, Sampling
from toxoid.engines.local import LocalEngine
from toxoid.serve.pieces import Pieces

TEXT = "the mill — 日本語 and 🦊 stones\n  by two, naïve é"


def engine_of(family):
    return LocalEngine(tiny_loaded("llama", family))


def told(engine, text, *, prefill="", stop=(), logprobs=None):
    """Let a model say ``text``, stop strings regarded; return the pieces and what the engine makes of the same."""
    ids = engine.loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
    sampling = Sampling(temperature=0.0, max_tokens=len(ids), stop=stop)
    asked = engine.prepare(GenerationRequest(user("x"), prefill=prefill, sampling=sampling))
    path = asked.continuations[0]
    pieces = Pieces(engine, asked, path, (0,), logprobs)
    logits = torch.zeros(len(engine.loaded.tokenizer))
    said = []
    for count in range(1, len(ids) + 1):
        stopped = path.stopped is not None and path.stopped(ids[:count])
        if stopped or count == len(ids):
            path.ids, path.finish = ids[:count], "stop" if stopped else "length"
        said.append(pieces.grow(ids[count - 1], logits))
        if path.finish:
            break
    return said, engine.completion(asked, path).text


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prefill", ["", "Sure, here"])
def test_all_pieces_together_are_the_completion(family, prefill):
    said, whole = told(engine_of(family), TEXT, prefill=prefill)
    assert "".join(text for text, _ in said) == whole


def test_most_tokens_are_told_at_once():
    said, _ = told(engine_of("chatml"), "the fox counts the stones and the fox counts the bells")
    assert all(text for text, _ in said)


def test_a_broken_character_is_told_when_it_is_whole():
    said, _ = told(engine_of("chatml"), "🦊")
    assert [text for text, _ in said] == ["", "", "", "🦊"]


@pytest.mark.parametrize("stop", [("stones",), ("stones and", "ones"), ("zzz", "mill")])
def test_nothing_of_a_stop_string_is_told(stop):
    said, whole = told(engine_of("chatml"), "the fox counts the stones and sleeps", stop=stop)
    assert "".join(text for text, _ in said) == whole
    assert not any(each in whole for each in stop)


def test_what_only_looks_like_a_stop_string_is_told_after_all():
    said, whole = told(engine_of("chatml"), "the stone sleeps", stop=("stones",))
    assert "".join(text for text, _ in said) == whole == "the stone sleeps"


def test_scores_come_with_the_text_of_their_tokens():
    said, whole = told(engine_of("chatml"), "the fox counts 🦊", logprobs=2)
    scores = [score for _, scores in said for score in scores]
    assert "".join(score.text for score in scores) == whole
    assert all(len(score.top) == 2 for score in scores)


def test_tokens_of_a_stop_string_have_no_scores():
    said, whole = told(engine_of("chatml"), "the fox counts the stones", stop=(" stones",), logprobs=0)
    assert "".join(score.text for _, scores in said for score in scores) == whole == "the fox counts the"
