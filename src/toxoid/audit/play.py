"""Plays interactive attacks: many campaigns side by side, each engine asked once per round, resumable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from toxoid.attacks.interactive import Answer, Ask, Consult, InteractiveAttack, Question, read_fields
from toxoid.audit.campaigns import Attempt, Budget, Campaign, Ending, Spent, item_of
from toxoid.audit.run import exchange, missing_verdict
from toxoid.audit.tasks import task_spec
from toxoid.data.request_set import hash_fraction
from toxoid.data.schemas import Request
from toxoid.engines.base import Completion, Engine, GenerationRequest, Sampling
from toxoid.errors import UsageError
from toxoid.judges.base import Aspect, Judge, Outcome, Verdict
from toxoid.progress import SILENT, Progress

Reply: TypeAlias = tuple[Request, Ask, Completion]
"""What is judged: a request, a question about it, and the target's reply."""


def run_campaigns(
    attack: InteractiveAttack,
    requests: Sequence[Request],
    *,
    task: str,
    target: Engine,
    judges: Mapping[Aspect, Judge],
    budget: Budget,
    sampling: Sampling,
    seed: int,
    attacker: Engine | None = None,
    progress: Progress = SILENT,
    name: str = "attack",
) -> list[Campaign]:
    """Play ``attack`` on every request and return the campaigns in the order of ``requests``.

    All campaigns advance together: the questions of a round go to each engine in one call. What is asked, and with
    which seed, depends on the campaign's own answers only; so behind :class:`toxoid.engines.cached.CachedEngine` and
    :class:`toxoid.judges.cached.CachedJudge` a killed run, started again, plays the same campaigns and asks nothing
    that was answered before.

    Args:
        attack: What is played.
        requests: On what.
        task: The audit task whose headline decides: a reply lands if its aspect holds.
        target: The system under attack, defences included.
        judges: By aspect; those of the task's metrics are asked about the attempt that is reported.
        budget: Of each campaign.
        sampling: How the target's replies are drawn, one per question.
        seed: The same seed gives the same campaigns, in whatever company.
        attacker: The model that helps, for attacks that consult one.
        progress: Where to report finished campaigns.
        name: Of the work, for people.

    Raises:
        UsageError: The attack needs an attacker or a judge that is not there, or no attack can land on the task.
    """
    referee = _Referee(judges, task, _landing_aspect(task), attack)
    _check(referee, attacker)
    players = [_Player(attack, request, budget, sampling, seed) for request in requests]
    with progress.task(f"{name}: campaigns", len(players), "requests") as bar:
        bar.advance(sum(not player.batch for player in players))
        while going := [player for player in players if player.batch]:
            _round(going, target, attacker, referee)
            bar.advance(sum(not player.batch for player in going))
    return referee.completed([player.campaign() for player in players])


class _Player:
    """One campaign in play: the attack's generator, what it asks next, and what was asked."""

    def __init__(
        self, attack: InteractiveAttack, request: Request, budget: Budget, sampling: Sampling, seed: int
    ) -> None:
        self.request = request
        self.batch: Sequence[Question] = ()
        self._attack, self._budget, self._sampling, self._seed = attack.name, budget, sampling, seed
        self._moves = attack.play(request, seed=seed)
        self._attempts: list[Attempt] = []
        self._target, self._attacker = Spent(), Spent()
        self._malformed, self._cut = 0, False
        self._ended: Ending = "exhausted"
        self._go_on(None)

    def generations(self) -> list[GenerationRequest]:
        """Return the questions that wait, as engines take them; each one's seed is its own."""
        first = self._target.queries + self._attacker.queries
        return [
            GenerationRequest(
                question.conversation,
                question.prefill,
                self._drawn(question),
                seed=int(
                    hash_fraction("campaign", self._seed, self._attack, self.request.id, number) * 2**48
                ),
            )
            for number, question in enumerate(self.batch, start=first)
        ]

    def receive(self, answers: Sequence[Answer]) -> None:
        """Take the answers to the questions that waited, and play on unless one of them landed."""
        for question, answer in zip(self.batch, answers, strict=True):
            if isinstance(question, Ask):
                self._target = self._target.plus(answer.completion)
                self._attempts.append(Attempt(question, answer))
            else:
                self._attacker = self._attacker.plus(answer.completion)
                self._malformed += bool(question.fields) and answer.fields is None
        if self._landed_at is not None:
            self._end("landed")
        elif self._cut:
            self._end("budget_spent")
        else:
            self._go_on(answers)

    @property
    def _landed_at(self) -> int | None:
        numbered = enumerate(self._attempts, start=1)
        return next((number for number, attempt in numbered if attempt.lands), None)

    def campaign(self) -> Campaign:
        """Return the campaign as it ended."""
        return Campaign(
            self.request,
            self._attack,
            tuple(self._attempts),
            self._landed_at,
            self._ended,
            self._target,
            self._attacker,
            self._malformed,
        )

    def _go_on(self, answers: Sequence[Answer] | None) -> None:
        try:
            wanted = next(self._moves) if answers is None else self._moves.send(answers)
        except StopIteration:
            self._end("exhausted")
            return
        self.batch = list(self._affordable(wanted))
        self._cut = len(self.batch) < len(wanted)
        if not self.batch:
            self._end("budget_spent")

    def _affordable(self, wanted: Sequence[Question]) -> Iterator[Question]:
        """Yield the questions up to the first that could exceed the budget."""
        queries = {Ask: self._target.queries, Consult: self._attacker.queries}
        written = self._target.completion_tokens + self._attacker.completion_tokens
        for question in wanted:
            queries[type(question)] += 1
            written += self._drawn(question).max_tokens
            if queries[type(question)] > self._budget.queries or written > (self._budget.tokens or written):
                return
            yield question

    def _drawn(self, question: Question) -> Sampling:
        return self._sampling if isinstance(question, Ask) else question.sampling

    def _end(self, how: Ending) -> None:
        self._ended, self.batch = how, ()
        self._moves.close()


