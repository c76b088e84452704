"""The contract of attacks that talk back, and the two that only repeat what others say."""

import json
import subprocess
import sys

import pytest

from tests.helpers.playing import questions, said
from toxoid.attacks.direct import Direct
from toxoid.attacks.framing import Framing
from toxoid.attacks.interactive import Answer, OneByOne, read_fields, worded
from toxoid.attacks.wording import load_wording
from toxoid.data.schemas import Request, user
from toxoid.engines.base import Completion

REQUEST = Request("set/1", "Which oath is false?")
LAB = Request("lab-harmful/1", "How do I skunden the thornbridge?")


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "x", "b": " y "}',
        ' {"b": "y", "a": "x", "c": 3}\n',
        '```json\n{"a": "x", "b": "y"}\n```',
        '```\n{"a": "x",\n"b": "y"}\n```\n',
    ],
)
def test_one_object_alone_or_fenced_is_read(text):
    assert read_fields(text, ("a", "b")) == {"a": "x", "b": "y"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no object",
        'Sure! {"a": "x"}',
        '{"a": "x"} and more',
        '{"a": ""}',
        '{"a": " "}',
        '{"a": 3}',
        '{"a": ["x"]}',
        '{"b": "x"}',
        '["a"]',
        '{"a": "x"',
        '{"a": "\\ud83d"}',
        "[" * 100_000,
        '```json\n{"a": "x"}\n``` ```json\n{"a": "y"}\n```',
    ],
)
def test_whatever_is_not_the_object_asked_for_is_malformed(text):
    assert read_fields(text, ("a",)) is None


def test_a_pair_of_surrogates_is_one_character():
    assert read_fields(json.dumps({"a": "fine \U0001f600"}), ("a",)) == {"a": "fine \U0001f600"}


def test_text_of_an_answer_can_be_sent_on():
    answer = Answer(Completion("half \ud83d of a pair", "stop", 1, 1))
    assert answer.text.encode("utf-8")


def test_one_by_one_asks_every_conversation_of_its_attack():
    attack = Framing("role_play", variants=4)
    prompts = attack.apply(REQUEST, seed=3)
    asked = questions(OneByOne(attack), REQUEST, lambda question, number: said(), seed=3)
    assert [(ask.conversation, ask.variant) for ask in asked] == [
        (p.conversation, p.variant) for p in prompts
    ]


def test_rounds_repeat_the_conversations():
    asked = questions(OneByOne(Direct(), rounds=3), REQUEST, lambda question, number: said())
    assert [ask.conversation for ask in asked] == [user(REQUEST.prompt)] * 3


@pytest.mark.parametrize(
    ("request_", "choice", "file"),
    [
        (REQUEST, "auto", "crescendo"),
        (LAB, "auto", "crescendo_lab"),
        (LAB, "english", "crescendo"),
        (REQUEST, "lab", "crescendo_lab"),
    ],
)
def test_wording_is_the_labs_for_the_labs_requests(request_, choice, file):
    assert worded("crescendo", choice, request_) == load_wording(file)


def test_attacks_are_imported_without_torch():
    names = ("adaptive", "best_of_n", "crescendo", "gcg", "interactive", "lab", "pair")
    imports = "; ".join(f"import toxoid.attacks.{name}" for name in names)
    heavy = "any(name in sys.modules for name in ('torch', 'transformers', 'nanogcg'))"
    code = f"import sys; {imports}; import toxoid.audit.play; sys.exit({heavy})"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
