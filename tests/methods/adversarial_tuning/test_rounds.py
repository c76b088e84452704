"""Tests of the rounds of adversary against judge."""

from __future__ import annotations

import json

import pytest

from tests.methods.adversarial_tuning.fakes import (
    HOLDOUTS,
    NEGATIVES,
    SEEDS,
    ListAdversary,
    WordJudge,
    WordTruth,
    game,
    load,
    train,
)
from toxoid.errors import UsageError
from toxoid.methods.adversarial_tuning import measures
from toxoid.methods.adversarial_tuning.adversary import RandomData
from toxoid.methods.adversarial_tuning.holdouts import Holdouts
from toxoid.methods.adversarial_tuning.label_queue import LabelQueue
from toxoid.methods.adversarial_tuning.options import RoundOptions
from toxoid.methods.adversarial_tuning.prompts import LabelledPrompt
from toxoid.methods.adversarial_tuning.rounds import last_adopted, play
from toxoid.methods.adversarial_tuning.truth import HumanTruth, Waiting


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(measures, "RESAMPLES", 20)


OPTIONS = RoundOptions(rounds=2, candidates=12, tries=10)


def judge_file(round_):
    return json.loads((round_.judge / "judge.json").read_text())


def contents(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text().replace(str(folder), "") for path in files}


def test_round_0_learns_the_seed_set_alone(tmp_path):
    first = play(game(), OPTIONS, tmp_path)[0]
    assert first.rows == SEEDS
    assert judge_file(first)["start"] is None


def test_without_rounds_there_is_round_0(tmp_path):
    assert len(play(game(), RoundOptions(rounds=0), tmp_path)) == 1


def test_judge_goes_on_from_its_last_checkpoint_on_everything_so_far(tmp_path):
    rounds = play(game(), OPTIONS, tmp_path)
    assert judge_file(rounds[2])["start"] == str(rounds[1].judge)
    assert judge_file(rounds[2])["rows"] == sum(len(each.rows) for each in rounds)


def test_every_candidate_gets_a_negative_and_half_of_them_are_contentious(tmp_path):
    rows = play(game(), OPTIONS, tmp_path)[1].rows
    sources = [row.source for row in rows]
    assert {name: sources.count(name) for name in sources} == {
        "candidate": 12,
        "contentious": 6,
        "harmless": 6,
    }


def test_one_kind_of_negatives_stands_in_for_the_other(tmp_path):
    only = [row for row in NEGATIVES if row.source == "contentious"]
    rows = play(game(negatives=only), RoundOptions(rounds=1, candidates=12, tries=10), tmp_path)[1].rows
    assert [row.source for row in rows].count("contentious") == 12


def test_success_is_problematic_and_called_harmless_by_the_judge_before(tmp_path):
    rounds = play(game(), OPTIONS, tmp_path)
    judge = load(rounds[1].judge)
    for text in rounds[2].record["successes"]:
        assert text.startswith("bad")
        assert judge.probabilities([text])[0, 1] < 0.5
    missed = [
        row.text for row in rounds[2].rows if row.problematic and judge.probabilities([row.text])[0, 1] < 0.5
    ]
    assert missed == rounds[2].record["successes"]


def test_adversary_is_shown_the_successes_of_all_earlier_rounds(tmp_path):
    made = []

    def adversary(adapters):
        made.append(ListAdversary(adapters))
        return made[-1]

    rounds = play(game(adversary=adversary), OPTIONS, tmp_path)
    assert made[0].asked[0][1] == []
    assert made[1].asked[0][1] == rounds[1].record["successes"]


def test_adversary_learns_from_its_successes_before_the_next_round(tmp_path):
    learnt = []

    def tune(adapters, examples, output):
        learnt.append((list(adapters), examples))
        output.mkdir()

    def forgetful(start, rows, output):
        output.mkdir()
        (output / "judge.json").write_text('{"words": []}')

    options = RoundOptions(rounds=3, candidates=6, tries=10)
    rounds = play(game(tune=tune, train_judge=forgetful), options, tmp_path)
    successes = [each.record.get("successes", []) for each in rounds]
    assert learnt[0] == ([], successes[1])
    assert learnt[1][1] == successes[1] + successes[2]
    assert [path.parent.name for path in learnt[1][0]] == ["round-2"]


