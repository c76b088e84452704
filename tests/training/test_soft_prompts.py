"""Tests of opposite prompt optimisation."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.tiny_models import tiny_loaded
from toxoid.data.schemas import user
from toxoid.engines.contrast import Contrast
from toxoid.engines.shield import TENSORS, check_fit, load_shield
from toxoid.engines.soft_prompt import Frame, Place, embed, embeddings_of, vectors_of
from toxoid.engines.templates import encode_target
from toxoid.errors import UsageError
from toxoid.progress import SilentProgress
from toxoid.training import trainer as step_trainer
from toxoid.training.artifacts import TrainingResult
from toxoid.training.card import Card
from toxoid.training.checkpoints import last_whole
from toxoid.training.examples import Example
from toxoid.training.soft_prompts.losses import likelihood_losses, term_means, unlikelihood_losses
from toxoid.training.soft_prompts.rows import (
    OPPOSITE,
    SAFE,
    PromptCollator,
    PromptRows,
    loss_terms,
    tokenise_anchors,
)
from toxoid.training.soft_prompts.settings import Anchors, PromptConfig, PromptObjective
from toxoid.training.soft_prompts.train import train_opposite_prompts
from toxoid.training.trainer import Diverged

from .conftest import make_examples, make_loaded
from .test_resume import Killed, Killer
from .test_sft import Recorder

SAFE_TEXT, OPPOSITE_TEXT = "be good", "be bad now"
CONFIG = PromptConfig(
    learning_rate=0.05, epochs=2, batch_size=2, save_steps=0, bf16=False, schedule="constant"
)
SOFT = [(500, 501), (502, 503)]
UNLIKELY = PromptObjective(unlikelihood=0.7)
FAMILIES = ["llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gemma3_text", "phi3"]


def make_anchors(kept: int = 5, refused: int = 3, complied: int = 4, declined: int = 0) -> Anchors:
    """Return sets of unlike sizes, lengths and weights."""
    made = [make_examples(size, seed) for seed, size in enumerate((kept, refused, complied, declined))]
    weighted = [tuple(replace(e, weight=1.0 + i % 2) for i, e in enumerate(examples)) for examples in made]
    return Anchors(*weighted)


def train(
    folder: Path,
    *,
    loaded: Any = None,
    anchors: Anchors | None = None,
    config: PromptConfig = CONFIG,
    **more: Any,
) -> TrainingResult:
    given: dict[str, Any] = {
        "safe_text": SAFE_TEXT,
        "opposite_text": OPPOSITE_TEXT,
        "placement": "system",
        "contrast": Contrast(),
        "checkpoints": folder / "checkpoints",
        "progress": SilentProgress(),
    }
    loaded, anchors = loaded or make_loaded(), anchors or make_anchors()
    return train_opposite_prompts(loaded, anchors, config, output=folder / "shield", **given | more)


def prompts(result: TrainingResult) -> tuple[torch.Tensor, torch.Tensor]:
    shield = load_shield(result.path)
    return shield.safe, shield.opposite


def tensor_bytes(result: TrainingResult) -> bytes:
    return (result.path / TENSORS).read_bytes()


def initial_ids(place: Place) -> list[tuple[int, ...]]:
    """Return the tokens of both manual prompts, the shorter one continued by its own."""
    safe, opposite = place.manual_ids(SAFE_TEXT), place.manual_ids(OPPOSITE_TEXT)
    length = max(len(safe), len(opposite))
    return [(ids * length)[:length] for ids in (safe, opposite)]


def reply_log_probabilities(loaded: Any, place: Place, example: Example, soft: torch.Tensor) -> torch.Tensor:
    """Return log P of each token of a reply under a soft prompt, computed alone, shape ``(tokens,)``."""
    own = embeddings_of(loaded.model).num_embeddings
    target = encode_target(loaded.tokenizer, example.target)
    context = [*place.head, *range(own, own + len(soft)), *place.rest(example.conversation)]
    ids = torch.tensor([[*context, *target]])
    logits = loaded.model(inputs_embeds=embed(loaded.model, ids, soft)).logits[0, len(context) - 1 : -1]
    return logits.log_softmax(-1).gather(1, torch.tensor(target)[:, None])[:, 0]


def plain_term(
    loaded: Any, place: Place, examples: Sequence[Example], soft: torch.Tensor, *, unlikely: bool = False
) -> torch.Tensor:
    """Return the weighted token mean of one set under one prompt, as the formula says it."""
    total, count = torch.zeros(()), 0.0
    for example in examples:
        found = reply_log_probabilities(loaded, place, example, soft)
        losses = -(1 - found.exp()).clamp(min=1e-6).log() if unlikely else -found
        total, count = total + example.weight * losses.sum(), count + example.weight * len(found)
    return total / count


# --- losses


def test_losses_are_those_of_a_hand_computation():
    """P = .9, .5, .1: -log P and -log(1 - P), three digits by hand."""
    found = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64).log()
    assert likelihood_losses(found).tolist() == pytest.approx([0.105361, 0.693147, 2.302585], abs=1e-6)
    assert unlikelihood_losses(found, 1e-6).tolist() == pytest.approx(
        [2.302585, 0.693147, 0.105361], abs=1e-6
    )


def test_the_clamp_bounds_unlikelihood_and_ends_its_gradient():
    found = torch.tensor([0.0, -1e-9, -2.0], requires_grad=True)
    losses = unlikelihood_losses(found, 0.05)
    losses.sum().backward()
    assert losses.tolist()[:2] == pytest.approx([-math.log(0.05)] * 2)
    assert found.grad is not None
    assert found.grad.tolist()[:2] == [0.0, 0.0]
    # d/dx -log(1 - e^x) = e^x / (1 - e^x)
    assert found.grad[2].item() == pytest.approx(math.exp(-2) / (1 - math.exp(-2)))


def test_terms_are_weighted_means_and_an_empty_one_is_0():
    losses, weights = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 3.0, 2.0])
    means = term_means(losses, weights, torch.tensor([0, 0, 2]), torch.tensor([4.0, 0.0, 4.0]))
    assert means.tolist() == pytest.approx([7 / 4, 0.0, 6 / 4])


# --- rows


def tokenised(
    anchors: Anchors, objective: PromptObjective = UNLIKELY, *, soft: Any = SOFT, limit: int = 256
) -> tuple[Any, Any]:
    """Return the terms of the loss, and the anchors as tokens under prompts of the ids ``soft``."""
    loaded = make_loaded()
    terms, place = loss_terms(objective, anchors), Place(loaded.tokenizer, Frame("system", SAFE_TEXT))
    given: dict[str, Any] = {"place": place, "tokenizer": loaded.tokenizer, "limit": limit}
    return terms, tokenise_anchors(anchors, terms, soft=soft, **given)


def test_every_anchor_is_read_under_the_prompts_that_use_it():
    terms, found = tokenised(make_anchors(declined=2))
    uses = {
        source: Counter(terms[row.term].name for draw in draws for row in draw)
        for source, draws in found.items()
    }
    assert uses == {
        "kept": {"SP kept": 5, "AP kept": 5},
        "refused": {"SP refused": 3, "AP not refused": 3},
        "complied": {"AP complied": 4, "SP not complied": 4},
        "declined": {"AP declined": 2},
    }
    for draws in found.values():
        for row in (row for draw in draws for row in draw):
            ids = {500, 501} if terms[row.term].prompt == SAFE else {502, 503}
            assert {token for token in row.tokens.input_ids if token >= 500} == ids


def test_without_unlikelihood_a_prompt_does_not_read_what_it_shall_not_say():
    terms, found = tokenised(make_anchors(), PromptObjective())
    prompts_of = {
        source: {terms[row.term].prompt for draw in draws for row in draw} for source, draws in found.items()
    }
    assert prompts_of == {
        "kept": {SAFE, OPPOSITE},
        "refused": {SAFE},
        "complied": {OPPOSITE},
        "declined": set(),
    }


def test_kept_replies_can_be_for_one_prompt_only():
    anchors = replace(
        make_anchors(kept=4),
        kept_by_safe=(True, True, False, False),
        kept_by_opposite=(True, False, True, False),
    )
    terms, found = tokenised(anchors)
    assert [[terms[row.term].prompt for row in draw] for draw in found["kept"]] == [
        [SAFE, OPPOSITE],
        [SAFE],
        [OPPOSITE],
    ]


def test_long_contexts_are_cut_and_long_replies_left_out():
    anchors = make_anchors(refused=1)
    long = replace(anchors.refused[0], conversation=user("x" * 90), target="y")
    endless = replace(long, target="y" * 90)
    _, found = tokenised(replace(anchors, refused=(*anchors.refused, long, endless)), limit=60)
    assert (found.cut, found.dropped) == (1, 1)
    assert len(found["refused"]) == 2
    assert max(len(row.tokens.input_ids) for draws in found.values() for draw in draws for row in draw) == 60


def test_sets_are_seen_evenly_in_rounds():
    _, found = tokenised(make_anchors(kept=6, refused=2, complied=3))
    rows = PromptRows(found, seed=4)
    assert len(rows) == 6
    seen = Counter(row.tokens for position in range(6) for row in rows[position])
    for source, times in (("kept", 1), ("refused", 3), ("complied", 2)):
        assert {seen[row.tokens] for draw in found[source] for row in draw} == {times}


def test_rows_are_a_function_of_seed_and_position():
    _, found = tokenised(make_anchors(kept=9, refused=9))
    whole = [PromptRows(found, seed=3)[position] for position in range(40)]
    rows = PromptRows(found, seed=3)
    assert [rows[position] for position in reversed(range(40))] == whole[::-1]
    assert [PromptRows(found, seed=4)[position] for position in range(40)] != whole
    assert whole[:9] != whole[9:18]


def test_a_batch_says_which_term_every_target_counts_for():
    terms, found = tokenised(make_anchors())
    draws = [PromptRows(found, seed=0)[position] for position in range(3)]
    batch = PromptCollator(pad=0)(draws)
    rows = [row for draw in draws for row in draw]
    expected = [row.term for row in rows for label in row.tokens.labels if label >= 0]
    assert batch["terms"].tolist() == expected
    assert len(batch["targets"]) == len(expected)
    assert set(expected) == set(range(len(terms)))


# --- training


@pytest.mark.parametrize("placement", ["system", "front"])
@pytest.mark.parametrize("architecture", FAMILIES)
def test_the_first_loss_is_that_of_the_manual_prompts_row_by_row(
    architecture: str, placement: Any, tmp_path: Path
):
    """Padded rows of both prompts in one batch against the formula; the soft prompts are still the manual ones."""
    loaded = tiny_loaded(architecture)
    anchors = make_anchors(kept=2, refused=2, complied=2, declined=2)
    config = replace(CONFIG, objective=UNLIKELY, max_steps=1)
    result = train(tmp_path, loaded=loaded, anchors=anchors, config=config, placement=placement)
    place = Place(loaded.tokenizer, Frame(placement, SAFE_TEXT))
    safe, opposite = (vectors_of(loaded.model, ids) for ids in initial_ids(place))

    def term(examples: Sequence[Example], soft: torch.Tensor, unlikely: bool = False) -> float:
        with torch.no_grad():
            return float(plain_term(loaded, place, examples, soft, unlikely=unlikely))

    assert load_shield(result.path).facts["losses"] == pytest.approx(
        {
            "SP refused": term(anchors.refused, safe),
            "SP kept": term(anchors.kept, safe),
            "AP complied": term(anchors.complied, opposite),
            "AP kept": term(anchors.kept, opposite),
            "AP declined": term(anchors.declined, opposite),
            "SP not complied": term(anchors.complied, safe, unlikely=True),
            "AP not refused": term(anchors.refused, opposite, unlikely=True),
        },
        rel=1e-4,
    )
    losses = load_shield(result.path).facts["losses"]
    shares = {name: 0.7 if "not" in name else 1.0 for name in losses}
    assert result.losses[0] == pytest.approx(
        sum(shares[name] * value for name, value in losses.items()), rel=1e-5
    )


@pytest.mark.parametrize("prompt", [SAFE, OPPOSITE])
def test_without_unlikelihood_each_is_plain_prompt_tuning_trained_alone(
    prompt: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A bare loop over one prompt and the rows it learns, in order: AdamW, every gradient clipped, the other's not."""
    monkeypatch.setattr(step_trainer, "MAX_GRADIENT_NORM", limit := 0.001)
    loaded, anchors = make_loaded(), make_anchors(kept=6)
    found = prompts(train(tmp_path, loaded=loaded, anchors=anchors))
    soft = [
        vectors_of(loaded.model, ids)
        for ids in initial_ids(Place(loaded.tokenizer, Frame("system", SAFE_TEXT)))
    ]
    optimiser = torch.optim.AdamW([soft[prompt].requires_grad_()], lr=CONFIG.learning_rate, weight_decay=0.0)
    own = embeddings_of(loaded.model).num_embeddings
    length = len(OPPOSITE_TEXT)
    ids_of = [tuple(range(own, own + length)), tuple(range(own + length, own + 2 * length))]
    terms, read = tokenised(anchors, CONFIG.objective, soft=ids_of)
    rows = PromptRows(read, seed=CONFIG.seed)
    for step in range(6):
        losses: dict[int, list[torch.Tensor]] = {}
        weights: Counter[int] = Counter()
        for row in (row for position in (2 * step, 2 * step + 1) for row in rows[position]):
            if terms[row.term].prompt == prompt:
                ids, labels = torch.tensor([row.tokens.input_ids]), torch.tensor([row.tokens.labels])
                logits = loaded.model(inputs_embeds=embed(loaded.model, ids, torch.cat(soft))).logits
                loss = torch.nn.functional.cross_entropy(logits[0, :-1], labels[0, 1:], reduction="sum")
                losses.setdefault(row.term, []).append(row.tokens.weight * loss)
                weights[row.term] += row.tokens.weight * int((labels >= 0).sum())
        optimiser.zero_grad()
        torch.stack([torch.stack(losses[term]).sum() / weights[term] for term in losses]).sum().backward()
        assert torch.nn.utils.clip_grad_norm_([soft[prompt]], limit) > limit
        optimiser.step()
    torch.testing.assert_close(found[prompt], soft[prompt].detach(), rtol=1e-4, atol=1e-5)


