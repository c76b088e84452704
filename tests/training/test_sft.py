from __future__ import annotations

import gc
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

from toxoid.data.schemas import user
from toxoid.errors import UsageError
from toxoid.progress import SilentProgress
from toxoid.training.artifacts import FACTS, Card, TrainingResult
from toxoid.training.batches import epoch_order
from toxoid.training.examples import IGNORED, Example, tokenise
from toxoid.training.sft import SFTConfig, steps_for, train_sft
from toxoid.training.trainer import Diverged

from .conftest import Loaded, make_examples, make_loaded

FAST = SFTConfig(mode="full", learning_rate=1e-2, epochs=2, batch_size=4, save_steps=0, bf16=False)


class Recorder(SilentProgress):
    """Counts what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.done = 0
        self.total = 0

    @contextmanager
    def task(self, name: str, total: int, unit: str = "items") -> Iterator[Recorder]:
        self.total = total
        yield self

    def advance(self, count: int = 1) -> None:
        self.done += count

    def note(self, text: str) -> None:
        self.notes.append(text)


def train(
    loaded: Any, examples: list[Example], config: SFTConfig, folder: Path, **more: Any
) -> TrainingResult:
    given: dict[str, Any] = {"progress": SilentProgress(), "checkpoints": folder / "checkpoints"} | more
    return train_sft(loaded, examples, config, output=folder / "out", **given)


def weights(result: TrainingResult) -> dict[str, torch.Tensor]:
    name = "adapter_model.safetensors" if result.kind == "adapter" else "model.safetensors"
    return load_file(result.path / name)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def plain_losses(loaded: Loaded, examples: list[Example], config: SFTConfig) -> list[float]:
    """Return the losses of a bare loop over the same batches: the model's own loss, AdamW, no schedule."""
    model = AutoModelForCausalLM.from_config(loaded.model.config)
    model.load_state_dict(loaded.model.state_dict())
    rows = tokenise(examples, loaded.tokenizer, config.max_length)
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.0)
    order = epoch_order([len(row.input_ids) for row in rows], batch_size=config.batch_size, seed=0, epoch=0)
    losses = []
    for start in range(0, len(order), config.batch_size):
        batch = [rows[i] for i in order[start : start + config.batch_size]]
        longest = max(len(row.input_ids) for row in batch)
        pads = [longest - len(row.input_ids) for row in batch]
        ids = torch.tensor([[*row.input_ids, *[0] * pad] for row, pad in zip(batch, pads, strict=True)])
        labels = torch.tensor([[*row.labels, *[IGNORED] * pad] for row, pad in zip(batch, pads, strict=True)])
        mask = torch.tensor([[1] * len(r.input_ids) + [0] * pad for r, pad in zip(batch, pads, strict=True)])
        loss = model(input_ids=ids, labels=labels, attention_mask=mask).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    return losses


def test_training_lowers_the_loss(loaded: Loaded, tmp_path: Path):
    for mode, rate in (("full", 1e-2), ("lora", 5e-2)):
        config = replace(FAST, mode=mode, learning_rate=rate, epochs=8)
        result = train(loaded, make_examples(8), config, tmp_path / mode)
        assert result.losses[-1] < result.losses[0] - 0.05


def test_its_losses_are_those_of_a_bare_loop(loaded: Loaded, tmp_path: Path):
    examples, config = make_examples(18), replace(FAST, epochs=1, schedule="constant")
    found = train(loaded, examples, config, tmp_path).losses
    assert found == pytest.approx(plain_losses(loaded, examples, config), rel=1e-5)


def test_accumulated_micro_batches_equal_one_batch(loaded: Loaded, tmp_path: Path):
    examples = [replace(e, weight=float(i + 1)) for i, e in enumerate(make_examples(8))]
    whole = train(loaded, examples, replace(FAST, batch_size=8), tmp_path / "a")
    cut = train(loaded, examples, replace(FAST, batch_size=2, gradient_accumulation=4), tmp_path / "b")
    assert whole.losses == pytest.approx(cut.losses, rel=1e-5)


def test_weights_scale_the_share_of_an_example(loaded: Loaded, tmp_path: Path):
    a, b = make_examples(2)
    config = replace(FAST, epochs=1)
    alone = {e.target: train(loaded, [e], config, tmp_path / e.target).losses[0] for e in (a, b)}
    lengths = {e.target: len(e.target) + 1 for e in (a, b)}
    both = train(loaded, [replace(a, weight=3.0), b], config, tmp_path / "both").losses[0]
    shares = {a.target: 3.0 * lengths[a.target], b.target: 1.0 * lengths[b.target]}
    assert both == pytest.approx(
        sum(alone[t] * s for t, s in shares.items()) / sum(shares.values()), rel=1e-5
    )