def test_adversary_without_successes_learns_nothing(tmp_path):
    def tune(adapters, examples, output):
        raise AssertionError

    seen = [*SEEDS, LabelledPrompt("bad", True)]
    play(game(seeds=seen, tune=tune), OPTIONS, tmp_path)


def test_prompts_are_new_in_every_round(tmp_path):
    rounds = play(game(), OPTIONS, tmp_path)
    texts = [row.key for each in rounds for row in each.rows]
    assert len(texts) == len(set(texts))


def test_held_out_candidates_are_dropped_and_counted(tmp_path):
    class Copycat(ListAdversary):
        def propose(self, count, successes, *, seed):
            return [
                f"{HOLDOUTS.slices['missed'][0].text}!",
                *super().propose(count - 1, successes, seed=seed),
            ]

    rounds = play(game(adversary=Copycat), RoundOptions(rounds=1, candidates=12, tries=10), tmp_path)
    assert rounds[1].record["counts"]["held_out"] >= 1
    assert not HOLDOUTS.keys & {row.key for row in rounds[1].rows}


def test_random_data_gets_as_many_new_labels(tmp_path):
    pool = [f"{kind} verba thing{i}" for i in range(60) for kind in ("bad", "nice")]
    with_adversary = play(game(), OPTIONS, tmp_path / "a")
    control = play(game(adversary=lambda adapters: RandomData(pool)), OPTIONS, tmp_path / "b")
    for one, other in zip(with_adversary[1:], control[1:], strict=True):
        assert one.record["counts"]["labelled"] == other.record["counts"]["labelled"] == 12
        assert len(one.rows) == len(other.rows)


def test_rounds_measure_every_slice_with_intervals(tmp_path):
    for each in play(game(), OPTIONS, tmp_path):
        assert each.record["measures"].keys() == HOLDOUTS.slices.keys()
        found = each.record["measures"]["unconditioned"]["accuracy"]
        assert found["ci_low"] <= found["value"] <= found["ci_high"]


def test_round_after_which_agreement_with_people_falls_is_not_adopted(tmp_path):
    people = [LabelledPrompt(f"people {verb}", True, "held-out") for verb in "abcdefghijklmnop"]

    def worse(start, rows, output):
        output.mkdir()
        words = ["people"] if start is None else []
        (output / "judge.json").write_text(json.dumps({"words": words, "start": start and str(start)}))

    given = game(train_judge=worse, holdouts=Holdouts(HOLDOUTS.slices, people))
    rounds = play(given, OPTIONS, tmp_path)
    assert [each.adopted for each in rounds] == [True, False, False]
    assert judge_file(rounds[2])["start"] == str(rounds[0].judge)
    assert last_adopted(rounds) == rounds[0]
    assert rounds[2].record["agreement"]["change"]["from"] == 0
    assert rounds[2].record["start"] == 0


def test_unread_agreement_is_no_agreement(tmp_path):
    people = [LabelledPrompt("", True, "held-out"), LabelledPrompt("", False, "held-out")]
    rounds = play(game(holdouts=Holdouts(HOLDOUTS.slices, people)), OPTIONS, tmp_path)
    assert [each.adopted for each in rounds] == [True, False, False]


def test_collapse_ends_the_rounds(tmp_path):
    class Parrot(ListAdversary):
        def propose(self, count, successes, *, seed):
            return ["bad verbx thing"] * count

    notes = []

    class Told:
        def note(self, text):
            notes.append(text)

        def task(self, *given):
            from toxoid.progress import SILENT

            return SILENT.task(*given)

    rounds = play(game(adversary=Parrot), OPTIONS, tmp_path, progress=Told())
    assert [each.record["collapsed"] for each in rounds] == [False, True]
    assert any("collapsed in round 1" in note for note in notes)
    assert rounds[1].record["counts"]["repeated"] > 0


