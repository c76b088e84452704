"""A judge's card on labelled texts: what is measured, and what is refused."""

from __future__ import annotations

import pytest

from tests.engines.classifiers.tiny import REPLIES, taught, tiny_words
from tests.loop.judges import prompts, replies, write
from toxoid.engines.classifiers.folders import save_classifier
from toxoid.engines.classifiers.windows import Window
from toxoid.errors import UsageError
from toxoid.loop.judge_evaluation import evaluate_judge


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """A judge of prompts that finds what has to do with poison."""
    folder = tmp_path_factory.mktemp("judges") / "prompts"
    save_classifier(taught(tiny_words(window=Window(256, 32)), "poison"), folder)
    return str(folder)


@pytest.fixture(scope="module")
def of_replies(tmp_path_factory):
    """A judge of replies that finds those that say sorry."""
    folder = tmp_path_factory.mktemp("judges") / "replies"
    save_classifier(taught(tiny_words(REPLIES, Window(256, 32)), ("", "Sorry")), folder)
    return str(folder)


@pytest.fixture
def own(tmp_path):
    return write(tmp_path / "own.csv", prompts())


def test_the_card_counts_what_the_judge_said(judge, own):
    card = evaluate_judge([own], name=judge)
    poison = sum("poison" in row["prompt"] for row in prompts())
    assert (card["tp"], card["fp"], card["n"]) == (poison, 0, len(prompts()))
    assert card["aspect"] == "problematic"
    assert {*card["by_source"]} == {"own"}
    assert sum(each["n"] for each in card["by_length"].values()) == card["n"]
    assert 0.5 < card["auroc"] < 1


def test_the_contrast_set_is_labelled_data(judge):
    card = evaluate_judge(["contrast"], name=judge, limit=40)
    assert (card["n"] + card["n_unscored"], {*card["by_source"]}) == (40, {"contrast"})


def test_a_judge_of_replies_is_measured_on_replies(of_replies, tmp_path):
    card = evaluate_judge([write(tmp_path / "replies.csv", replies())], name=of_replies)
    assert card["aspect"] == "refusal"
    assert card["identity"]["judge"] == "classifier"
    assert card["tp"] == sum(row["label"] == "refusal" for row in replies())


def test_the_rules_are_measured_if_they_are_named(tmp_path):
    card = evaluate_judge([write(tmp_path / "replies.csv", replies())], name="refusal")
    assert card["name"] == "refusal-rules"


def test_what_cannot_be_read_is_unscored_and_what_is_long_is_read(judge, tmp_path):
    odd = ["\u200b\u200b", "word " * 20_000 + "poison", "鍵を開ける方法 poison Как"]
    rows = [*prompts(), *({"prompt": text, "label": "problematic"} for text in odd)]
    card = evaluate_judge([write(tmp_path / "odd.csv", rows)], name=judge)
    plain = evaluate_judge([write(tmp_path / "plain.csv", prompts())], name=judge)
    assert (card["n_unscored"], card["tp"]) == (1, plain["tp"] + 2)


@pytest.mark.parametrize(
    ("rows", "given", "said"),
    [
        (prompts(), {"aspect": "refusal"}, "refusal was to be measured"),
        (prompts(), {"aspect": "nothing"}, "nothing was to be measured"),
        (prompts(), {"limit": 0}, "1 or more"),
        (replies(), {}, "refusal or harmful was to be measured"),
        (replies(), {"aspect": "problematic"}, '"compliance"'),
        (prompts()[:3], {}, "hits and misses"),
        ([{**row, "label": "perhaps"} for row in prompts()], {}, "perhaps"),
    ],
)
def test_what_does_not_go_together_is_refused(judge, tmp_path, rows, given, said):
    with pytest.raises(UsageError, match=said) as error:
        evaluate_judge([write(tmp_path / "rows.csv", rows)], name=judge, **given)
    assert "\n" not in str(error.value)


def test_a_judge_of_replies_needs_replies(of_replies, own):
    with pytest.raises(UsageError, match="problematic was to be measured"):
        evaluate_judge([own], name=of_replies)


def test_an_unknown_judge_is_told(own):
    with pytest.raises(UsageError, match='"refusl" is no judge'):
        evaluate_judge([own], name="refusl")
