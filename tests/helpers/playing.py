"""Plays an interactive attack by hand: the answers are a function of the question."""

from itertools import islice

from toxoid.attacks.interactive import Answer
from toxoid.engines.base import Completion
from toxoid.judges.base import Outcome, Verdict


def said(text="", *, hit=False, refused=False, score=None, fields=None):
    """An answer with its verdicts."""
    verdict = Verdict(Outcome.HIT if hit else Outcome.MISS, score)
    refusal = Verdict(Outcome.HIT if refused else Outcome.MISS)
    return Answer(Completion(text, "stop", 1, 1), verdict, refusal, fields)


def questions(attack, request, answer, *, seed=0, most=50):
    """Return the first questions of a campaign in which ``answer(question, number)`` comes back."""

    def asked():
        moves, number = attack.play(request, seed=seed), 0
        try:
            batch = next(moves)
            while True:
                yield from batch
                answers = [answer(question, number + place) for place, question in enumerate(batch)]
                number += len(batch)
                batch = moves.send(answers)
        except StopIteration:
            return

    return list(islice(asked(), most))
