"""Inference: batches, windows, temperature and precision do not show in what comes out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engines.classifiers.tiny import (
    REPLIES,
    REQUESTS,
    TEXTS,
    taught,
    tiny_encoder,
    tiny_modules,
    tiny_words,
)
from toxoid.engines.classifiers.base import positive
from toxoid.engines.classifiers.inference import ModuleClassifier, joined, log_softmax
from toxoid.engines.classifiers.windows import Window

LONG = " ".join(TEXTS * 30)
MIXED = [*TEXTS, "", LONG, "\ud800 the fox", "fox"]
MODULES = pytest.mark.parametrize("kind", range(3), ids=["words", "encoder", "adapter"])


@MODULES
def test_batched_is_single_and_the_order_stays(kind):
    classifier = ModuleClassifier(tiny_modules()[kind], bf16=False)
    together = classifier.probabilities(MIXED)
    alone = np.concatenate([classifier.probabilities([text]) for text in MIXED])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(classifier.probabilities(MIXED[::-1]), together[::-1], atol=1e-5)


@MODULES
def test_rows_are_probabilities_or_nan(kind):
    found = ModuleClassifier(tiny_modules(REPLIES)[kind]).probabilities([(text, text) for text in MIXED])
    read = np.array([bool(text) for text in MIXED])
    assert np.isnan(found[~read]).all()
    np.testing.assert_allclose(found[read].sum(1), 1.0)
    assert found.shape == (len(MIXED), 3)


def test_no_texts_are_no_rows():
    assert ModuleClassifier(tiny_words()).probabilities([]).shape == (0, 2)


@pytest.mark.parametrize("depth", [0.0, 0.37, 0.99])
def test_a_sentence_deep_in_a_long_text_is_found(depth):
    module = taught(tiny_words(), "poison somebody quietly", strength=9.0)
    filling = "the fox carries a lantern to the mill and counts the stones. " * 1700
    at = int(len(filling) * depth)
    hidden = filling[:at] + " poison somebody quietly " + filling[at:]
    assert len(hidden) > 100_000
    plain, found = positive(REQUESTS, ModuleClassifier(module).probabilities([filling, hidden]))
    assert plain < 0.5 < 0.9 < found


def test_a_long_text_is_as_bad_as_its_worst_window():
    classifier = ModuleClassifier(tiny_encoder(window=Window(16, 0)), bf16=False)
    module = classifier.module
    rows = module.rows([LONG])
    with torch.inference_mode():
        each = torch.softmax(module(**module.collate(rows)), 1)[:, 1]
    assert positive(REQUESTS, classifier.probabilities([LONG]))[0] == pytest.approx(
        float(each.max()), abs=1e-5
    )


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=12),
    st.integers(0, 99),
    st.sampled_from([REQUESTS, REPLIES]),
)
def test_windows_are_joined_as_one_would_by_hand(owners, seed, labels):
    owners = sorted(owners)
    logits = np.random.default_rng(seed).normal(size=(len(owners), len(labels.names)))
    found = joined(logits, owners, 5, labels)
    for text in range(5):
        own = log_softmax(logits[np.array(owners) == text])
        if not len(own):
            assert np.isnan(found[text]).all()
        elif labels.anywhere:
            assert (found[text] == own[np.argmax(np.exp(own)[:, labels.columns].sum(1))]).all()
        else:
            np.testing.assert_allclose(found[text], log_softmax(own.mean(0, keepdims=True))[0])


def test_temperature_moves_towards_even_odds_and_keeps_the_order():
    module = tiny_encoder()
    cold = positive(REQUESTS, ModuleClassifier(module).probabilities(TEXTS))
    module.temperature = 4.0
    warm = positive(REQUESTS, ModuleClassifier(module).probabilities(TEXTS))
    assert (abs(warm - 0.5) < abs(cold - 0.5)).all()
    assert (cold.argsort() == warm.argsort()).all()


def test_log_probabilities_are_at_temperature_one():
    module = tiny_encoder()
    before = ModuleClassifier(module).log_probabilities(TEXTS)
    module.temperature = 4.0
    assert np.array_equal(ModuleClassifier(module).log_probabilities(TEXTS), before)


def test_bfloat16_is_close():
    module = tiny_encoder()
    exact, short = (ModuleClassifier(module, bf16=bf16).probabilities(TEXTS) for bf16 in (False, True))
    np.testing.assert_allclose(short, exact, atol=0.03)


def test_identity_tells_weights_labels_and_settings_apart():
    found = [
        ModuleClassifier(module).identity() for module in (tiny_encoder(), tiny_encoder(seed=1), tiny_words())
    ]
    warm = tiny_encoder()
    warm.temperature = 2.0
    adapted = [tiny_encoder(adapter=True), tiny_encoder(REPLIES), tiny_encoder(window=Window(24, 4)), warm]
    found += [ModuleClassifier(module).identity() for module in adapted]
    assert all(found[i] != found[j] for i in range(len(found)) for j in range(i))
    assert ModuleClassifier(tiny_encoder()).identity() == found[0]
