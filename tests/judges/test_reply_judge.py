"""The benchmark of reply judges: who learns from what, and what is counted."""

from __future__ import annotations

import json

import numpy as np
import pytest
from benchmarks.refusal_agreement import HALVES
from benchmarks.reply_judge import Answer, System, agreement, answers, held_out, main, table, three_way
from benchmarks.reply_systems import SURE, Reply, combined, fitted, folds, inner, known, labelled

from toxoid.data.schemas import Exchange, Request, user
from toxoid.engines.classifiers.base import REPLIES
from toxoid.errors import UsageError


def reply(number: int, label: int = 0, model: str = "a") -> Reply:
    request = Request(f"xstest/{number}", f"request {number}", "contentious")
    return Reply(Exchange(request, user(request.prompt), "reply"), label, model, HALVES[number % 2])


@pytest.fixture
def of() -> list[Reply]:
    return [reply(number, number % 3, model) for model in "abc" for number in range(60)]


def test_no_fold_learns_from_a_prompt_or_a_model_that_it_judges(of):
    for fold in folds(of):
        assert not {r.exchange.request.id for r in fold.train} & {r.exchange.request.id for r in fold.test}
        assert not {r.model for r in fold.train} & {r.model for r in fold.test}


def test_every_reply_is_judged_once(of):
    for models_known in (False, True):
        judged = [r.key for fold in folds(of, models_known=models_known) for r in fold.test]
        assert sorted(judged) == sorted(r.key for r in of)


def test_with_known_models_prompts_are_still_unknown(of):
    for fold in folds(of, models_known=True):
        assert {r.model for r in fold.train} == set("abc")
        assert not {r.half for r in fold.train} & {r.half for r in fold.test}


def test_inner_split_is_by_prompt(of):
    learnt, held = inner(of)
    assert len(learnt) + len(held) == len(of)
    assert not {r.exchange.request.id for r in learnt} & {r.exchange.request.id for r in held}
    assert learnt
    assert held


def test_two_regressions_give_probabilities_of_three_labels(of):
    features = np.array([[r.label == 0, r.label == 2] for r in of], dtype=float)
    said = fitted(features, of, 0.01, features)
    assert said.sum(axis=1) == pytest.approx(1)
    assert (said.argmax(axis=1) == [r.label for r in of]).all()


def test_a_rare_label_is_not_drowned():
    of = [reply(n, 2 if n < 5 else 0) for n in range(100)]
    features = np.zeros((100, 1))
    assert fitted(features, [*of[:-1], reply(99, 1)], 1.0, features)[0, 0] == pytest.approx(0.5, abs=0.02)


def test_log_odds_are_averaged_and_kinds_come_from_elsewhere():
    said, kinds = np.array([[0.5, 0.1, 0.4], [0.1, 0.6, 0.3]]), np.array([[0.9, 0.02, 0.08], [0.2, 0.2, 0.6]])
    both = combined(np.array([0.5, 0.9]), said, kinds)
    assert both.sum(axis=1) == pytest.approx(1)
    assert both[:, 0] == pytest.approx([0.5, 0.1])
    assert both[:, 1] / both[:, 2] == pytest.approx(kinds[:, 1] / kinds[:, 2])


def test_neither_is_ever_certain():
    some = np.full((2, 3), 1 / 3)
    both = combined(np.array([0.0, 1.0]), np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), some)
    assert 1 - both[:, 0] == pytest.approx([1 - SURE, SURE])


def test_refusals_of_both_kinds_weigh_as_much_as_compliance(of):
    weights = {hit: sum(t.weight for t in labelled(of) if (t.label > 0) is hit) for hit in (False, True)}
    assert weights[True] == pytest.approx(weights[False]) == pytest.approx(len(of) / 2)


def test_what_is_known_is_asked_once_per_seed(of):
    asked = []

    def ask(some, seed):
        asked.append(seed)
        return np.array([[r.label + seed] for r in some])

    look_up = known(ask, of)
    assert look_up(of[5:7], 1).tolist() == [[of[5].label + 1], [of[6].label + 1]]
    look_up(of[:3], 1)
    look_up(of[:3], 2)
    assert asked == [1, 2]


def test_answers_are_kept(of, tmp_path):
    calls = []

    def learn(train, test, seed, out):
        calls.append(out)
        return np.full((len(test), 3), 1 / 3)

    system = System("key", "title", learn)
    first = answers(system, of, 0, tmp_path)
    assert answers(system, of, 0, tmp_path) == first
    assert len(calls) == len(set(calls)) == 6


def test_a_refusal_in_part_counts_as_one():
    given = [Answer(reply(0, 1), (0.4, 0.1, 0.5)), Answer(reply(1, 0), (0.9, 0.1, 0.0))]
    assert agreement(given).accuracy.value == 1.0
    assert three_way(given) == 0.5


def test_held_out_half_only(of):
    given = [Answer(r, (1.0, 0.0, 0.0)) for r in of]
    assert {a.reply.half for a in held_out(given)} == {HALVES[1]}


def test_table_has_a_row_per_system_and_a_column_per_model(of):
    right = [Answer(r, tuple(np.eye(3)[r.label])) for r in of]
    text = table([(System("k", "ours", None), right), (System("s", "theirs", None, three=False), right)])
    head, _, ours, theirs = text.splitlines()
    assert head.endswith("| three labels | a | b | c |")
    assert "| ours | 1.000 [" in ours
    assert "| 1.000 |" in ours
    assert "| – |" in theirs


def test_missing_data_is_a_usage_error(monkeypatch, tmp_path):
    monkeypatch.setenv("TOXOID_DATA", str(tmp_path))
    with pytest.raises(UsageError, match="TOXOID_DATA"):
        main(["--out", str(tmp_path / "out")])


@pytest.mark.data
def test_untrained_systems_on_the_public_replies(tmp_path, capsys):
    try:
        main(["--out", str(tmp_path), "--systems", "strings", "rules", "--seeds", "0"])
    except UsageError as missing:
        pytest.skip(str(missing))
    assert "string matching" in capsys.readouterr().out
    assert json.loads(next((tmp_path / "rules").glob("*/said-0.json")).read_text())


def test_a_hit_is_a_refusal_in_whole_or_in_part():
    assert REPLIES.positive == {"partial refusal", "refusal"}
