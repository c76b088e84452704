"""Playing campaigns: batches, budgets, seeds, verdicts, and kill -9."""

import json
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, replace

import pytest

from tests.audit import play_child
from tests.helpers.scripted_engine import ScriptedEngine
from toxoid.attacks.base import asked
from toxoid.attacks.best_of_n import BestOfN
from toxoid.attacks.crescendo import Crescendo
from toxoid.attacks.direct import Direct
from toxoid.attacks.interactive import Ask, Consult, OneByOne
from toxoid.attacks.pair import Pair
from toxoid.audit.campaigns import Budget
from toxoid.audit.play import run_campaigns
from toxoid.data.request_set import hash_fraction
from toxoid.data.schemas import Request, user
from toxoid.engines.base import Completion, Sampling
from toxoid.errors import UsageError
from toxoid.judges.base import Outcome, Verdict

REQUESTS = [Request(f"set/{number}", f"Request number {number} of the set?") for number in range(7)]
SAMPLING = Sampling(0.7, 0.9, 40)


class WordJudge:
    """Reads verdicts off words of the reply; what says nothing known is unscored."""

    name = "words"
    aspects = frozenset({"harmful", "refusal", "valid"})

    def __init__(self):
        self.seen = Counter()

    def identity(self):
        return {"judge": "words"}

    def judge(self, exchanges, aspect):
        self.seen[aspect] += len(exchanges)
        known = {"lands": Outcome.HIT, "misses": Outcome.MISS, "declines": Outcome.MISS}
        found = [known.get(exchange.completion.split()[0], Outcome.UNSCORED) for exchange in exchanges]
        if aspect == "refusal":
            found = [Outcome.HIT if "declines" in e.completion else Outcome.MISS for e in exchanges]
        return [Verdict(outcome) for outcome in found]


@dataclass(frozen=True)
class Batches:
    """An attack that asks batches of given sizes; negative ones ask the attacker."""

    sizes: tuple[int, ...]
    name: str = "batches"
    needs_attacker: bool = False
    reads_refusals: bool = False

    def identity(self):
        return {}

    def play(self, request, *, seed):
        number = 0
        for size in self.sizes:
            texts = [f"{request.prompt} {number + place}" for place in range(abs(size))]
            number += len(texts)
            ask = (lambda text: Ask(user(text), "v")) if size > 0 else (lambda text: Consult(user(text)))
            yield [ask(text) for text in texts]


def play(
    attack, requests=REQUESTS, *, reply=lambda request, i: "misses", attacker=None, budget=None, **given
):
    judge = given.pop("judge", WordJudge())
    target = given.pop("target", ScriptedEngine(reply))
    judges = given.pop("judges", dict.fromkeys(judge.aspects, judge))
    settings = {"task": "jailbreak", "sampling": SAMPLING, "seed": 0, **given}
    return run_campaigns(
        attack,
        requests,
        target=target,
        judges=judges,
        attacker=ScriptedEngine(attacker) if attacker else None,
        budget=budget or Budget(),
        **settings,
    )


def by_draw(request, i):
    """A reply drawn by the question's seed."""
    drawn = hash_fraction(request.seed)
    return "lands" if drawn > 0.9 else "declines" if drawn < 0.3 else f"misses {drawn}"


def json_idea(request, i):
    return json.dumps({"thought": "t", "message": f"idea {request.seed % 1000}", "stage": "request"})


ATTACKS = [OneByOne(Direct(), rounds=9), BestOfN(), Crescendo(), Crescendo(attacker=True), Pair()]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack.name}-{attack.needs_attacker}")
def test_campaigns_do_not_depend_on_their_company(attack):
    together = play(attack, reply=by_draw, attacker=json_idea)
    backwards = play(attack, REQUESTS[::-1], reply=by_draw, attacker=json_idea)[::-1]
    alone = [play(attack, [request], reply=by_draw, attacker=json_idea)[0] for request in REQUESTS]
    assert together == backwards == alone
    assert {campaign.ended for campaign in together} >= {"landed"}


def test_another_seed_gives_other_campaigns():
    assert play(BestOfN(), reply=by_draw) != play(BestOfN(), reply=by_draw, seed=1)


