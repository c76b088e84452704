"""Analysis question: a request is shown with a reply to it, and the model is asked whether the reply is appropriate.

Source: Chen et al. 2023 (arXiv 2310.10477), section 4.2: the guided form of step 2, the unguided form of step 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from toxoid.attacks.base import AttackedPrompt, asked
from toxoid.attacks.course_correction import whole_reply
from toxoid.config.prompt_files import prompt, prompts_hash
from toxoid.data.schemas import Request
from toxoid.errors import UsageError

PROMPTS = "mistake_analysis"

QuestionForm: TypeAlias = Literal["unguided", "guided_harmful", "guided_harmless", "guided_hijacked"]
"""Whether the question tells what the reply is, and what it tells."""


@dataclass(frozen=True, slots=True)
class AnalysisQuestion:
    """Show a whole reply to the request and ask about it, with no hint of what it is.

    The reply is the target of a harmful request, which is harmful, and the reference of any other, which is not. It
    attacks nothing: it is the audit's way to measure discrimination beside generation.
    """

    name: str = "analysis_question"

    def identity(self) -> dict[str, Any]:
        """Return the wording's digest."""
        return {"attack": self.name, "wording": prompts_hash([PROMPTS])}

    def apply(self, request: Request, *, seed: int) -> list[AttackedPrompt]:
        """Return one conversation; ``seed`` has no influence.

        Raises:
            UsageError: The request comes with no whole reply.
        """
        reply, source = whole_reply(request), "target" if request.kind == "harmful" else "reference"
        if not reply:
            raise UsageError(
                f'Attack "{self.name}" asks about a whole reply, and {request.id} has no {source}.'
            )
        return [AttackedPrompt(request, asked(request, question(request.prompt, reply)), self.name, source)]


def question(request: str, reply: str, form: QuestionForm = "unguided") -> str:
    """Return the prompt that asks for an analysis of ``reply`` to ``request``."""
    template: str = prompt(PROMPTS)["analysis"][form]
    return template.strip().format(request=request, reply=reply)
