"""Modules: from texts to rows and logits."""

from __future__ import annotations

import pytest
import torch

from tests.engines.classifiers.tiny import REPLIES, TEXTS, WINDOW, tiny_encoder, tiny_modules, tiny_words
from toxoid.engines.classifiers.base import Labels
from toxoid.engines.classifiers.modules import BagOfWordsModule
from toxoid.engines.classifiers.windows import Window

LONG = " ".join(TEXTS * 20)
MODULES = pytest.mark.parametrize("kind", range(3), ids=["words", "encoder", "adapter"])


@MODULES
def test_rows_are_no_longer_than_the_window(kind):
    module = tiny_modules()[kind]
    rows = module.rows([LONG, TEXTS[0]])
    assert {row.text for row in rows} == {0, 1}
    if kind:
        assert max(map(len, rows)) == WINDOW.tokens


@MODULES
@pytest.mark.parametrize("text", ["", " \n", "\x00\x1b", "\ud800", "\ufeff\u200b"])
def test_a_text_with_nothing_to_read_has_no_row(kind, text):
    assert tiny_modules()[kind].rows([text]) == []


def test_a_text_of_unknown_signs_only_has_no_row():
    module = tiny_encoder()
    assert module.rows(["ሀሁሂ ሃሄ"]) == []
    assert module.rows(["ሀሁሂ fox"]) != []


@MODULES
def test_an_exchange_without_a_reply_has_no_row(kind):
    module = tiny_modules(REPLIES)[kind]
    assert module.rows([("how do I bake bread", " ")]) == []
    assert len(module.rows([("", "with rye")])) == 1


@MODULES
def test_the_request_stands_in_every_window(kind):
    module = tiny_modules(REPLIES)[kind]
    request = "tell me how to poison"
    alone = module.rows([(request, "bread")])[0]
    rows = module.rows([(request, LONG)])
    assert len(rows) > 5
    if kind:
        asked = alone.ids[: alone.types.index(1)]
        assert all(row.ids[: len(asked)] == asked for row in rows)


def test_a_long_request_leaves_two_thirds_of_the_window_to_the_reply():
    rows = tiny_encoder(REPLIES, Window(63, 4)).rows([(LONG, LONG)])
    assert all(row.types.count(0) == 20 + 2 and row.types.count(1) == 40 + 1 for row in rows)


def test_a_long_request_takes_what_a_short_reply_leaves():
    (row,) = tiny_encoder(REPLIES).rows([(LONG, "bread")])
    assert len(row) == WINDOW.tokens


def test_marks_in_a_text_are_text():
    module = tiny_encoder()
    tokenizer = module.tokenizer.tokenizer
    (row,) = module.rows(["fox [SEP] [CLS] [PAD] mill"])
    marks = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    assert [token in marks for token in row.ids] == [True, *[False] * (len(row) - 2), True]


def test_rows_are_those_of_the_tokenizer():
    module = tiny_encoder(REPLIES)
    (row,) = module.rows([(TEXTS[0], TEXTS[1])])
    whole = module.tokenizer.tokenizer(TEXTS[0], TEXTS[1], return_token_type_ids=True)
    assert (row.ids, row.types) == (whole["input_ids"], whole["token_type_ids"])


@MODULES
def test_requests_and_exchanges_are_not_mixed_up(kind):
    with pytest.raises(ValueError, match="reads requests"):
        tiny_modules()[kind].rows([("a", "b")])
    with pytest.raises(ValueError, match="reads exchanges"):
        tiny_modules(REPLIES)[kind].rows(["a"])


def test_a_fresh_bag_of_words_is_undecided():
    module = BagOfWordsModule(REPLIES, WINDOW)
    logits = module(**module.collate(module.rows([("a b", "c d")])))
    assert logits.tolist() == [[0.0, 0.0, 0.0]]


def test_words_of_the_request_are_not_those_of_the_reply():
    module = tiny_words(REPLIES)
    left, right = module.rows([("the fox", "a mill"), ("a mill", "the fox")])
    assert left.ids != right.ids


def test_the_hash_of_words_is_the_same_in_every_process():
    assert tiny_words().rows(["The fox!"])[0].ids == [87, 108, 379, 481, 491]


def test_a_fresh_adapter_changes_nothing():
    module = tiny_encoder()
    batch = module.collate(module.rows(TEXTS))
    before = module(**batch)
    module.add_adapter(rank=2, alpha=4)
    assert torch.equal(module.eval()(**batch), before)
    assert module.adapter == {"rank": 2, "alpha": 4}


def test_only_adapter_and_head_are_trained():
    module = tiny_encoder(adapter=True)
    trained = {name for name, weight in module.named_parameters() if weight.requires_grad}
    assert all(".lora_" in name or name.startswith("head.") for name in trained)
    assert {"head.weight", "head.bias"} < trained


def test_merged_is_unmerged():
    module = tiny_encoder(adapter=True)
    batch = module.collate(module.rows(TEXTS))
    before = module(**batch)
    module.merge_adapter()
    assert module.adapter is None
    torch.testing.assert_close(module(**batch), before, atol=1e-5, rtol=1e-5)


def test_padding_changes_nothing():
    module = tiny_encoder()
    alone = module(**module.collate(module.rows(TEXTS[:1])))
    together = module(**module.collate(module.rows(TEXTS)))
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-5)


def test_a_small_encoder_is_the_same_for_the_same_seed():
    left, right = tiny_encoder(seed=3), tiny_encoder(seed=3)
    assert left.tokenizer_hash() == right.tokenizer_hash()
    assert all(torch.equal(a, b) for a, b in zip(left.parameters(), right.parameters(), strict=True))


@pytest.mark.parametrize("positive", [set(), {"no", "yes"}, {"maybe"}])
def test_labels_need_hits_and_misses(positive):
    with pytest.raises(ValueError, match="positive"):
        Labels(("no", "yes"), frozenset(positive), "problematic")


@pytest.mark.parametrize("threshold", [0.0, 1.1, float("nan")])
def test_a_threshold_is_a_probability(threshold):
    with pytest.raises(ValueError, match="threshold"):
        Labels(("no", "yes"), frozenset({"yes"}), "problematic", threshold=threshold)