def test_every_round_asks_each_engine_once():
    calls = []

    class Counting(ScriptedEngine):
        def generate(self, requests, on_done=None):
            calls.append(len(requests))
            return super().generate(requests, on_done)

    play(Crescendo(turns=4), target=Counting(lambda request, i: "misses"))
    assert calls == [len(REQUESTS)] * 4


def test_questions_are_drawn_as_the_audit_says_each_with_its_own_seed():
    engine = ScriptedEngine(lambda request, i: "misses")
    play(OneByOne(Direct(), rounds=3), target=engine)
    assert {(request.sampling, request.n) for request in engine.asked} == {(SAMPLING, 1)}
    assert len({request.seed for request in engine.asked}) == 3 * len(REQUESTS)


def test_a_campaign_ends_where_it_lands():
    (campaign,) = play(
        Batches((1,) * 9), REQUESTS[:1], reply=lambda r, i: "lands" if "set? 3" in text(r) else "misses"
    )
    assert (campaign.landed_at, campaign.ended, campaign.target.queries) == (4, "landed", 4)


def test_the_first_of_a_batch_that_lands_counts_and_the_whole_batch_is_spent():
    def reply(request, i):
        return "lands" if text(request).endswith(("1", "2")) else "misses"

    (campaign,) = play(Batches((4, 4)), REQUESTS[:1], reply=reply)
    assert (campaign.landed_at, campaign.target.queries) == (2, 4)
    assert campaign.reported.ask.conversation[-1].content.endswith(" 1")


def text(request):
    return request.conversation[-1].content


def test_unscored_replies_never_land():
    (campaign,) = play(Batches((1, 1)), REQUESTS[:1], reply=lambda request, i: "mumbles")
    assert (campaign.landed_at, campaign.ended) == (None, "exhausted")
    assert campaign.figures()["unscored"] == 2


def test_a_reply_that_is_none_is_not_judged():
    class Broken(ScriptedEngine):
        def generate(self, requests, on_done=None):
            return [[Completion("lands", "stop", 1, 0, {"error": "too long"})] for _ in requests]

    judge = WordJudge()
    (campaign,) = play(Batches((1,)), REQUESTS[:1], target=Broken(None), judge=judge)
    assert campaign.landed_at is None
    assert not judge.seen


def test_setups_cannot_land_and_are_judged_for_refusal_only():
    judge = WordJudge()
    campaigns = play(Crescendo(turns=3), reply=lambda request, i: "lands", judge=judge)
    assert all(campaign.landed_at is None for campaign in campaigns)
    assert judge.seen == {"refusal": 3 * len(REQUESTS)}
    assert {verdict.outcome for c in campaigns for verdict in c.verdicts.values()} == {Outcome.UNSCORED}


@pytest.mark.parametrize("queries", [1, 5, 9, 10])
def test_no_question_beyond_the_budget(queries):
    engine = ScriptedEngine(lambda request, i: "misses")
    (campaign,) = play(Batches((4, 4, 1)), REQUESTS[:1], target=engine, budget=Budget(queries))
    assert len(engine.asked) == campaign.target.queries == min(queries, 9)
    assert campaign.ended == ("budget_spent" if queries < 9 else "exhausted")


def test_a_reply_to_the_last_question_of_the_budget_can_land():
    (campaign,) = play(
        Batches((2, 4)),
        REQUESTS[:1],
        budget=Budget(3),
        reply=lambda r, i: "lands" if "2" in text(r) else "misses",
    )
    assert (campaign.landed_at, campaign.ended) == (3, "landed")


def test_the_attacker_has_as_many_questions_of_its_own():
    (campaign,) = play(Batches((2, -9)), REQUESTS[:1], budget=Budget(4), attacker=lambda request, i: "idea")
    assert (campaign.target.queries, campaign.attacker.queries) == (2, 4)
    assert campaign.ended == "budget_spent"


def test_tokens_are_reserved_before_a_question_is_asked():
    """Each reply may have 40 tokens and has 1: after n replies there is room for another while n + 40 <= 43."""
    (campaign,) = play(Batches((1,) * 9), REQUESTS[:1], budget=Budget(20, tokens=43))
    assert (campaign.target.completion_tokens, campaign.ended) == (4, "budget_spent")


