from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from toxoid.progress import SILENT
from toxoid.store.records import Records
from toxoid.training.preference import Objective
from toxoid.training.preference import reference as code
from toxoid.training.preference.attention import LayerKind
from toxoid.training.preference.batches import GroupCollator
from toxoid.training.preference.forward import Attention
from toxoid.training.preference.reference import KIND, reference_margins
from toxoid.training.preference.tokens import TokenisedGroup, tokenise_groups

from ..conftest import make_loaded
from .helpers import random_examples, reply_log_probabilities

EXAMPLES = random_examples(2, count=5)


def groups(count: int = 5) -> list[TokenisedGroup]:
    return list(tokenise_groups(EXAMPLES[:count], make_loaded().tokenizer, Objective(), 200))


def margins(loaded: Any, given: Sequence[TokenisedGroup], store: Any = None, **more: Any) -> list[np.ndarray]:
    settings: dict[str, Any] = {"identity": loaded.identity, "bf16": False} | more
    return reference_margins(
        loaded.model,
        given,
        attention=Attention("sdpa", {"full_attention": LayerKind()}, torch.float32),
        collator=GroupCollator(pad=0, row_tokens=256, shared=True),
        batch_size=2,
        store=store,
        progress=SILENT,
        **settings,
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the replies of each forward pass."""
    counts: list[int] = []
    true = code.log_probabilities

    def counting(model: Any, head: Any, batch: Any, attention: Any) -> Any:
        counts.append(len(batch["reply_lengths"]))
        return true(model, head, batch, attention)

    monkeypatch.setattr(code, "log_probabilities", counting)
    return counts


def test_margins_are_differences_of_whole_replies():
    loaded = make_loaded()
    for example, found in zip(EXAMPLES, margins(loaded, groups()), strict=True):
        indices = range(len(example.group.replies))
        sums = [reply_log_probabilities(loaded.model, loaded, example.group, i).sum().item() for i in indices]
        assert found == pytest.approx([sums[a] - sums[b] for a, b, _ in example.pairs], abs=1e-3)


def test_a_second_run_asks_nothing(asked: list[int], tmp_path: Path):
    loaded = make_loaded()
    with Records(tmp_path / "records.sqlite") as store:
        first = margins(loaded, groups(), store)
        total = sum(asked)
        again = margins(loaded, groups(), store)
        assert sum(asked) == total == store.count(KIND) == sum(len(group.replies) for group in groups())
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_what_is_there_after_a_kill_is_not_computed_again(asked: list[int], tmp_path: Path):
    loaded = make_loaded()
    with Records(tmp_path / "records.sqlite") as store:
        margins(loaded, groups(2), store)
        margins(loaded, groups(), store)
    assert sum(asked) == sum(len(group.replies) for group in groups())


def test_a_reply_that_two_groups_have_is_computed_once(asked: list[int]):
    loaded, given = make_loaded(), groups(1)
    found = margins(loaded, given * 3)
    assert sum(asked) == len(given[0].replies)
    assert np.array_equal(found[0], found[2])


@pytest.mark.parametrize("changed", [{"identity": {"weights": "others"}}, {"bf16": True}])
def test_sums_of_another_model_or_precision_are_others(
    asked: list[int], tmp_path: Path, changed: dict[str, Any]
):
    loaded, given = make_loaded(), groups(2)
    with Records(tmp_path / "records.sqlite") as store:
        margins(loaded, given, store)
        margins(loaded, given, store, **changed)
        assert store.count(KIND) == 2 * sum(len(group.replies) for group in given)
