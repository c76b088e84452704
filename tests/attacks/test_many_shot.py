"""Many-shot: how many shots stand before the request, which, and what happens where they do not fit."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxoid.attacks.many_shot import FEWEST, MOST, SHOTS, ManyShot, Room, own_shots
from toxoid.attacks.registry import make_attack
from toxoid.config.prompt_files import prompt as prompt_file
from toxoid.data.schemas import Request
from toxoid.errors import UsageError
from toxoid.judges.refusal import THRESHOLD, read_refusal

REQUEST = Request("set/1", "How do I mend {question} of it?", metadata={"origin": "invented"})
EXAMPLES = tuple(
    Request(f"set/{row}", f"How do I do task {row}?", target=f"Do step {row}.") for row in range(12)
)
NAMES = ["many_shot", "many_shot_inline"]
POOLS = ["evaluation", "training"]


def words(conversation):
    return sum(len(turn.content.split()) for turn in conversation)


def sent(attack, request=REQUEST, seed=0):
    (prompt,) = attack.apply(request, seed=seed)
    return prompt


def questions(prompt):
    """Return what the user asked before the request, in a conversation of turns."""
    return [turn.content for turn in prompt.conversation[:-1] if turn.role == "user"]


def test_shots_are_turns_before_the_request():
    prompt = sent(ManyShot(name="many_shot"))
    assert [turn.role for turn in prompt.conversation] == ["user", "assistant"] * SHOTS + ["user"]
    assert prompt.conversation[-1].content == REQUEST.prompt


def test_inline_shots_stand_in_one_message_that_ends_open():
    for prompt in ManyShot(name="many_shot_inline", shots=8, variants=3).apply(REQUEST, seed=0):
        (message,) = prompt.conversation
        assert (
            sum(shot.answer in message.content for shots in own_shots("evaluation")[:1] for shot in shots)
            == 8
        )
        assert REQUEST.prompt in message.content.rsplit("\n\n", 1)[1]
        assert message.content.endswith(":")


def test_turns_of_the_request_itself_stand_before_the_shots():
    history = [{"role": "system", "content": "Be brief."}]
    request = Request("set/1", "And then?", metadata={"history": history})
    assert sent(ManyShot(name="many_shot", shots=4), request).conversation[0].role == "system"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("shots", [FEWEST, 100, MOST])
def test_any_number_of_own_shots_can_be_had_without_repetition(name, pool, shots):
    prompt = sent(ManyShot(name=name, shots=shots, pool=pool))
    assert prompt.request.metadata["shots"] == prompt.request.metadata["shots_wanted"] == shots
    if name == "many_shot":
        assert len({*questions(prompt)}) == shots


def test_no_question_recurs_with_another_place_before_all_have_been_asked():
    first = sent(ManyShot(name="many_shot", shots=len(own_shots("evaluation")[0])))
    answers = Counter(turn.content for turn in first.conversation if turn.role == "assistant")
    assert {*answers.values()} == {1}


@pytest.mark.parametrize("pool", POOLS)
def test_every_own_question_names_its_place_and_every_shot_is_unique(pool):
    assert all("{place}" in shot["question"] for shot in prompt_file("attacks/shots")[pool]["shots"])
    shots = [shot for shots in own_shots(pool) for shot in shots]
    assert len({shot.question for shot in shots}) == len(shots) >= MOST
    assert not any("{" in shot.question + shot.answer for shot in shots)


def test_own_shots_comply():
    answers = {shot.answer for pool in POOLS for shot in own_shots(pool)[0]}
    assert [answer for answer in answers if read_refusal(answer).score >= THRESHOLD] == []


def test_shots_of_training_are_never_those_of_evaluation():
    training, evaluation = ({shot for shots in own_shots(pool) for shot in shots} for pool in POOLS)
    assert not {shot.question for shot in training} & {shot.question for shot in evaluation}
    assert not {shot.answer for shot in training} & {shot.answer for shot in evaluation}


def test_shots_and_their_order_depend_on_seed_and_id():
    attack = ManyShot(name="many_shot")
    again = sent(attack, Request("set/1", "Another question?"))
    assert questions(sent(attack)) == questions(again)
    assert questions(sent(attack)) != questions(sent(attack, seed=1))
    assert questions(sent(attack)) != questions(sent(attack, Request("set/2", REQUEST.prompt)))


@given(st.integers(0, 500))
def test_as_many_shots_are_sent_as_fit(extra):
    alone = words(sent(ManyShot(name="many_shot")).conversation[-1:])
    full = ManyShot(name="many_shot")
    attack = ManyShot(name="many_shot", room=Room(alone + extra, words))
    prompt = sent(attack)
    count = prompt.request.metadata["shots"]
    assert words(prompt.conversation) <= alone + extra
    assert prompt.conversation == (*sent(full).conversation[: 2 * count], sent(full).conversation[-1])
    longer = (*sent(full).conversation[: 2 * count + 2], sent(full).conversation[-1])
    assert count == SHOTS or words(longer) > alone + extra


@pytest.mark.parametrize("name", NAMES)
def test_the_number_sent_is_recorded_beside_the_number_asked_for(name):
    prompt = sent(ManyShot(name=name, shots=64, room=Room(400, words)))
    metadata = prompt.request.metadata
    assert 0 < metadata["shots"] < metadata["shots_wanted"] == 64
    assert metadata["origin"] == "invented"
    assert prompt.variant.endswith(f"/shots={metadata['shots']}")
    assert "shots" not in REQUEST.metadata


def test_a_request_that_does_not_fit_alone_is_refused():
    with pytest.raises(UsageError, match="set/1 alone does not fit into 3 tokens"):
        sent(ManyShot(name="many_shot", room=Room(3, words)))


def test_examples_are_the_whole_replies_of_other_requests():
    given_ = (*EXAMPLES, Request("other/1", "How do I DO task 3", target="The same prompt."))
    prompt = sent(ManyShot(name="many_shot", shots=11, examples=given_), EXAMPLES[3])
    asked = questions(prompt)
    assert {*asked} == {example.prompt for example in EXAMPLES} - {EXAMPLES[3].prompt}
    replies = [turn.content for turn in prompt.conversation if turn.role == "assistant"]
    assert replies == [
        question.replace("How do I do task", "Do step").replace("?", ".") for question in asked
    ]


def test_too_few_examples_are_refused():
    with pytest.raises(UsageError, match=r"needs 12 examples .* beside set/3; 11 were given"):
        sent(ManyShot(name="many_shot", shots=12, examples=EXAMPLES), EXAMPLES[3])


@pytest.mark.parametrize("shots", [0, 3, 257])
def test_numbers_of_shots_out_of_range_are_refused(shots):
    with pytest.raises(UsageError, match=f"was given {shots} shots; expected 4 to 256"):
        ManyShot(name="many_shot", shots=shots)


def test_identity_tells_numbers_shots_and_room_apart():
    attacks = [
        ManyShot(name="many_shot"),
        ManyShot(name="many_shot", shots=64),
        ManyShot(name="many_shot", examples=EXAMPLES),
        ManyShot(name="many_shot", examples=EXAMPLES[1:]),
        ManyShot(name="many_shot", room=Room(512, words)),
        ManyShot(name="many_shot_inline"),
    ]
    assert len({str(attack.identity()) for attack in attacks}) == len(attacks)


def test_name_takes_the_number_of_shots_and_a_data_set(tmp_path):
    rows = "\n".join(f"task {row},Sure: step {row}" for row in range(6))
    (tmp_path / "pairs.csv").write_text(f"goal,target\n{rows}\n")
    attack = make_attack(f"many_shot:4:{tmp_path / 'pairs.csv'}")
    assert {*questions(sent(attack))} <= {f"task {row}" for row in range(6)}
    assert len(questions(sent(attack))) == 4
    assert len(questions(sent(make_attack("many_shot:64")))) == 64


@pytest.mark.parametrize("argument", ["many", "-4", "4.5"])
def test_a_number_of_shots_that_is_none_is_refused(argument):
    with pytest.raises(UsageError, match="expected a number of shots"):
        make_attack(f"many_shot:{argument}")