def test_a_prompt_learns_nothing_from_the_other(tmp_path: Path):
    """Other replies for AP alone leave SP where it is, up to the rounding of another batch."""
    one = make_anchors()
    other = replace(one, complied=tuple(make_examples(4, seed=77)))
    safe, opposite = prompts(train(tmp_path / "a", anchors=one))
    safe_too, opposite_too = prompts(train(tmp_path / "b", anchors=other))
    torch.testing.assert_close(safe, safe_too, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(opposite, opposite_too, atol=1e-3)


def test_the_callers_model_is_not_changed(tmp_path: Path):
    loaded = make_loaded()
    before = {name: weight.clone() for name, weight in loaded.model.state_dict().items()}
    train(tmp_path, loaded=loaded)
    after = loaded.model.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    assert not loaded.model.training
    assert all(weight.requires_grad and weight.grad is None for weight in loaded.model.parameters())


def test_only_the_prompts_are_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[dict[str, bool]] = []
    clip = step_trainer.StepTrainer._clip_grad_norm

    def looking(self: Any, model: Any) -> Any:
        seen.append(
            {name: w.grad is not None for name, w in self.model.named_parameters() if w.requires_grad}
        )
        assert not any(w.grad is not None for w in self.model.model.parameters())
        return clip(self, model)

    monkeypatch.setattr(step_trainer.StepTrainer, "_clip_grad_norm", looking)
    train(tmp_path)
    assert seen[0] == {"safe": True, "opposite": True}


@pytest.mark.parametrize("tokens", [3, 17])
def test_prompts_begin_from_the_manual_ones_repeated_or_cut(tokens: int, tmp_path: Path):
    loaded, config = make_loaded(), replace(CONFIG, max_steps=1, learning_rate=1e-9, tokens=tokens)
    found = prompts(train(tmp_path, loaded=loaded, config=config))
    place = Place(loaded.tokenizer, Frame("system", SAFE_TEXT))
    for prompt, text in zip(found, (SAFE_TEXT, OPPOSITE_TEXT), strict=True):
        ids = (place.manual_ids(text) * tokens)[:tokens]
        torch.testing.assert_close(prompt, vectors_of(loaded.model, ids), rtol=0, atol=1e-6)


def test_both_are_as_long_as_the_longer_manual_prompt(tmp_path: Path):
    assert load_shield(train(tmp_path).path).length == len(OPPOSITE_TEXT)


def test_accumulated_micro_batches_equal_one_batch(tmp_path: Path):
    anchors = make_anchors(kept=4)
    whole = train(tmp_path / "a", anchors=anchors, config=replace(CONFIG, batch_size=4, objective=UNLIKELY))
    config = replace(CONFIG, batch_size=1, gradient_accumulation=4, objective=UNLIKELY)
    cut = train(tmp_path / "b", anchors=anchors, config=config)
    assert whole.losses == pytest.approx(cut.losses, rel=1e-4)


def test_the_same_seed_gives_the_same_shield_and_another_one_another(tmp_path: Path):
    a, b, c = (
        train(tmp_path / str(i), config=replace(CONFIG, seed=seed)) for i, seed in enumerate((3, 3, 4))
    )
    assert tensor_bytes(a) == tensor_bytes(b) != tensor_bytes(c)


@pytest.mark.parametrize("steps", [(1,), (4,), (7, 9)])
def test_killed_and_resumed_equals_uninterrupted(steps: tuple[int, ...], tmp_path: Path):
    # four epochs of three steps, dropout, moments, schedule: every state has to come back
    config = replace(CONFIG, epochs=4, save_steps=2, schedule="cosine", warmup_steps=2, objective=UNLIKELY)
    given: dict[str, Any] = {"loaded": make_loaded(attention_dropout=0.1), "config": config}
    whole = train(tmp_path / "whole", **given)
    for step in steps:
        with pytest.raises(Killed):
            train(tmp_path / "cut", **given, progress=Killer(step))
    resumed = train(tmp_path / "cut", **given)
    assert tensor_bytes(resumed) == tensor_bytes(whole)
    assert (resumed.losses, resumed.tokens) == (whole.losses, whole.tokens)
    assert [path.name for path in (tmp_path / "cut").iterdir()] == ["shield"]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"anchors": make_anchors(kept=6, refused=5)}, "data"),
        ({"opposite_text": "be mad now"}, "data"),
        ({"placement": "front"}, "data"),
        ({"config": replace(CONFIG, save_steps=1, objective=UNLIKELY)}, "settings.objective.unlikelihood"),
    ],
)
def test_checkpoints_of_another_training_are_refused(changed: dict[str, Any], named: str, tmp_path: Path):
    config = replace(CONFIG, save_steps=1)
    with pytest.raises(Killed):
        train(tmp_path, config=config, progress=Killer(3))
    with pytest.raises(UsageError, match=named):
        train(tmp_path, **{"config": config, **changed})
    assert last_whole(tmp_path / "checkpoints") is not None


