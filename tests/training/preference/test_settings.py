from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from toxoid.data.groups import Group, RankedReply
from toxoid.data.schemas import user
from toxoid.errors import UsageError
from toxoid.training.preference import Objective, PreferenceConfig, PreferenceExample

GROUP = Group("g", user("hills"), (RankedReply("rain", 0), RankedReply("moss", 1)))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"loss": "sigmod"}, 'loss is "sigmod": give one of .*Did you mean'),
        ({"beta": 0.0}, "beta is 0.0: give a number above 0"),
        ({"kl": -1.0}, "kl is -1.0: give 0 or more"),
        ({"weight": float("nan")}, "weight is nan"),
        ({"loss": "robust", "label_smoothing": 0.5}, "label_smoothing is 0.5: give 0 to below 0.5"),
        ({"label_smoothing": 0.1}, "the loss sigmoid, which has none"),
        ({"gamma": 1.0}, "the loss sigmoid, which has no target margin"),
        ({"weight": 0.0}, "weight and imitation are both 0"),
    ],
)
def test_a_wrong_objective_is_refused(given: dict[str, Any], text: str):
    with pytest.raises(UsageError, match=text):
        Objective(**given)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"attention": "fast"}, 'attention is "fast"'),
        ({"row_tokens": 0}, "row_tokens is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"objective": {"beta": 1.0}}, "give an Objective"),
    ],
)
def test_wrong_settings_are_refused(given: dict[str, Any], text: str):
    with pytest.raises(UsageError, match=text):
        PreferenceConfig(**given)


@pytest.mark.parametrize(
    ("pairs", "imitated", "text"),
    [
        (((0, 2, 1.0),), (), r"group g: the pair \(0, 2\) names a reply beyond its 2"),
        (((1, 1, 1.0),), (), "reply 1 is compared with itself"),
        (((0, 1, 0.0),), (), r"the pair \(0, 1\) has weight 0.0"),
        ((), ((2, 0),), "reply 2 of 2 is imitated"),
        ((), ((0, 4),), "imitated from character 4 of 4"),
        ((), ((0, 0), (0, 1)), "a reply is imitated twice"),
    ],
)
def test_what_is_not_in_the_group_cannot_be_learnt(pairs: Any, imitated: Any, text: str):
    with pytest.raises(UsageError, match=text):
        PreferenceExample(GROUP, pairs, imitated)


def test_settings_and_examples_import_no_torch():
    code = (
        "import sys, toxoid.training.preference.examples, toxoid.training.preference.settings\n"
        "heavy = {'torch', 'transformers', 'peft', 'numpy'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_a_name_that_is_not_there_is_an_error():
    import toxoid.training.preference as package

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        package.nothing  # noqa: B018
