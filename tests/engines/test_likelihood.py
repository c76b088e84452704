"""What texts cost a model: equal to a token-by-token sum, whatever the batches."""

import pytest
import torch

from toxoid.config.recipe import ModelSection
from toxoid.data.schemas import user
from toxoid.data.texts import HeldOutText
from toxoid.engines.likelihood import _tokens, predict
from toxoid.loop import models

REPLIES = [
    HeldOutText(
        "a", "First you take the lamp, then you carry it to the tower.", user("How do I mend the lamp?")
    ),
    HeldOutText("b", "You ask the keeper.", user("How do I light the tower?")),
    HeldOutText("c", "the lamp of the tower and the bell of the tower"),
]


@pytest.fixture(scope="module")
def lab():
    return models.load(ModelSection())


def slowly(loaded, text):
    """Sum -log p of each target token after everything before it, one forward pass per token."""
    head, target = _tokens(loaded.tokenizer, text)
    total = 0.0
    for place, token in enumerate(target):
        ids = torch.tensor([head + target[:place]])
        with torch.inference_mode():
            total -= float(loaded.model(ids).logits[0, -1].log_softmax(-1)[token])
    return total, len(target)


def test_costs_are_those_of_one_token_after_the_other(lab):
    for text, found in zip(REPLIES, predict(lab, REPLIES, window=512), strict=True):
        nats, tokens = slowly(lab, text)
        assert found.nats == pytest.approx(nats, rel=1e-4)
        assert (found.tokens, found.bytes) == (tokens, len(text.text.encode()))


def test_the_company_of_a_text_changes_nothing(lab):
    alone = [predict(lab, [text], window=512)[0].nats for text in REPLIES]
    assert [found.nats for found in predict(lab, REPLIES, window=512)] == pytest.approx(alone, rel=1e-4)


def test_windows_score_every_token_once(lab):
    text = HeldOutText("long", " ".join(["the lamp of the tower"] * 30))
    whole, cut = (predict(lab, [text], window=size)[0] for size in (512, 32))
    assert cut.tokens == whole.tokens
    assert cut.nats == pytest.approx(whole.nats, rel=0.5)


def test_progress_counts_the_windows(lab):
    told = []
    predict(lab, REPLIES, window=512, on_done=told.append)
    assert sum(told) == len(REPLIES)


def test_an_empty_text_costs_nothing(lab):
    assert predict(lab, [HeldOutText("none", "")], window=64)[0].tokens == 0