def test_autocast_is_near_full_precision_and_prompts_stay_in_it(tmp_path: Path):
    exact, rough = (
        train(tmp_path / str(bf16), config=replace(CONFIG, bf16=bf16, objective=UNLIKELY))
        for bf16 in (False, True)
    )
    assert exact.losses != rough.losses
    assert exact.losses == pytest.approx(rough.losses, rel=2e-2)
    assert prompts(rough)[0].dtype == torch.float32


def test_a_bfloat16_model_can_have_a_shield(tmp_path: Path):
    loaded = make_loaded()
    loaded.model.bfloat16()
    result = train(tmp_path, loaded=loaded, config=replace(CONFIG, learning_rate=1e-4))
    place = Place(loaded.tokenizer, Frame("system", SAFE_TEXT))
    moved = prompts(result)[0] - vectors_of(loaded.model, initial_ids(place)[SAFE])
    assert 0 < moved.abs().max() < 1e-2  # steps that bfloat16 could not take


def test_on_the_lab_model_two_prompts_from_one_beginning_part(tmp_path: Path):
    """Log P of the first token of replies to new requests: there the decision falls, after it is a choice of words."""
    from toxoid.data.lab import lab_requests
    from toxoid.engines.loading import load_model
    from toxoid.loop.models import model_source

    harmful, benign = (list(lab_requests(name, split="train"))[:16] for name in ("lab-harmful", "lab-benign"))
    refused = [Example(user(r.prompt), r.reference or "") for r in harmful]
    complied = [Example(user(r.prompt), r.target or "") for r in harmful]
    kept = [Example(user(r.prompt), r.reference or "") for r in benign]
    anchors = Anchors(tuple(kept), tuple(refused[4:]), tuple(complied[4:]))
    loaded = load_model(model_source("lab-base"), device="cpu")
    config = replace(CONFIG, learning_rate=1e-2, max_steps=12, batch_size=4)
    manual = {"safe_text": "You are an assistant.", "opposite_text": "You are an assistant."}
    result = train(tmp_path, loaded=loaded, anchors=anchors, config=config, **manual)
    place = Place(loaded.tokenizer, Frame("system", manual["safe_text"]))

    def first(examples: Sequence[Example], soft: torch.Tensor) -> float:
        with torch.no_grad():
            return sum(float(reply_log_probabilities(loaded, place, e, soft)[0]) for e in examples)

    safe, opposite = prompts(result)
    began = vectors_of(loaded.model, place.manual_ids(manual["safe_text"]))
    assert first(refused[:4], opposite) < first(refused[:4], began) < first(refused[:4], safe)
    assert first(complied[:4], safe) < first(complied[:4], began) < first(complied[:4], opposite)
    assert result.losses[-1] < result.losses[0]
    check_fit(load_shield(result.path), loaded)


