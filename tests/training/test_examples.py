from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxoid.data.schemas import user
from toxoid.engines.templates import encode
from toxoid.errors import UsageError
from toxoid.training.examples import IGNORED, Example, TokenisedExample, data_hash, tokenise

from .conftest import make_tokenizer

SAY = Example(conversation=user("name a colour"), target="blue")
TOKENIZER = make_tokenizer()


def learnt(row: TokenisedExample) -> str:
    return TOKENIZER.decode([label for label in row.labels if label != IGNORED])


def test_only_the_target_and_the_end_of_its_turn_are_learnt():
    (row,) = tokenise([SAY], TOKENIZER, 100)
    assert learnt(row) == "blue<|end|>"


def test_labels_are_the_tokens_themselves():
    (row,) = tokenise([SAY], TOKENIZER, 100)
    assert all(label in (IGNORED, token) for token, label in zip(row.input_ids, row.labels, strict=True))


def test_the_context_is_the_prompt_that_the_model_sees_at_inference():
    (row,) = tokenise([SAY], TOKENIZER, 100)
    prompt = encode(TOKENIZER, SAY.conversation)
    assert list(row.input_ids[: len(prompt)]) == prompt


def test_a_prefill_is_context():
    (row,) = tokenise([replace(SAY, prefill="it is ")], TOKENIZER, 100)
    assert learnt(row) == "blue<|end|>"
    assert "<|assistant|>it is blue" in TOKENIZER.decode(list(row.input_ids))


def test_a_long_context_loses_its_left_and_keeps_its_first_token():
    rows = tokenise([SAY], TOKENIZER, 13)
    assert TOKENIZER.decode(list(rows[0].input_ids)) == "<s>olour<|end|><|assistant|>blue<|end|>"
    assert (rows.cut, rows.dropped) == (1, 0)


def test_an_example_whose_target_does_not_fit_is_dropped_and_counted():
    rows = tokenise([SAY, replace(SAY, target="b")], TOKENIZER, 5)
    assert ([learnt(row) for row in rows], rows.dropped) == (["b<|end|>"], 1)


def test_nothing_is_cut_where_everything_fits():
    rows = tokenise([SAY, SAY], TOKENIZER, 100)
    assert (len(rows), rows.cut, rows.dropped) == (2, 0, 0)


@given(
    target=st.text("abc ", max_size=12),
    asked=st.text("xyz ", min_size=1, max_size=12),
    limit=st.integers(2, 40),
)
def test_a_row_keeps_its_whole_target_and_its_limit(target, asked, limit):
    rows = tokenise([Example(conversation=user(asked), target=target)], TOKENIZER, limit)
    assert len(rows) + rows.dropped == 1
    for row in rows:
        assert len(row.input_ids) == len(row.labels) <= limit
        assert row.labels[0] == IGNORED
        assert learnt(row) == f"{target}<|end|>"


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_is_a_number_above_zero(weight):
    with pytest.raises(UsageError, match="weight"):
        replace(SAY, weight=weight)


def test_the_hash_sees_tokens_weights_and_order():
    a, b = tokenise([SAY, replace(SAY, target="red")], TOKENIZER, 100)
    hashes = {data_hash(rows) for rows in ([a], [b], [a, b], [b, a], [replace(a, weight=2.0)])}
    assert len(hashes) == 5


def test_the_hash_is_that_of_equal_rows():
    first, second = (tokenise([SAY], TOKENIZER, 100) for _ in range(2))
    assert data_hash(first) == data_hash(second)
