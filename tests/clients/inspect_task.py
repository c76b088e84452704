"""Two questions, as a task of inspect_ai."""

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes


@task
def served():
    """Return the task."""
    asked = ("Where does the mill stand?", "Hello.")
    return Task(dataset=[Sample(input=text, target="mill") for text in asked], scorer=includes())