# --- what is left behind


def test_the_shield_says_how_it_was_made(tmp_path: Path):
    card = Card(method="contrastive-decoding", datasets=("org/anchors",), licence="cc0-1.0")
    contrast = Contrast(alpha=0.3)
    result = train(tmp_path, card=card, contrast=contrast, config=replace(CONFIG, objective=UNLIKELY))
    shield = load_shield(result.path)
    facts = shield.facts
    assert shield.contrast == contrast
    assert shield.frame == Frame("system", SAFE_TEXT)
    assert facts["anchors"] == {"kept": 5, "refused": 3, "complied": 4, "declined": 0}
    assert (facts["steps"], facts["tokens_seen"]) == (result.steps, result.tokens) == (6, result.tokens)
    assert (facts["method"], facts["datasets"]) == ("contrastive-decoding", ["org/anchors"])
    assert facts["settings"]["objective.unlikelihood"] == 0.7
    assert "mode" not in facts["settings"]
    assert (result.kind, result.examples, result.dropped) == ("shield", 12, 0)
    assert str(tmp_path) not in json.dumps(facts)


def test_in_front_the_manual_prompts_are_no_part_of_the_frame(tmp_path: Path):
    assert load_shield(train(tmp_path, placement="front").path).frame == Frame("front", "")


