from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxoid.config.loading import validate
from toxoid.config.packaged import packaged_recipes, recipe_descriptions
from toxoid.config.recipe import (
    Recipe,
    TrainingSection,
    distilled,
    load_recipe,
    only_arms,
    parse_overrides,
    recipe_schema,
    single_arm,
    to_yaml,
    with_overrides,
    without_arms,
)
from toxoid.errors import UsageError

SCHEMA = Path(__file__).parents[2] / "docs" / "recipe.schema.json"
ARMS = [
    {"name": "a", "method": "sft", "training": {"epochs": 2}},
    {"name": "b", "method": "sft", "match_steps_of": "a"},
    {"name": "c", "method": "sft"},
]


def recipe(**data):
    return validate(Recipe, data, source="x.yaml")


def problem(**data):
    with pytest.raises(UsageError) as caught:
        recipe(**data)
    return str(caught.value)


@pytest.mark.parametrize("name", packaged_recipes())
def test_packaged_recipe_is_valid_and_described_and_survives_a_round_trip(name, tmp_path):
    loaded = load_recipe(name)
    assert recipe_descriptions()[name]
    (tmp_path / "r.yaml").write_text(to_yaml(loaded))
    assert load_recipe(tmp_path / "r.yaml") == loaded


@pytest.mark.parametrize("name", packaged_recipes())
def test_packaged_recipe_opens_with_a_comment_that_names_its_command(name):
    head = [line for line in packaged_recipes()[name].read_text("utf-8").splitlines() if line.startswith("#")]
    assert any("toxoid " in line for line in head)


def test_empty_recipe_is_an_audit_of_the_lab():
    assert recipe().model.source == "lab-base"
    assert recipe().arms == ()


def test_overrides_of_an_arm_hold_only_what_was_given():
    assert recipe(arms=ARMS).arms[0].training == {"epochs": 2.0}
    assert recipe(arms=ARMS).arms[2].training == {}


@given(
    st.fixed_dictionaries(
        {}, optional={"epochs": st.floats(0.1, 9), "mode": st.sampled_from(["lora", "full"])}
    )
)
def test_arm_training_merges_into_a_valid_training_section(given_keys):
    arm = recipe(arms=[{"name": "a", "method": "sft", "training": given_keys}]).arms[0]
    assert arm.training == given_keys
    assert TrainingSection(**(recipe().training.model_dump() | arm.training))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"arms": [ARMS[0], ARMS[0]]}, 'the arm "a" stands twice'),
        ({"arms": [{"name": "base", "method": "sft"}]}, '"base" is the untreated model'),
        ({"arms": [{"name": "../x", "method": "sft"}]}, '"../x" cannot name a folder'),
        ({"arms": [{"name": "a", "method": "sft", "training": {"epoch": 1}}]}, 'Did you mean "epochs"?'),
        ({"arms": [{"name": "a", "method": "sft", "train": {"limit": 3}}]}, "name harmful and benign in it"),
        ({"arms": [ARMS[1], ARMS[0]]}, '"a" comes later: list that arm first'),
        ({"arms": [{**ARMS[1], "match_steps_of": "b"}]}, 'names "b", which is no other arm'),
        (
            {"arms": [ARMS[0], {"name": "d", "method": "sft", "shield_of": "a"}]},
            "is for the method shield-distilled",
        ),
        (
            {"arms": [ARMS[0], {"name": "d", "method": "shield-distilled", "shield_of": "z"}]},
            'names "z", which is no other arm',
        ),
        (
            {
                "arms": [
                    ARMS[0],
                    {"name": "d", "method": "shield-distilled", "shield_of": "a", "options": {"shield": "x"}},
                ]
            },
            "remove one of them",
        ),
        ({"arms": [{**ARMS[0], "tasks": ["harmfullness"]}]}, 'Did you mean "harmfulness"?'),
        ({"contrasts": [{"before": "bsae", "after": "base"}]}, 'Did you mean "base"?'),
        ({"contrasts": [{"before": "base", "after": "base"}]}, "with itself"),
        ({"audit": {"tasks": ["x", "x"]}}, 'the task "x" stands twice'),
        ({"audit": {"tasks": []}}, "audit.tasks is [], expected at least 1 value"),
        ({"audit": {"sampling": {"temperature": 5.1}}}, "expected a value of 5.0 or less"),
        ({"audit": {"sampling": {"temperature": 0}}}, "set samples to 1"),
        ({"audit": {"course_correction": {"temperature": 0}}}, "set paths to 1"),
        ({"audit": {"course_correction": {"lengths": [20, 10]}}}, "give each once, the shortest first"),
        ({"audit": {"course_correction": {"lengths": [10, 10]}}}, "give each once, the shortest first"),
        ({"audit": {"course_correction": {"lengths": []}}}, "expected at least 1 value"),
        ({"seed": True}, "seed: true is given, expected a number"),
        ({"data": {"sets": {"harmfull": "x"}}}, 'Did you mean "harmful"?'),
        ({"model": {"endpoint": "localhost:8000"}}, "is no URL: write e.g. http://localhost:8000/v1"),
        ({"model": {"endpoint": "http://x/v1", "adapter": "y"}}, "endpoint and adapter exclude each other"),
        ({"judge": {"endpoint": "http://x/v1"}}, "an endpoint needs a model"),
        ({"statistics": {"level": 95}}, "statistics.level is 95, expected a value below 1.0"),
        ({"name": "a/b"}, '"a/b" cannot name a folder'),
    ],
)
def test_each_mistake_is_one_clear_line(data, message):
    text = problem(**data)
    assert message in text
    assert "\n" not in text


def test_numbers_that_yaml_takes_for_text_are_numbers():
    assert recipe(training={"learning_rate": "2e-4"}).training.learning_rate == 2e-4