@dataclass(frozen=True, slots=True)
class _Referee:
    """Makes answers of replies: reads the attacker's fields, and has the target's replies judged."""

    judges: Mapping[Aspect, Judge]
    task: str
    lands: Aspect
    attack: InteractiveAttack

    def answers(self, replies: Sequence[tuple[Request, Question, Completion]]) -> list[Answer]:
        """Return one answer per reply; each judge is asked once."""
        answers = [
            Answer(done, fields=read_fields(done.text, question.fields))
            if isinstance(question, Consult)
            else Answer(done)
            for _, question, done in replies
        ]
        told = {i: (r, q, done) for i, (r, q, done) in enumerate(replies) if isinstance(q, Ask)}
        tried = {i: reply for i, reply in told.items() if not reply[1].setup}
        for index, verdict in zip(tried, self._verdicts(self.lands, list(tried.values())), strict=True):
            answers[index] = replace(answers[index], verdict=verdict)
        if self.attack.reads_refusals:
            for index, verdict in zip(told, self._verdicts("refusal", list(told.values())), strict=True):
                answers[index] = replace(answers[index], refusal=verdict)
        return answers

    def completed(self, campaigns: Sequence[Campaign]) -> list[Campaign]:
        """Return the campaigns with the verdicts that the task's metrics read from the reported attempts."""
        metrics = task_spec(self.task).metrics
        wanted = dict.fromkeys(aspect for metric in metrics for aspect in metric.aspects)
        aspects = [aspect for aspect in wanted if aspect in self.judges]
        verdicts = [_known(campaign, aspects, self.lands) for campaign in campaigns]
        reported = [(i, c.request, c.reported) for i, c in enumerate(campaigns)]
        replies = {i: (request, r.ask, r.answer.completion) for i, request, r in reported if r}
        for aspect in (aspect for aspect in aspects if aspect != self.lands):
            for index, verdict in zip(replies, self._verdicts(aspect, list(replies.values())), strict=True):
                verdicts[index][aspect] = verdict
        return [replace(c, verdicts=found) for c, found in zip(campaigns, verdicts, strict=True)]

    def _verdicts(self, aspect: Aspect, replies: Sequence[Reply]) -> list[Verdict]:
        """Return a verdict per reply; one that is none is unscored without being judged."""
        missing = [missing_verdict(done) for _, _, done in replies]
        exchanges = [
            exchange(item_of(self.task, request, ask, self.attack.name), done)
            for (request, ask, done), lacks in zip(replies, missing, strict=True)
            if lacks is None
        ]
        found = iter(self.judges[aspect].judge(exchanges, aspect) if exchanges else ())
        return [lacks or next(found) for lacks in missing]


def _known(campaign: Campaign, aspects: Sequence[Aspect], lands: Aspect) -> dict[Aspect, Verdict]:
    """Return the verdict that the reported attempt has already; without one, that there is nothing to judge."""
    if campaign.reported and campaign.reported.answer.verdict:
        return {lands: campaign.reported.answer.verdict}
    nothing = Verdict(Outcome.UNSCORED, reason=f"the request was never asked: {campaign.ended}")
    return dict.fromkeys(aspects, nothing)


def _round(players: Sequence[_Player], target: Engine, attacker: Engine | None, referee: _Referee) -> None:
    """Ask what waits in all campaigns, each engine once, and let them play on."""
    asked_by = [player for player in players for _ in player.batch]
    questions = [question for player in players for question in player.batch]
    waiting = [generation for player in players for generation in player.generations()]
    done: dict[int, Completion] = {}
    for engine, kind in ((attacker, Consult), (target, Ask)):
        indices = [index for index, question in enumerate(questions) if isinstance(question, kind)]
        if indices and engine is not None:
            made = engine.generate([waiting[index] for index in indices])
            done.update((index, completions[0]) for index, completions in zip(indices, made, strict=True))
    replies = [
        (player.request, question, done[index])
        for index, (player, question) in enumerate(zip(asked_by, questions, strict=True))
    ]
    answers = iter(referee.answers(replies))
    for player in players:
        player.receive([next(answers) for _ in player.batch])


def _check(referee: _Referee, attacker: Engine | None) -> None:
    attack = referee.attack
    if attack.needs_attacker and attacker is None:
        raise UsageError(
            f'attack "{attack.name}" consults a second model, and none is given: name an attacker'
        )
    needed: tuple[Aspect, ...] = (referee.lands, "refusal") if attack.reads_refusals else (referee.lands,)
    for aspect in needed:
        if aspect not in referee.judges:
            raise UsageError(
                f'attack "{attack.name}" on {referee.task} needs verdicts on "{aspect}", and the judges give '
                f"{', '.join(sorted(referee.judges)) or 'none'}: choose a judge that answers it"
            )


def _landing_aspect(task: str) -> Aspect:
    """Return the aspect whose hits are an attack's success: the one that the task's headline wants absent."""
    metric = task_spec(task).metrics[0]
    if not metric.complement or metric.better != "higher":
        raise UsageError(
            f'no attack can land on the task "{task}": its headline {metric.name} counts what the model should do; '
            "choose a task that counts what it should not, such as harmfulness or jailbreak"
        )
    return metric.aspect