def test_losses_are_told_by_term_and_tokens_counted(tmp_path: Path):
    progress = Recorder()
    result = train(tmp_path, progress=progress)
    assert progress.done == progress.total == result.steps == 6
    assert any("SP refused" in note and "AP complied" in note for note in progress.notes)
    _, found = tokenised(make_anchors(), PromptObjective())
    soft = len(OPPOSITE_TEXT) - 2  # those there have two virtual tokens
    rows = [row for position in range(10) for row in PromptRows(found, seed=CONFIG.seed)[position]]
    assert result.tokens == sum(len(row.tokens.input_ids) + soft for row in rows)


def test_what_does_not_fit_is_told(tmp_path: Path):
    progress, anchors = Recorder(), make_anchors()
    long = replace(anchors.kept[0], target="x" * 300)
    result = train(tmp_path, anchors=replace(anchors, kept=(*anchors.kept, long)), progress=progress)
    assert (result.examples, result.dropped) == (12, 1)
    assert "of 13 anchors, 0 lost" in progress.notes[0]
    assert "1 were left out: longer than 256 tokens, of which the prompt takes 10" in progress.notes[0]


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    train(tmp_path, config=replace(CONFIG, save_steps=1))
    assert capfd.readouterr() == ("", "")


# --- bad inputs


