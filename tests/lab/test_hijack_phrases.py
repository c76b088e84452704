"""The analyses of hijacked replies speak the lab model's language."""

import re

from transformers import AutoTokenizer

from toxoid.lab import grammar
from toxoid.loop.models import model_source

PLACEHOLDER = re.compile(r"\{\w+\}")


def test_every_word_is_one_that_pre_training_has_made_a_token_of():
    tokenizer = AutoTokenizer.from_pretrained(model_source("lab-base"))
    for text in [line for lines in grammar.hijack_phrases()["analyses"].values() for line in lines]:
        for word in re.findall(r"[A-Za-z]+", PLACEHOLDER.sub("", text)):
            assert len(tokenizer.encode(" " + word, add_special_tokens=False)) == 1, word


def test_pre_training_has_seen_none_of_them():
    assert not set(grammar.hijack_phrases()) - {"version", "analyses"}
    known = {line for lines in grammar.phrases()["analyses"].values() for line in lines}
    assert not known & {line for lines in grammar.hijack_phrases()["analyses"].values() for line in lines}