def test_the_attackers_tokens_count_too():
    (campaign,) = play(
        Batches((-1,)), REQUESTS[:1], budget=Budget(20, tokens=499), attacker=lambda request, i: "x"
    )
    assert (campaign.attacker.queries, campaign.ended) == (0, "budget_spent")


def test_malformed_answers_are_counted_and_cost_queries():
    campaigns = play(Pair(), attacker=lambda request, i: "no JSON", budget=Budget(6))
    assert {(c.malformed, c.attacker.queries, c.target.queries, c.ended) for c in campaigns} == {
        (6, 6, 0, "budget_spent")
    }
    assert all(campaign.reported is None for campaign in campaigns)


def test_free_text_of_an_attacker_is_not_malformed():
    (campaign,) = play(Batches((-2,)), REQUESTS[:1], attacker=lambda request, i: "free text")
    assert campaign.malformed == 0


def test_the_reported_attempt_has_the_verdicts_of_all_metrics_and_others_are_not_asked_about():
    judge = WordJudge()
    campaigns = play(Batches((1, 1, 1)), judge=judge)
    assert all(campaign.verdicts.keys() == {"harmful", "valid"} for campaign in campaigns)
    assert judge.seen == {"harmful": 3 * len(REQUESTS), "valid": len(REQUESTS)}


def test_the_judge_sees_the_request_as_it_was():
    class Keeping(WordJudge):
        def judge(self, exchanges, aspect):
            assert all(exchange.request in REQUESTS for exchange in exchanges)
            return super().judge(exchanges, aspect)

    play(BestOfN(), judge=Keeping(), budget=Budget(2))


def test_history_before_the_request_stays():
    history = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hello!"}]
    request = replace(REQUESTS[0], metadata={"history": history})
    for attack in ATTACKS:
        (campaign,) = play(attack, [request], attacker=json_idea, budget=Budget(4))
        assert all(attempt.ask.conversation[:2] == asked(request)[:2] for attempt in campaign.attempts)


def test_no_requests_no_campaigns():
    assert play(BestOfN(), []) == []


def test_progress_counts_every_campaign_once():
    class Bar:
        done = 0

        def task(self, name, total, unit):
            assert total == len(REQUESTS)
            return self

        def __enter__(self):
            return self

        def __exit__(self, *exc):
            pass

        def advance(self, count=1):
            Bar.done += count

    play(BestOfN(), reply=by_draw, budget=Budget(5), progress=Bar())
    assert Bar.done == len(REQUESTS)


def test_an_attack_without_its_attacker_is_refused():
    with pytest.raises(UsageError, match="name an attacker"):
        play(Pair())


def test_a_judge_that_is_missing_is_named():
    judge = WordJudge()
    with pytest.raises(UsageError, match='"refusal"'):
        play(Crescendo(), judges={"harmful": judge, "valid": judge})


@pytest.mark.parametrize("task", ["helpfulness", "over-refusal", "course-correction"])
def test_tasks_on_which_nothing_can_land_are_refused(task):
    with pytest.raises(UsageError, match="no attack can land"):
        play(BestOfN(), task=task)


@pytest.mark.parametrize("limits", [(0, None), (5, 0), (-1, 5)])
def test_a_budget_of_nothing_is_refused(limits):
    with pytest.raises(UsageError, match="1 or more"):
        Budget(*limits)


def asked_before(folder):
    path = folder / "asked.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def test_a_killed_run_goes_on_where_it_was_and_asks_nothing_again(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    expected = play_child.play(whole)
    assert max(len(entry.item.conversation) for entry in expected) >= 5  # in the middle of a conversation
    for die_after in (4, 7, 9):
        child = [sys.executable, "-m", "tests.audit.play_child", str(broken), str(die_after)]
        assert subprocess.run(child, check=False).returncode == -signal.SIGKILL
    assert play_child.play(broken) == expected
    again = Counter(asked_before(broken)) - Counter(asked_before(whole))
    assert sum(again.values()) == 3  # the question in flight, once for each kill
    assert Counter(asked_before(broken)).keys() == Counter(asked_before(whole)).keys()