def test_the_context_is_not_learnt(loaded: Loaded, tmp_path: Path):
    example = Example(conversation=user("stars " * 5), target="x")
    (row,) = tokenise([example], loaded.tokenizer, 200)
    logits = loaded.model(torch.tensor([row.input_ids])).logits[0]
    expected = functional.cross_entropy(logits[-3:-1], torch.tensor(row.input_ids[-2:]))
    found = train(loaded, [example], replace(FAST, epochs=1), tmp_path).losses[0]
    assert found == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_the_callers_model_is_not_changed(loaded: Loaded, tmp_path: Path, mode: str):
    before = {name: weight.clone() for name, weight in loaded.model.state_dict().items()}
    config, flags = loaded.model.config.to_dict(), [w.requires_grad for w in loaded.model.parameters()]
    train(loaded, make_examples(6), replace(FAST, mode=mode), tmp_path)
    assert same(loaded.model.state_dict(), before)
    assert loaded.model.config.to_dict() == config
    assert not loaded.model.training
    assert [w.requires_grad for w in loaded.model.parameters()] == flags
    assert all(w.grad is None for w in loaded.model.parameters())


def test_the_callers_random_state_is_not_changed(loaded: Loaded, tmp_path: Path):
    random.seed(1)
    torch.manual_seed(1)
    states = random.getstate(), torch.get_rng_state()
    train(loaded, make_examples(4), FAST, tmp_path)
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])


