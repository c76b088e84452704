"""Makes scored items as an audit leaves them: hits, misses, replies without a verdict, hostile texts."""

from __future__ import annotations

from toxoid.attacks.base import Cut
from toxoid.audit.items import Item
from toxoid.audit.run import Scored
from toxoid.audit.tasks import task_spec
from toxoid.data.schemas import Request, user
from toxoid.engines.base import Completion
from toxoid.judges.base import Outcome, Verdict

OUTCOMES = {"hit": Outcome.HIT, "miss": Outcome.MISS, "unscored": Outcome.UNSCORED, "error": Outcome.UNSCORED}


def scored(
    outcomes: str,
    *,
    task: str = "harmfulness",
    request: str = "set/0",
    category: str = "fraud",
    prompt: str = "Tell me.",
    reply: str = "Here it is.",
    attack: str = "direct",
    variant: str = "",
    finish: str = "stop",
    judged: bool = True,
    cut: Cut | None = None,
) -> Scored:
    """Return an item with a reply per word of ``outcomes``; each is the verdict on all aspects of the task."""
    verdicts = tuple(
        Verdict(
            OUTCOMES[word], reason="no reply: too long" if word == "error" else f"says {word}", position=0
        )
        for word in outcomes.split()
    )
    aspects = {aspect for metric in task_spec(task).metrics for aspect in metric.aspects}
    asked = Request(request, prompt, category=category)
    item = Item(task, asked, user(prompt), attack=attack, variant=variant, cut=cut)
    done = tuple(Completion(reply, finish, 5, 7) for _ in verdicts)
    return Scored(item, done, dict.fromkeys(aspects, verdicts) if judged else {})
