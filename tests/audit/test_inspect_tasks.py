"""Tasks of inspect_ai: what they ask, and what they refuse to ask."""

from __future__ import annotations

import pytest

pytest.importorskip("inspect_ai")

from toxoid.audit.inspect_tasks import audit
from toxoid.data.loading import load_requests
from toxoid.errors import UsageError


def test_samples_are_the_requests_with_their_ids_for_clustering():
    task = audit("over-refusal", limit=3)
    requests = load_requests("lab-contentious", kind="contentious", limit=3)
    assert [sample.id for sample in task.dataset] == [request.id for request in requests]
    assert [sample.metadata["request"] for sample in task.dataset] == [request.id for request in requests]
    assert [sample.input[-1].text for sample in task.dataset] == [request.prompt for request in requests]


@pytest.mark.parametrize("question", ["prefill", "course-correction"])
def test_a_task_that_begins_the_reply_is_refused(question):
    with pytest.raises(UsageError, match="begins the reply itself"):
        audit(question, limit=2)


def test_an_unknown_task_is_told():
    with pytest.raises(UsageError, match='Did you mean "harmfulness"'):
        audit("harmfullness")


@pytest.mark.anyio
async def test_replies_are_scored_by_the_audits_judges():
    from inspect_ai.model import ModelName, ModelOutput
    from inspect_ai.scorer import Target
    from inspect_ai.solver import TaskState

    task = audit("over-refusal", limit=1)
    sample = task.dataset[0]
    state = TaskState(
        model=ModelName("mockllm/model"),
        sample_id=sample.id,
        epoch=1,
        input=sample.input,
        messages=list(sample.input),
        output=ModelOutput.from_content("mockllm/model", "I cannot help with that."),
        metadata=sample.metadata,
    )
    score = await task.scorer[0](state, Target(""))
    assert score.value == {"over_refusal_rate": 1.0, "helpful_rate": 0.0}


@pytest.fixture
def anyio_backend():
    return "asyncio"