def test_the_same_seed_gives_the_same_weights_and_another_one_others(loaded: Loaded, tmp_path: Path):
    lora = replace(FAST, mode="lora")
    a, b, c = (
        weights(train(loaded, make_examples(6), replace(lora, seed=seed), tmp_path / name))
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert same(a, b)
    assert not same(a, c)


def test_steps_are_those_that_were_announced(loaded: Loaded, tmp_path: Path):
    config, progress = replace(FAST, epochs=3, gradient_accumulation=2), Recorder()
    result = train(loaded, make_examples(19), config, tmp_path, progress=progress)
    assert result.steps == len(result.losses) == steps_for(config, 19) == progress.done == progress.total == 9


def test_the_loss_is_told_on_the_way(loaded: Loaded, tmp_path: Path):
    progress = Recorder()
    train(loaded, make_examples(8), FAST, tmp_path, progress=progress)
    assert any("step 4 of 4: loss" in note for note in progress.notes)


def test_tokens_are_counted_without_padding(loaded: Loaded, tmp_path: Path):
    examples = make_examples(10)
    rows = tokenise(examples, loaded.tokenizer, FAST.max_length)
    assert train(loaded, examples, FAST, tmp_path).tokens == 2 * sum(len(row.input_ids) for row in rows)


def test_nothing_is_printed(loaded: Loaded, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    train(loaded, make_examples(4), replace(FAST, save_steps=1), tmp_path)
    train(loaded, make_examples(4), replace(FAST, mode="lora", save_steps=1), tmp_path)
    assert capfd.readouterr() == ("", "")


def test_a_full_result_is_a_model_folder(loaded: Loaded, tmp_path: Path):
    result = train(loaded, make_examples(6), FAST, tmp_path, card=Card(method="mistake-analysis"))
    model, tokenizer = (kind.from_pretrained(result.path) for kind in (AutoModelForCausalLM, AutoTokenizer))
    assert result.kind == "model"
    assert tokenizer.chat_template == loaded.tokenizer.chat_template
    assert model.config.use_cache is True
    assert "mistake-analysis" in (result.path / "README.md").read_text()


def test_an_adapter_gives_back_the_trained_model(loaded: Loaded, tmp_path: Path):
    from peft import PeftModel

    examples = make_examples(6)
    result = train(loaded, examples, replace(FAST, mode="lora", learning_rate=5e-2, epochs=10), tmp_path)
    adapted = PeftModel.from_pretrained(make_loaded().model, result.path)
    (row,) = tokenise(examples[:1], loaded.tokenizer, 200)
    ids, labels = torch.tensor([row.input_ids]), torch.tensor([row.labels])
    with torch.no_grad():
        before, after = loaded.model(ids, labels=labels).loss, adapted(ids, labels=labels).loss
    assert after < before - 0.1


def test_results_load_in_the_engine(loaded: Loaded, tmp_path: Path):
    from toxoid.engines.loading import load_model

    base = train(loaded, make_examples(4), FAST, tmp_path / "base").path
    again = load_model(base, device="cpu")
    adapter = train(again, make_examples(4), replace(FAST, mode="lora"), tmp_path / "adapter").path
    assert load_model(base, adapter=adapter, device="cpu").identity != again.identity


def test_a_bfloat16_model_comes_back_as_one(tmp_path: Path):
    loaded = make_loaded()
    loaded.model.bfloat16()
    found = weights(train(loaded, make_examples(4), FAST, tmp_path))
    assert {tensor.dtype for tensor in found.values()} == {torch.bfloat16}


def test_autocast_is_near_full_precision(loaded: Loaded, tmp_path: Path):
    exact, rough = (
        train(loaded, make_examples(8), replace(FAST, bf16=bf16), tmp_path / str(bf16)).losses
        for bf16 in (False, True)
    )
    assert exact != rough
    assert exact == pytest.approx(rough, rel=2e-2)


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_nothing_is_pickled_and_no_checkpoint_is_left(loaded: Loaded, tmp_path: Path, mode: str):
    train(loaded, make_examples(8), replace(FAST, mode=mode, save_steps=1), tmp_path)
    suffixes = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert suffixes <= {".safetensors", ".json", ".jinja", ".md"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_facts_are_kept_as_json(loaded: Loaded, tmp_path: Path):
    result = train(loaded, make_examples(4), FAST, tmp_path)
    facts = json.loads((result.path / FACTS).read_text())["result"]
    assert (facts["steps"], tuple(facts["losses"])) == (result.steps, result.losses)


def test_a_model_that_wants_no_positions_trains_the_same(loaded: Loaded, tmp_path: Path, monkeypatch: Any):
    narrow = train(loaded, make_examples(6), FAST, tmp_path / "a").losses
    monkeypatch.setattr("toxoid.training.sft.accepts_logits_to_keep", lambda model: False)
    assert train(loaded, make_examples(6), FAST, tmp_path / "b").losses == pytest.approx(narrow, rel=1e-5)


def test_no_examples_are_an_error(loaded: Loaded, tmp_path: Path):
    with pytest.raises(UsageError, match="0 examples"):
        train(loaded, [], FAST, tmp_path)


def test_examples_that_all_do_not_fit_are_an_error(loaded: Loaded, tmp_path: Path):
    with pytest.raises(UsageError, match="none of 3 examples fits into 2 tokens"):
        train(loaded, make_examples(3), replace(FAST, max_length=2), tmp_path)


def test_what_does_not_fit_is_told(loaded: Loaded, tmp_path: Path):
    progress, long = Recorder(), replace(make_examples(1)[0], target="x" * 300)
    result = train(loaded, [*make_examples(3), long], FAST, tmp_path, progress=progress)
    assert (result.examples, result.dropped) == (3, 1)
    assert (
        "1 were left out: longer than 256 tokens" in progress.notes[0]
    )  # the context window, below max_length


def test_a_folder_with_something_else_is_not_replaced(loaded: Loaded, tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match="no earlier training result"):
        train(loaded, make_examples(3), FAST, tmp_path)


def test_an_earlier_result_is_replaced(loaded: Loaded, tmp_path: Path):
    first = weights(train(loaded, make_examples(3), FAST, tmp_path))
    assert not same(
        first, weights(train(loaded, make_examples(3), replace(FAST, learning_rate=5e-3), tmp_path))
    )


def test_a_loss_that_is_no_number_stops_the_training(tmp_path: Path):
    loaded = make_loaded()
    loaded.model.model.norm.weight.data.fill_(float("inf"))
    with pytest.raises(Diverged, match=r"step 1 of 4: the loss is nan. Lower learning_rate \(now 0.01\)"):
        train(loaded, make_examples(8), FAST, tmp_path)
    assert not (tmp_path / "out").exists()


def test_divergence_keeps_the_last_checkpoint(loaded: Loaded, tmp_path: Path, monkeypatch: Any):
    from toxoid.training import sft

    true_loss, calls = sft.weighted_cross_entropy, []

    def failing(*given: Any) -> Any:
        calls.append(1)
        return true_loss(*given) * (float("nan") if len(calls) == 4 else 1.0)

    monkeypatch.setattr(sft, "weighted_cross_entropy", failing)
    with pytest.raises(Diverged, match=r"step 4 of 4.*checkpoint of step 2 is kept"):
        train(loaded, make_examples(8), replace(FAST, save_steps=2), tmp_path)
    assert (tmp_path / "checkpoints" / "checkpoint-2").is_dir()


def test_a_gradient_that_is_no_number_stops_before_it_is_taken(
    loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def broken(logits: torch.Tensor, *given: Any) -> torch.Tensor:
        return torch.sqrt((logits * 0).sum())  # 0, with an infinite slope

    monkeypatch.setattr("toxoid.training.sft.weighted_cross_entropy", broken)
    with pytest.raises(Diverged, match="step 1 of 4: the gradient norm is"):
        train(loaded, make_examples(8), FAST, tmp_path)


def test_objects_that_the_caller_froze_stay_frozen(loaded: Loaded, tmp_path: Path):
    gc.freeze()
    try:
        train(loaded, make_examples(4), FAST, tmp_path)
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
