"""``toxoid shield``: make, show, export and import."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from tests.helpers.tiny_models import save_checkpoint
from toxoid.cli import main
from toxoid.engines.loading import load_model
from toxoid.engines.shield import Shield, load_shield, made_for, save_shield
from toxoid.engines.soft_prompt import Frame
from toxoid.loop import run as loop


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_checkpoint(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model):
    loaded = load_model(model)
    safe, opposite = torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(0))
    facts = {"anchors": {"kept": 3}, "losses": {"SP kept": 0.123456}, "seconds": 1.5}
    made = Shield(safe, opposite, Frame("front"), made_for(loaded), facts=facts)
    path = tmp_path_factory.mktemp("shields") / "shield"
    save_shield(made, path)
    return str(path)


@pytest.fixture
def asked(monkeypatch, folder):
    """What `make` asks the loop to do."""
    found = []

    def align(recipe, directory, **given):
        found.append((recipe, directory))
        return SimpleNamespace(path=folder, steps=9, examples={"kept": 3, "refused": 2})

    monkeypatch.setattr(loop, "align", align)
    return found


def options(asked):
    return asked[0][0].arms[0].options


@pytest.mark.parametrize("verb", [[], ["make"]], ids=["default", "make"])
def test_make_is_what_is_meant_when_no_subcommand_is_named(capsys, tmp_path, asked, folder, verb):
    assert main(["shield", *verb, "my-model", "--out", str(tmp_path)]) == 0
    [(recipe, directory)] = asked
    assert (recipe.model.source, directory) == ("my-model", tmp_path)
    assert [arm.method for arm in recipe.arms] == ["contrastive-decoding"]
    out = capsys.readouterr().out
    assert "trained 9 steps in 1.5 s on 3 kept, 2 refused replies" in out
    assert f"toxoid generate my-model --shield {folder}" in out


def test_an_option_may_come_before_the_model(tmp_path, asked):
    assert main(["shield", "--out", str(tmp_path), "my-model"]) == 0
    assert asked[0][0].model.source == "my-model"


def test_the_options_reach_the_arm(asked):
    assert (
        main(["shield", "m", "--anchors", "7", "--steps", "9", "--learning-rate", "0.01", "--seed", "3"]) == 0
    )
    [(recipe, _)] = asked
    assert options(asked) == {"anchors": 7}
    assert (recipe.arms[0].training["max_steps"], recipe.arms[0].training["learning_rate"]) == (9, 0.01)
    assert recipe.seed == 3


def test_the_published_form_is_every_published_value(asked):
    from toxoid.methods.contrastive_decoding.options import ContrastiveDecodingOptions

    assert main(["shield", "m", "--published"]) == 0
    chosen = ContrastiveDecodingOptions(**options(asked))
    assert (chosen.unlikelihood, chosen.contentious, chosen.two_sided) == (1, 0, False)
    assert (chosen.rescale, chosen.plausibility, chosen.alpha) == (False, 0, 0.4)


def test_a_setting_goes_before_an_option(asked):
    arm = "contrastive-decoding"
    assert (
        main(["shield", "m", "--recipe", "demo", "--published", "--set", f"arms.{arm}.options.alpha=0.5"])
        == 0
    )
    assert (options(asked)["alpha"], options(asked)["unlikelihood"]) == (0.5, 1)


def test_contentious_requests_of_one_s_own_are_anchors_too(asked):
    given = ("--requests", "h.csv", "--benign", "b.csv", "--contentious", "c.csv")
    assert main(["shield", "m", *given]) == 0
    [(recipe, _)] = asked
    assert (recipe.train.harmful, recipe.train.benign) == (("h.csv",), ("b.csv", "c.csv"))


def test_a_shield_is_made_of_the_lab_model_and_used(capsys, tmp_path):
    made = ("--anchors", "12", "--steps", "1", "--limit", "20")
    assert main(["shield", "lab-base", "--out", str(tmp_path / "run"), *made]) == 0
    path = capsys.readouterr().out.rsplit("--shield ", 1)[1].strip()
    assert load_shield(path).facts["steps"] == 1
    assert main(["generate", "lab-base", "Where is the mill?", "--shield", path, "--json"]) == 0
    assert "contrasted" in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("form", ["lora", "soft-prompt"])
def test_a_shield_is_distilled_into_the_form_that_is_asked_for(capsys, tmp_path, asked, folder, form):
    given = ("--shield", folder, "--form", form, "--anchors", "7", "--steps", "9", "--seed", "3")
    assert main(["shield", "distil", "my-model", *given, "--out", str(tmp_path)]) == 0
    [(recipe, directory)] = asked
    [arm] = recipe.arms
    assert (recipe.model.source, recipe.seed, directory) == ("my-model", 3, tmp_path)
    assert (arm.method, arm.shield_of, arm.training["max_steps"]) == ("shield-distilled", None, 9)
    assert (arm.options.get("form", "lora"), arm.options["shield"], arm.options["anchors"]) == (
        form,
        folder,
        7,
    )
    assert f"adapter: {folder}" in capsys.readouterr().out


def test_show_tells_model_prompts_contrast_anchors_and_losses(capsys, folder):
    assert main(["shield", "show", folder]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for part in ("tiny", "4 each, placement front", "alpha 0.4", "kept 3", "SP kept 0.1235"):
        assert part in told


def test_what_is_exported_can_be_imported(capsys, tmp_path, model, folder):
    for half, consent in (("safe", []), ("opposite", ["--yes"])):
        out = str(tmp_path / half)
        assert main(["shield", "export", folder, model, "--half", half, "--out", out, *consent]) == 0
    assert "ready-made jailbreak" in capsys.readouterr().err
    halves = ("--safe", str(tmp_path / "safe"), "--opposite", str(tmp_path / "opposite"))
    assert main(["shield", "import", model, *halves, "--out", str(tmp_path / "back")]) == 0
    before, after = load_shield(folder), load_shield(tmp_path / "back")
    assert torch.equal(before.safe, after.safe)
    assert torch.equal(before.opposite, after.opposite)


def test_the_adversarial_half_is_not_exported_without_consent(capsys, tmp_path, model, folder):
    out = tmp_path / "ap"
    assert main(["shield", "export", folder, model, "--half", "opposite", "--out", str(out)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "--yes" in line
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["./no-such-model"], "no-such-model"),
        (["m", "--anchors", "many"], "--anchors"),
        (["m", "--steps", "0"], "max_steps"),
        (["m", "--recipe", "no-such"], "no-such"),
        (["lab-base", "--endpoint", "http://localhost:1"], "weights are elsewhere"),
        (["distil", "lab-base"], "--shield"),
        (["distil", "lab-base", "--shield", "none"], "there is no folder none"),
        (["distil", "lab-base", "--shield", "."], "is no shield"),
        (["distil", "lab-base", "--shield", "SHIELD", "--anchors", "3"], "was made for tiny"),
        (["distil", "MODEL", "--shield", "SHIELD", "--anchors", "0"], "anchors is 0"),
        (["distil", "MODEL", "--shield", "SHIELD", "--form", "prefix"], "--form"),
        (["distil", "m", "--shield", "SHIELD", "--endpoint", "http://localhost:1"], "weights are elsewhere"),
        (["show", "."], "is no shield"),
        (["show"], "SHIELD"),
        (["export", "SHIELD", "lab-base", "--half", "safe", "--out", "x"], "was made for tiny"),
        (
            ["export", "SHIELD", "m", "--half", "safe", "--out", "x", "--endpoint", "http://localhost:1"],
            "weights here",
        ),
        (["export", "SHIELD", "MODEL", "--out", "x"], "--half"),
        (["import", "MODEL", "--safe", ".", "--opposite", ".", "--out", "x"], "is not a PEFT adapter"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(capsys, tmp_path, monkeypatch, model, folder, arguments, expected):
    monkeypatch.chdir(tmp_path)
    stand_ins = {"SHIELD": folder, "MODEL": model}
    assert main(["shield", *(stand_ins.get(part, part) for part in arguments)]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("toxoid: ")]
    assert len(lines) == 1
    assert expected in lines[0]


def test_without_arguments_help_is_shown(capsys):
    assert main(["shield"]) == 2
    assert "make" in capsys.readouterr().err
