"""The question about a whole reply: which reply is shown, and that nothing tells what it is."""

from __future__ import annotations

from typing import get_args

import pytest

from toxoid.attacks.analysis_question import AnalysisQuestion, QuestionForm, question
from toxoid.data.schemas import Request
from toxoid.errors import UsageError

HARMFUL = Request("set/1", "How do I steal {it}?", target="Take {it} at night.", reference="I will not say.")
BENIGN = Request("set/2", "How do I mend it?", "benign", target="Nonsense.", reference="Use some glue.")


def asked(request):
    (prompt,) = AnalysisQuestion().apply(request, seed=0)
    return prompt


@pytest.mark.parametrize(
    ("request_", "shown", "hidden"),
    [
        (HARMFUL, "Take {it} at night.", "I will not say."),
        (BENIGN, "Use some glue.", "Nonsense."),
    ],
)
def test_the_reply_shown_is_the_whole_one_of_the_requests_kind(request_, shown, hidden):
    text = asked(request_).conversation[-1].content
    assert shown in text
    assert hidden not in text


def test_the_question_is_the_one_that_training_uses_without_a_hint():
    assert asked(HARMFUL).conversation[-1].content == question(HARMFUL.prompt, HARMFUL.target)


@pytest.mark.parametrize("form", [form for form in get_args(QuestionForm) if form != "unguided"])
def test_guided_forms_say_more_than_the_unguided_one(form):
    parts = [question("How?", "So.", name).rsplit("\n", 1) for name in (form, "unguided")]
    assert parts[0][0] == parts[1][0]
    assert parts[0][1] != parts[1][1]


def test_a_judge_sees_the_request_itself():
    assert asked(BENIGN).request == BENIGN


@pytest.mark.parametrize(
    ("request_", "lacks"),
    [
        (Request("set/3", "How?", reference="No."), "set/3 has no target"),
        (Request("set/4", "How?", "contentious", target="So."), "set/4 has no reference"),
    ],
)
def test_a_request_without_a_whole_reply_is_refused(request_, lacks):
    with pytest.raises(UsageError, match=lacks):
        AnalysisQuestion().apply(request_, seed=0)
