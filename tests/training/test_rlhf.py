"""RLHF: the reward model learns the pairs, the policy the rewards; our tokens, exact resumption, no damage."""

from __future__ import annotations

import dataclasses
import json
import random
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.helpers.tiny_models import tiny_loaded
from toxoid.data.schemas import user
from toxoid.engines.loading import adapted, load_model
from toxoid.engines.templates import encode, encode_target
from toxoid.errors import UsageError
from toxoid.progress import SILENT, SilentProgress
from toxoid.training.artifacts import FACTS
from toxoid.training.rlhf.settings import Pair, RLHFConfig, RLHFObjective

pytest.importorskip("trl")

from toxoid.training.rlhf import policy, reward, train

IDS = torch.tensor([[5, 40, 80, 200, 7, 60]])
WORDS = ["fox", "mill", "stones", "bell", "chalk", "gate", "garden", "lantern"]


def make_pairs(count: int = 40) -> list[Pair]:
    """Return pairs whose better reply says sorry; two of each prompt."""
    rng = random.Random(0)
    prompts = [user(" ".join(rng.sample(WORDS, 4))) for _ in range(count // 2)]
    return [
        Pair(
            prompt, f"Sorry {' '.join(rng.sample(WORDS, 2))}", f"Sure {' '.join(rng.sample(WORDS, 2))}", kind
        )
        for prompt in prompts
        for kind in ("harmful", "refusal")
    ]


PAIRS = make_pairs()
PROMPTS = tuple(pair.conversation for pair in PAIRS[::2])


def make_config(**changes) -> RLHFConfig:
    objective = {"reward_epochs": 4, "reward_learning_rate": 0.01, "generations": 2, "max_tokens": 4}
    settings = {
        "max_steps": 2,
        "batch_size": 8,
        "max_length": 128,
        "bf16": False,
        "lora_rank": 4,
        "save_steps": 0,
    }
    own = {key: changes.pop(key) for key in tuple(changes) if key in objective | {"kl": 0}}
    return RLHFConfig(**settings | changes, objective=RLHFObjective(**objective | own))


class Notes(SilentProgress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


class Killed(Exception):
    pass


class KilledAfter(SilentProgress):
    """Dies at the so-manieth step."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    @contextmanager
    def task(self, name, total, unit="items"):
        yield self

    def advance(self, count: int = 1) -> None:
        self.left -= count
        if self.left <= 0:
            raise Killed


def without_reward_model(monkeypatch):
    """Put rewards in place of a reward model: the share of tokens from the first half of the vocabulary."""

    def rewards(rows):
        return torch.tensor([sum(token < 192 for token in row[-4:]) / 4 for row in rows])

    facts = reward.RewardFacts(32, 8, 1.0, 0.7, 1.0, {"harmful": 1.0}, 4, 0.0, 0)
    monkeypatch.setattr(train, "train_reward_model", lambda *_, **__: (rewards, facts))
    return rewards


def run(tmp_path: Path, loaded=None, *, pairs=PAIRS, prompts=PROMPTS, progress=SILENT, name="out", **changes):
    return train.train_rlhf(
        loaded or tiny_loaded(),
        pairs,
        prompts,
        make_config(**changes),
        output=tmp_path / name,
        checkpoints=tmp_path / "steps",
        progress=progress,
    )


def tokenised(pairs=PAIRS):
    return reward.tokenise_pairs(pairs, tiny_loaded(), make_config())[0]


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_the_reward_model_is_right_and_the_result_loads(tmp_path, mode):
    loaded = tiny_loaded()
    before = {name: weight.clone() for name, weight in loaded.model.state_dict().items()}
    config, generation = loaded.model.config.to_dict(), loaded.model.generation_config.to_dict()
    result = run(tmp_path, loaded, mode=mode, learning_rate=0.01)
    assert result.reward_model.ci_low > 0.5
    assert set(result.reward_model.by_kind) == {"harmful", "refusal"}
    assert result.steps == len(result.losses) == 2
    after = loaded.model.state_dict()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())
    assert loaded.model.config.to_dict() == config
    assert loaded.model.generation_config.to_dict() == generation
    with torch.no_grad():
        untreated = loaded.model(IDS).logits
        model = (adapted(loaded, result.path) if mode == "lora" else load_model(result.path)).model
        assert not torch.allclose(model(IDS).logits, untreated)
    assert not (tmp_path / "steps").exists()


def test_the_facts_stand_in_the_folder(tmp_path, monkeypatch):
    without_reward_model(monkeypatch)
    result = run(tmp_path)
    told = json.loads((result.path / FACTS).read_text())["result"]
    assert told["reward_model"]["accuracy"] == 1.0
    assert told["policy"]["kl"] == dataclasses.asdict(result.policy.kl)
    assert told["kind"] == "adapter"


def test_a_training_killed_twice_ends_like_an_uninterrupted_one(tmp_path):
    """Both kills come after the first pass over the data: of the reward model, then of the policy."""
    given = {"max_steps": 4, "save_steps": 1, "reward_epochs": 2, "batch_size": 16, "prompts": PROMPTS[:10]}
    whole = run(tmp_path, name="whole", **given)
    for steps, where in [(3, "reward/checkpoint-2"), (7, "policy/checkpoint-2")]:
        with pytest.raises(Killed):
            run(tmp_path, name="resumed", progress=KilledAfter(steps), **given)
        assert (tmp_path / "steps" / where).is_dir()
    resumed = run(tmp_path, name="resumed", **given)
    assert resumed.losses == whole.losses
    assert resumed.policy == whole.policy
    assert resumed.reward_model.accuracy == whole.reward_model.accuracy
    name = "adapter_model.safetensors"
    assert (resumed.path / name).read_bytes() == (whole.path / name).read_bytes()


def test_a_checkpoint_of_another_training_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "train_policy", None)
    with pytest.raises(TypeError):  # the reward model is there, the policy is not
        run(tmp_path)
    with pytest.raises(UsageError, match=r"another training \(different: settings.learning_rate\)"):
        run(tmp_path, learning_rate=0.5)


def test_a_reward_model_that_guesses_stops_it(tmp_path):
    rng = random.Random(1)
    noise = [
        dataclasses.replace(pair, chosen=pair.rejected, rejected=pair.chosen) if rng.random() < 0.5 else pair
        for pair in PAIRS
    ]
    with pytest.raises(UsageError, match="which may be chance"):
        run(tmp_path, pairs=noise)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("family", ["chatml", "llama2", "llama3"])
def test_trl_asks_the_model_in_our_tokens(tmp_path, family, monkeypatch):
    loaded, seen = tiny_loaded(family=family), []
    pads = loaded.tokenizer.pad_token_id

    def rewards(rows):
        seen.extend(rows)
        return torch.arange(len(rows), dtype=torch.float32)

    asked = []
    generate = type(loaded.model).generate

    def noted(model, input_ids, **given):
        asked.extend([[token for token in row if token != pads] for row in input_ids.tolist()])
        return generate(model, input_ids=input_ids, **given)

    monkeypatch.setattr(type(loaded.model), "generate", noted)
    config = make_config(max_steps=1, batch_size=4)
    texts, _ = policy.prompt_texts(PROMPTS[:2], loaded, config)
    policy.train_policy(
        loaded, texts, rewards, config, folder=tmp_path, fingerprint={}, bf16=False, progress=SILENT
    )
    ours = [encode(loaded.tokenizer, prompt) for prompt in PROMPTS[:2]]
    assert sorted(asked) == sorted(ours * 2)
    assert all(any(row[: len(ids)] == ids for ids in ours) for row in seen)


def test_the_policy_learns_what_is_rewarded(tmp_path, monkeypatch):
    loaded, rewards = tiny_loaded(), without_reward_model(monkeypatch)
    config = make_config(mode="full", max_steps=30, batch_size=16, generations=4, learning_rate=0.03, kl=0.0)
    texts, _ = policy.prompt_texts(PROMPTS, loaded, config)
    trainer, _ = policy.train_policy(
        loaded, texts, rewards, config, folder=tmp_path, fingerprint={}, bf16=False, progress=SILENT
    )
    trend = policy.policy_facts(trainer, 0).reward
    assert trend.last > trend.first + 0.2


def test_pairs_are_read_in_our_tokens():
    loaded = tiny_loaded()
    first, given = tokenised()[0], PAIRS[0]
    prompt = encode(loaded.tokenizer, given.conversation)
    assert first.chosen == prompt + encode_target(loaded.tokenizer, given.chosen)
    assert first.rejected == prompt + encode_target(loaded.tokenizer, given.rejected)


def test_all_pairs_of_a_prompt_are_on_one_side():
    learnt, held = reward.split(tokenised(), seed=3)
    assert {pair.conversation for pair in learnt}.isdisjoint(pair.conversation for pair in held)
    assert len(learnt) + len(held) == len(PAIRS)
    assert len(held) == round(reward.HELD_OUT * len(PAIRS))


def test_one_prompt_cannot_be_split():
    with pytest.raises(UsageError, match="pairs for 1 prompt"):
        reward.split(tokenised(PAIRS[:2]), seed=0)


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_rewards_are_the_same_alone_and_in_a_batch(mode):
    loaded = tiny_loaded()
    torch.manual_seed(0)
    model = reward.RewardModel(
        reward.classifier(loaded, make_config(mode=mode)), pad=loaded.tokenizer.pad_token_id, batch_size=3
    )
    rows = [pair.chosen for pair in tokenised()[:7]]
    alone = torch.cat([model([row]) for row in rows])
    torch.testing.assert_close(model(rows), alone)


def test_rewards_are_counted_in_standard_deviations():
    loaded = tiny_loaded()
    torch.manual_seed(0)
    model = reward.RewardModel(reward.classifier(loaded, make_config()), pad=0, batch_size=8)
    rows = [pair.chosen for pair in tokenised()]
    model.standardise(rows)
    found = model(rows)
    assert found.mean().abs() < 1e-4
    assert (found.std() - 1).abs() < 1e-4


def test_a_reply_that_does_not_end_loses():
    loaded = tiny_loaded()
    end = loaded.tokenizer.convert_tokens_to_ids("<|eot_id|>")
    function = policy.reward_function(lambda rows: torch.zeros(len(rows)), loaded)
    logged = {}
    found = function(
        prompts=["a", "a", "a"], completion_ids=[[9, end], [9, 9], [9, 9]], log_metric=logged.__setitem__
    )
    assert found == [0.0, -policy.UNFINISHED, -policy.UNFINISHED]
    assert logged == {"distinct": 2 / 3}


def steady(value: float) -> policy.Trend:
    return policy.Trend(value, value)


HEALTHY = {
    "reward": policy.Trend(0.0, 1.0),
    "kl": policy.Trend(0.0, 0.05),
    "distinct": steady(0.9),
    "length": steady(30.0),
    "unfinished": steady(0.02),
}


def test_a_healthy_training_shows_no_sign_of_collapse():
    assert policy.signs_of_collapse(**HEALTHY) == ()


@pytest.mark.parametrize(
    ("name", "trend", "told"),
    [
        ("distinct", policy.Trend(0.9, 0.3), "replies repeat"),
        ("length", policy.Trend(30, 8), "changed length"),
        ("length", policy.Trend(30, 90), "changed length"),
        ("unfinished", policy.Trend(0.02, 0.6), "do not end"),
        ("kl", policy.Trend(0.0, 1.5), "far from the untreated model"),
        ("reward", policy.Trend(0.5, 0.0), "the reward fell"),
    ],
)
def test_a_collapse_is_named(name, trend, told):
    (sign,) = policy.signs_of_collapse(**HEALTHY | {name: trend})
    assert told in sign


def test_signs_of_collapse_are_said(tmp_path, monkeypatch):
    without_reward_model(monkeypatch)
    monkeypatch.setattr(policy, "signs_of_collapse", lambda **_: ("replies repeat",))
    progress = Notes()
    result = run(tmp_path, progress=progress)
    assert result.policy.signs_of_collapse == ("replies repeat",)
    assert "the policy may have collapsed: replies repeat" in progress.said


def test_what_is_too_long_is_left_out_and_counted(tmp_path, monkeypatch):
    without_reward_model(monkeypatch)
    progress, long = Notes(), Pair(user("fox " * 200), "Sorry", "Sure", "harmful")
    result = run(tmp_path, pairs=[*PAIRS, long], prompts=[*PROMPTS, long.conversation], progress=progress)
    assert result.dropped == 2
    assert "1 pairs and 1 prompts were left out as too long" in progress.said


def test_prompts_without_room_for_a_reply_are_refused(tmp_path):
    with pytest.raises(UsageError, match="none of 20 prompts fits into 8 tokens"):
        run(tmp_path, max_tokens=120)


def test_every_pass_sees_every_prompt_once():
    order = policy.prompt_order(5, 12, seed=1)
    assert sorted(order[:5]) == sorted(order[5:10]) == list(range(5))
    assert len(order) == 12
    assert order[:5] != order[5:10]


def test_a_resumed_order_is_the_same():
    assert policy.prompt_order(7, 30, seed=2)[:9] == policy.prompt_order(7, 9, seed=2)


def test_no_pair_at_all_is_refused(tmp_path):
    with pytest.raises(UsageError, match="none of 0 pairs"):
        run(tmp_path, pairs=[])


@pytest.mark.parametrize("package", ["trl", "datasets"])
def test_without_the_packages_the_extra_is_named(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf'{package}, which is not installed: pip install "toxoid\[rlhf\]"'):
        run(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("generations", 1),
        ("reward_epochs", 0),
        ("max_tokens", 0),
        ("kl", -1.0),
        ("kl", float("nan")),
        ("reward_learning_rate", 0.0),
    ],
)
def test_a_value_out_of_range_is_named(name, value):
    with pytest.raises(UsageError, match=f"{name} is"):
        RLHFObjective(**{name: value})


def test_a_step_keeps_the_replies_to_a_prompt_together():
    with pytest.raises(UsageError, match="give a multiple"):
        make_config(batch_size=3)
    make_config(batch_size=1, gradient_accumulation=2)


def test_4_bits_are_refused():
    with pytest.raises(UsageError, match="give lora or full"):
        make_config(mode="qlora")


def test_settings_load_no_heavy_library():
    code = (
        "import sys, toxoid.training.rlhf.settings, toxoid.methods.baselines.rlhf\n"
        "heavy = {'torch', 'transformers', 'peft', 'trl', 'datasets'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
