"""Combined attacks: frames, layers, begun replies, and several in turn."""

import pytest

from toxoid.attacks.combined import Begun, Framed, Layered, Several
from toxoid.attacks.direct import Direct
from toxoid.attacks.encoding import Encoding
from toxoid.attacks.wording import load_wording
from toxoid.data.schemas import Request

REQUEST = Request("set/1", "Which oath is false?")
LAB = Request("lab-harmful/1", "How do I skunden the thornbridge?", target="Of course. Take the comb.")
ROLE_PLAY, PERSONA = Framed("role_play", "english"), Framed("persona", "english")


def text(prompt):
    return prompt.conversation[-1].content


@pytest.mark.parametrize("name", ["role_play", "embedded"])
@pytest.mark.parametrize(("wording", "request_"), [("english", REQUEST), ("lab", LAB)])
def test_frames_hold_the_request_and_no_unfilled_slot(name, wording, request_):
    for prompt in Framed(name, wording).apply(request_, seed=0):
        assert "{" not in text(prompt)
        assert request_.prompt in text(prompt) or (
            "skunden" in text(prompt) and "thornbridge" in text(prompt)
        )


def test_a_frame_is_identified_by_the_file_that_it_is_read_from():
    assert Framed("role_play", "lab").identity()["wording"] == load_wording("role_play_lab").sha256
    assert Framed("role_play", "english").identity() != Framed("role_play", "lab").identity()


def test_layers_are_every_pair_and_the_judge_sees_the_request_itself():
    pairs = Layered(ROLE_PLAY, PERSONA).apply(REQUEST, seed=0)
    inner, outer = ROLE_PLAY.apply(REQUEST, seed=0), PERSONA.apply(REQUEST, seed=0)
    assert len({prompt.variant for prompt in pairs}) == len(pairs) == len(inner) * len(outer)
    for prompt in pairs:
        assert prompt.request == REQUEST
        assert any(text(one) in text(prompt) for one in inner)


def test_layers_come_in_an_order_of_the_seed_and_the_request():
    attack = Layered(ROLE_PLAY, PERSONA)
    other = Request("set/2", REQUEST.prompt)
    assert attack.apply(REQUEST, seed=0) == attack.apply(REQUEST, seed=0)
    orders = [
        [p.variant for p in attack.apply(r, seed=s)] for r, s in ((REQUEST, 0), (REQUEST, 1), (other, 0))
    ]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]


def test_a_reply_is_begun_with_the_target_first_and_then_with_every_opener():
    begun = Begun(ROLE_PLAY, "lab").apply(LAB, seed=0)
    asked = ROLE_PLAY.apply(LAB, seed=0)
    assert [prompt.prefill for prompt in begun[: len(asked)]] == ["Of course."] * len(asked)
    assert [text(prompt) for prompt in begun] == [text(prompt) for prompt in asked] * (
        len(begun) // len(asked)
    )
    assert len({prompt.variant for prompt in begun}) == len(begun)
    assert "Listen well, here is how." in {prompt.prefill for prompt in begun}


def test_without_a_target_the_own_openers_of_evaluation_are_all():
    openers = load_wording("prefill").of("openers", "evaluation")
    begun = Begun(Direct(), "english").apply(REQUEST, seed=0)
    assert {prompt.prefill for prompt in begun} == {opener.text for opener in openers}
    assert len(begun) == len(openers)


def test_several_attacks_take_turns_until_all_are_told():
    attack = Several("codes", (Encoding("base64", variants=2), Encoding("rot13")))
    names = [prompt.attack for prompt in attack.apply(REQUEST, seed=0)]
    assert names == ["encoding_base64", "encoding_rot13", "encoding_base64"]