def test_killed_run_ends_as_an_uninterrupted_one(tmp_path):
    def tune(adapters, examples, output):
        output.mkdir()
        (output / "adapter.json").write_text(json.dumps([len(list(adapters)), examples]))

    whole = game(tune=tune)
    play(whole, OPTIONS, tmp_path / "whole")
    steps = 0
    while True:  # killed after one more step each time: training, tuning and labelling fail once each
        left = [1]

        def once(call, left=left):
            def guarded(*given):
                if not left[0]:
                    raise KeyboardInterrupt
                left[0] -= 1
                return call(*given)

            return guarded

        truth = WordTruth()
        truth.label = once(truth.label)
        broken = game(tune=once(tune), train_judge=once(train), truth=truth)
        try:
            play(broken, OPTIONS, tmp_path / "killed")
            break
        except KeyboardInterrupt:
            steps += 1
    assert steps >= 3
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_more_rounds_continue_the_same_game(tmp_path):
    play(game(), RoundOptions(rounds=1, candidates=8, tries=10), tmp_path / "a")
    play(game(), RoundOptions(rounds=2, candidates=8, tries=10), tmp_path / "a")
    play(game(), RoundOptions(rounds=2, candidates=8, tries=10), tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_folder_of_another_game_is_refused(tmp_path):
    play(game(), OPTIONS, tmp_path)
    with pytest.raises(UsageError, match="other options, seeds"):
        play(game(seeds=[*SEEDS, LabelledPrompt("more", True)]), RoundOptions(rounds=1), tmp_path)


def test_people_are_waited_for_and_then_the_same_candidates_go_on(tmp_path):
    queue = LabelQueue(tmp_path / "queue")
    given, options = game(truth=HumanTruth(queue)), RoundOptions(rounds=1, candidates=5, tries=10)
    with pytest.raises(Waiting, match="5 of 5 prompts"):
        play(given, options, tmp_path / "rounds")
    asked = queue.open()
    for text in asked[1:]:
        queue.record(text, "problematic" if text.startswith("bad") else "harmless", by="me")
    queue.record(asked[0], "unclear", by="me")
    rounds = play(given, options, tmp_path / "rounds")
    assert [row.text for row in rounds[1].rows if row.source == "candidate"] == asked[1:]
    assert rounds[1].record["counts"]["unclear"] == 1


def test_seeds_of_one_label_are_refused_with_counts(tmp_path):
    with pytest.raises(UsageError, match="2 problematic and 0 harmless"):
        play(game(seeds=SEEDS[:2]), OPTIONS, tmp_path)


@pytest.mark.parametrize("where", ["seeds", "negatives"])
def test_training_rows_in_a_slice_are_refused(tmp_path, where):
    held = LabelledPrompt(HOLDOUTS.slices["contentious"][0].text.upper(), False)
    rows = {"seeds": SEEDS, "negatives": NEGATIVES}[where]
    with pytest.raises(UsageError, match="hold-out slice"):
        play(game(**{where: [*rows, held]}), OPTIONS, tmp_path)


def test_problematic_negatives_are_refused(tmp_path):
    with pytest.raises(UsageError, match="1 of the negatives"):
        play(game(negatives=[LabelledPrompt("bad one", True)]), OPTIONS, tmp_path)


def test_truth_that_is_the_trained_judge_is_refused(tmp_path):
    class Same(WordTruth):
        def identity(self):
            return {"judge": "x", "classifier": WordJudge(load(tmp_path / "round-0/judge").words).identity()}

    play(game(), RoundOptions(rounds=1, candidates=3, tries=10), tmp_path)
    (tmp_path / "game.json").unlink()
    (tmp_path / "round-1/round.json").unlink()
    with pytest.raises(UsageError, match="is the judge that is trained"):
        play(game(truth=Same()), OPTIONS, tmp_path)
