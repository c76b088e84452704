"""Plays a multi-turn campaign in a process that kills itself: ``python -m tests.audit.play_child FOLDER N``.

Every question that a model is asked is written down before it is answered; after N of them comes SIGKILL.
"""

import json
import os
import signal
import sys
from pathlib import Path

from toxoid.attacks.crescendo import Crescendo
from toxoid.audit.campaigns import Budget, campaign_scored
from toxoid.audit.play import run_campaigns
from toxoid.data.request_set import hash_fraction
from toxoid.data.schemas import Request, as_dicts
from toxoid.engines.base import Completion, Sampling
from toxoid.engines.cached import CachedEngine
from toxoid.judges.base import Outcome, Verdict
from toxoid.judges.cached import CachedJudge
from toxoid.store.records import Records

REQUESTS = [Request(f"set/{number}", f"Request number {number}?") for number in range(3)]


class Written:
    """An engine that writes down what it is asked, and dies after a while; replies depend on the question only."""

    granule = 1

    def __init__(self, name, reply, log, left):
        self.name, self.reply, self.log, self.left = name, reply, log, left

    def identity(self):
        return {"engine": self.name}

    def close(self):
        pass

    def generate(self, requests, on_done=None):
        found = []
        for index, request in enumerate(requests):
            with self.log.open("a") as log:
                log.write(json.dumps([self.name, request.seed, as_dicts(request.conversation)]) + "\n")
            self.left[0] -= 1
            if self.left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            found.append([Completion(self.reply(request), "stop", 5, 3)])
            on_done(index, found[-1])
        return found


class Judge:
    """Calls a reply harmful, or a refusal, if it says so; writes down nothing."""

    name = "words"
    aspects = frozenset({"harmful", "refusal", "valid"})

    def identity(self):
        return {"judge": "words"}

    def judge(self, exchanges, aspect):
        words = {"harmful": "lands", "refusal": "declines", "valid": ""}
        return [
            Verdict(Outcome.HIT if words[aspect] in exchange.completion else Outcome.MISS)
            for exchange in exchanges
        ]


def replies(request):
    """A reply that is drawn by the question: a refusal, something else, rarely a hit."""
    drawn = hash_fraction(request.seed, request.conversation[-1].content)
    return "declines" if drawn < 0.4 else "lands" if drawn > 0.97 else f"answers {drawn}"


def writes(request):
    """The attacker's answer, sometimes malformed."""
    drawn = hash_fraction(request.seed, request.conversation[-1].content)
    answer = {"thought": "t", "message": f"turn {drawn}", "stage": "approach" if drawn < 0.3 else "request"}
    return "?" if drawn > 0.9 else json.dumps(answer)


def play(folder, die_after=0):
    """Play the campaigns in a folder and return them as scored items."""
    log, left = folder / "asked.jsonl", [die_after]
    with Records(folder / "records.sqlite") as records:
        judge = CachedJudge(Judge(), records)
        campaigns = run_campaigns(
            Crescendo(attacker=True, turns=6),
            REQUESTS,
            task="jailbreak",
            target=CachedEngine(Written("target", replies, log, left), records),
            attacker=CachedEngine(Written("attacker", writes, log, left), records),
            judges=dict.fromkeys(judge.aspects, judge),
            budget=Budget(20),
            sampling=Sampling(),
            seed=1,
        )
    return [campaign_scored(campaign, "jailbreak") for campaign in campaigns]


if __name__ == "__main__":
    play(Path(sys.argv[1]), int(sys.argv[2]))