def test_mistake_in_a_file_is_found_by_its_line(tmp_path):
    (tmp_path / "r.yaml").write_text("name: x\ndata:\n  limt: 3\n")
    with pytest.raises(UsageError, match=r'r\.yaml:3: unknown key "limt" in data. Did you mean "limit"?'):
        load_recipe(str(tmp_path / "r.yaml"))


def test_empty_file_is_told(tmp_path):
    (tmp_path / "r.yaml").touch()
    with pytest.raises(UsageError, match="found nothing"):
        load_recipe(tmp_path / "r.yaml")


def test_unknown_packaged_recipe_has_a_suggestion():
    with pytest.raises(UsageError, match=r'no recipe "dmeo"\. Did you mean "demo"\?'):
        load_recipe("dmeo")


def test_overrides_replace_values_at_any_depth_and_leave_the_recipe_alone():
    before = recipe(arms=ARMS)
    after = with_overrides(
        before,
        {
            "data.sets.harmful": "x.csv",
            "audit.samples": 3,
            "arms.a.training.learning_rate": 1e-3,
            "arms.1.label": "B",
            "arms.c.train": {"harmful": ["h"], "benign": ["b"]},
        },
    )
    assert after.data.sets["harmful"] == "x.csv"
    assert after.data.sets["benign"] == "lab-benign"
    assert after.arms[0].training == {"epochs": 2.0, "learning_rate": 1e-3}
    assert (after.arms[1].label, after.arms[2].train.harmful) == ("B", ("h",))
    assert before == recipe(arms=ARMS)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("audt.samples", 1, 'there is no "audt". Did you mean "audit"?'),
        ("audit.sample", 1, 'unknown key "sample" in audit. Did you mean "samples"?'),
        ("seed.x", 1, '"seed" is a single value, it has no "x"'),
        ("seed.x.y", 1, '"x" leads into a single value'),
        ("arms.z.label", "l", 'there is no "z". Known: a, b, c'),
        ("audit.samples", 0, "audit.samples is 0, expected a value of 1 or more"),
        ("arms.c.train.limit", 3, "name harmful and benign in it"),
    ],
)
def test_wrong_overrides_are_one_clear_line(key, value, message):
    with pytest.raises(UsageError) as caught:
        with_overrides(recipe(arms=ARMS), {key: value})
    assert message in str(caught.value)


def test_settings_are_read_as_yaml():
    texts = ["a.b=0.5", "c=null", "d=[x, y]", "e=a=b", "f="]
    assert parse_overrides(texts) == {"a.b": 0.5, "c": None, "d": ["x", "y"], "e": "a=b", "f": None}


@pytest.mark.parametrize("text", ["a.b", "=1", "a=[1"])
def test_what_is_no_setting_is_told(text):
    with pytest.raises(UsageError):
        parse_overrides([text])


def test_chosen_arms_bring_those_whose_steps_they_match():
    whole = recipe(arms=ARMS, contrasts=[{"before": "a", "after": "b"}, {"before": "a", "after": "c"}])
    chosen = only_arms(whole, ["b"])
    assert [arm.name for arm in chosen.arms] == ["a", "b"]
    assert [part.after for part in chosen.contrasts] == ["b"]


def test_unknown_arm_has_a_suggestion():
    with pytest.raises(UsageError, match=r'recipe demo has no arm "stf"\. Did you mean "sft"\?'):
        only_arms(load_recipe("demo"), ["stf"])


def test_single_arm_keeps_the_recipes_options_and_drops_its_match():
    (arm,) = single_arm(load_recipe("demo"), "sft").arms
    assert (arm.name, arm.match_steps_of) == ("sft", None)
    (arm,) = single_arm(without_arms(load_recipe("demo")), "sft").arms
    assert (arm.name, arm.method, arm.options) == ("sft", "sft", {})


def test_a_distilled_arm_takes_a_shield_that_is_there_in_place_of_an_earlier_arm_s():
    whole = load_recipe("shield-distilled")
    (arm,) = distilled(whole, "my/shield", "soft-prompt").arms
    (expected,) = (arm for arm in whole.arms if arm.name == "soft-prompt")
    assert arm.training == expected.training
    assert (arm.shield_of, arm.options) == (None, {**expected.options, "shield": "my/shield"})
    (plain,) = distilled(without_arms(load_recipe("demo")), "my/shield", "lora").arms
    assert (plain.method, plain.options) == ("shield-distilled", {"form": "lora", "shield": "my/shield"})


def test_chosen_arms_bring_the_shield_that_they_distil():
    assert [arm.name for arm in only_arms(load_recipe("shield-distilled"), ["lora"]).arms] == [
        "contrast",
        "lora",
    ]


def test_recipe_without_arms_is_an_audit():
    demo = without_arms(load_recipe("demo"))
    assert (demo.arms, demo.contrasts) == ((), ())


def test_published_schema_is_current():
    assert json.loads(SCHEMA.read_text()) == recipe_schema(), (
        "run `python -m toxoid.config.recipe > docs/recipe.schema.json`"
    )


def test_schema_knows_the_keys_of_an_arms_training_and_describes_fields():
    definitions = recipe_schema()["$defs"]
    assert "epochs" in definitions["TrainingSection"]["properties"]
    assert definitions["ModelSection"]["properties"]["revision"]["description"] == "Revision of a Hub model."
    assert definitions["ArmSection"]["additionalProperties"] is False


def test_recipes_load_without_heavy_libraries():
    program = (
        "import sys; from toxoid.config.recipe import load_recipe; load_recipe('demo');"
        "print({'torch', 'numpy', 'transformers', 'scipy', 'datasets'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