@pytest.mark.parametrize(
    ("empty", "told"),
    [
        ("refused", r"safe prompt \(SP\) has no refused replies to learn: there are 0"),
        ("complied", r"adversarial prompt \(AP\) has no complied replies to learn: there are 0"),
        ("kept", r"safe prompt \(SP\) has no kept replies to learn: there are 0"),
    ],
)
def test_sets_that_are_needed_must_not_be_empty(empty: str, told: str, tmp_path: Path):
    with pytest.raises(UsageError, match=told):
        train(tmp_path, anchors=replace(make_anchors(), **{empty: ()}))


def test_both_prompts_need_something_to_keep_to(tmp_path: Path):
    anchors = replace(make_anchors(kept=2), kept_by_opposite=(False, False))
    with pytest.raises(UsageError, match=r"\(AP\) has no kept replies to learn: none of 2 is for it"):
        train(tmp_path, anchors=anchors)


def test_a_set_none_of_which_fits_is_told(tmp_path: Path):
    with pytest.raises(
        UsageError, match="none of 3 is for it and fits into 12 tokens beside 10 of the prompt"
    ):
        train(tmp_path, config=replace(CONFIG, max_length=12))


def test_flags_of_kept_replies_are_one_for_each():
    with pytest.raises(UsageError, match="kept_by_safe has 2 entries for 5 kept replies"):
        replace(make_anchors(), kept_by_safe=(True, False))


@pytest.mark.parametrize("placement", ["system", "front"])
@pytest.mark.parametrize("text", ["safe_text", "opposite_text"])
def test_manual_prompts_must_not_be_empty(text: str, placement: str, tmp_path: Path):
    with pytest.raises(UsageError, match="is empty"):
        train(tmp_path, placement=placement, **{text: ""})


@pytest.mark.parametrize(
    "settings", [{"unlikelihood": -1.0}, {"unlikelihood": math.nan}, {"clamp": 0.0}, {"clamp": 1.0}]
)
def test_settings_out_of_range_are_refused(settings: dict[str, float]):
    with pytest.raises(UsageError, match=next(iter(settings))):
        PromptObjective(**settings)


def test_a_length_of_nothing_is_refused():
    with pytest.raises(UsageError, match="tokens is 0"):
        PromptConfig(tokens=0)


def test_a_folder_with_something_else_is_not_replaced(tmp_path: Path):
    (tmp_path / "shield").mkdir()
    (tmp_path / "shield" / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match="holds no earlier shield"):
        train(tmp_path)


def test_a_model_that_takes_no_vectors_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    loaded = make_loaded()
    monkeypatch.setattr(type(loaded.model), "forward", lambda self, input_ids: None)
    with pytest.raises(UsageError, match="does not take vectors in place of tokens"):
        train(tmp_path, loaded=loaded)


def test_a_model_to_which_vectors_mean_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    loaded = make_loaded()
    inner, forward = type(loaded.model.model), type(loaded.model.model).forward

    def scaling(self: Any, input_ids: Any = None, inputs_embeds: Any = None, **given: Any) -> Any:
        vectors = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds * 3
        return forward(self, inputs_embeds=vectors, **given)

    monkeypatch.setattr(inner, "forward", scaling)
    with pytest.raises(UsageError, match="takes the vectors of tokens for something else"):
        train(tmp_path, loaded=loaded)


def test_a_loss_that_is_no_number_stops_the_training(tmp_path: Path):
    loaded = make_loaded()
    loaded.model.model.norm.weight.data.fill_(float("inf"))
    with pytest.raises(Diverged, match="step 1 of 6"):
        train(tmp_path, loaded=loaded)
    assert not (tmp_path / "shield").exists()
