"""C2-Syn: what a group holds, what is dropped, and what it depends on."""

from collections import Counter
from itertools import pairwise

import pytest

from tests.helpers.scripted_engine import ScriptedEngine
from toxoid.attacks.course_wording import load_course_wording
from toxoid.data.lab import lab_requests
from toxoid.data.schemas import Request
from toxoid.engines.base import Completion, Sampling
from toxoid.errors import UsageError
from toxoid.judges.base import Outcome, Verdict
from toxoid.judges.panel import make_panel
from toxoid.methods.course_correction.synthesis import SynthesisOptions, synthesise_groups

BODY = (
    "Take the lamp, hold it high. Walk to the well, and wait there. Then turn the wheel, three times. "
    "Do not look back, go on. After that lift the lid, slowly and gently. Leave at dawn."
)
REFUSAL = "I cannot help with that."
WORDING = load_course_wording("english")


def requests(count=3, **fields):
    given = {"target": BODY, "reference": REFUSAL, **fields}
    return [Request(f"wells/{index}", f"How do I curse well {index}?", **given) for index in range(count)]


def goes_on(request, index):
    return " It would hurt somebody. "


class Opinion:
    """Judges by a function of the exchange."""

    name = "opinion"

    def __init__(self, aspects, outcome):
        self.aspects = frozenset(aspects)
        self.outcome = outcome
        self.seen = []

    def identity(self):
        return {"judge": self.name}

    def judge(self, exchanges, aspect):
        self.seen += exchanges
        return [Verdict(self.outcome(exchange)) for exchange in exchanges]


def agrees(exchange):
    return Outcome.HIT


def made(given, reply=goes_on, judges=None, *, engine=None, seed=0, temperature=1.0, **options):
    return synthesise_groups(
        given,
        engine=engine or ScriptedEngine(reply),
        judges=judges or make_panel("refusal"),
        sampling=Sampling(temperature=temperature),
        options=SynthesisOptions(**options),
        seed=seed,
    )


def test_a_full_group_has_six_ranks_and_fifteen_pairs():
    groups, counts = made(requests())
    for group in groups:
        assert [(reply.kind, reply.rank) for reply in group.replies] == [
            ("safe", 0),
            ("syn1", 1),
            ("syn2", 2),
            ("syn3", 3),
            ("syn4", 4),
            ("harmful", 5),
        ]
        assert len(group.pairs()) == 15
    assert (counts["groups_full"], counts["pairs"]) == (3, 45)


def test_all_replies_but_the_safe_one_share_one_opener():
    openers = {opener.id: opener.text for opener in WORDING.openers("training")}
    for group in made(requests(8))[0]:
        opener = openers[group.metadata["opener"]]
        assert all(reply.text.startswith(f"{opener} Take the lamp,") for reply in group.replies[1:])
        assert group.replies[-1].text == f"{opener} {BODY}"


def test_a_correction_is_opener_beginning_trigger_and_continuation():
    triggers = {trigger.id: trigger.text for trigger in WORDING.triggers("training")}
    (group,), _ = made(requests(1))
    harmful = group.replies[-1].text
    for reply, trigger in zip(group.replies[1:-1], group.metadata["triggers"], strict=True):
        begun, turned = reply.text[: reply.turn], reply.text[reply.turn :]
        assert harmful.startswith(begun.rstrip())
        assert turned == f"{triggers[trigger]} It would hurt somebody."


def test_a_late_correction_takes_back_the_whole_harmful_reply():
    groups, counts = made(requests(1), late=True)
    *_, late, harmful = groups[0].replies
    assert (late.rank, harmful.rank, counts["groups_full"]) == (5, 6, 1)
    assert late.text[: late.turn] == harmful.text + " "


def test_corrections_are_nested():
    (group,), _ = made(requests(1))
    begun = [reply.text[: reply.turn].rstrip() for reply in group.replies[1:-1]]
    assert all(longer.startswith(shorter) for shorter, longer in pairwise(begun))


def test_the_engine_continues_an_open_turn():
    engine = ScriptedEngine(goes_on)
    (group,), _ = made(requests(1), engine=engine)
    for asked, reply in zip(engine.asked, group.replies[1:-1], strict=True):
        assert asked.conversation == group.conversation
        assert reply.text == f"{asked.prefill} It would hurt somebody."


def test_the_judge_sees_the_beginning_as_given_and_the_trigger_as_the_model_s():
    judge = Opinion(["corrected", "refusal"], agrees)
    (group,), _ = made(requests(1), judges={"corrected": judge, "refusal": judge})
    for exchange, reply in zip(judge.seen, group.replies[1:-1], strict=False):
        assert exchange.reply == reply.text
        assert len(exchange.prefill) + 1 == reply.turn


def test_a_group_depends_on_its_request_and_the_seed_alone():
    alone = {group.id: group for request in requests(6) for group in made([request])[0]}
    together, _ = made(requests(6))
    assert {group.id: group for group in together} == alone
    assert made(requests(6), seed=1)[0] != together


def test_openers_and_triggers_come_from_the_training_pool():
    known = {phrase.id for phrase in (*WORDING.openers("training"), *WORDING.triggers("training"))}
    for group in made(requests(20))[0]:
        assert {group.metadata["opener"], *group.metadata["triggers"]} <= known


def test_a_reply_keeps_an_opener_of_its_own():
    opener = WORDING.openers("training")[3].text
    (group,), _ = made(requests(1, target=f"{opener} {BODY}"))
    assert group.replies[-1].text == f"{opener} {BODY}"
    assert group.replies[1].text.startswith(f"{opener} Take the lamp,")


def test_what_fails_is_tried_again_and_the_first_accepted_is_kept():
    tries = Counter()

    def stubborn(request, index):
        tries[request.prefill] += 1
        return " Here is the rest." if tries[request.prefill] == 1 else " It hurts."

    judge = Opinion(["corrected"], lambda exchange: Outcome(("miss", "hit")["hurts" in exchange.completion]))
    (group,), counts = made(requests(1), stubborn, {"corrected": judge})
    assert all(reply.text.endswith("It hurts.") for reply in group.replies[1:-1])
    assert (counts["tries_dropped_uncorrected"], counts["corrections_dropped"]) == (4, 0)
    assert set(tries.values()) == {2}


def test_greedy_continuations_are_not_tried_again():
    judge = Opinion(["corrected"], lambda exchange: Outcome.MISS)
    _, counts = made(requests(1), judges={"corrected": judge}, temperature=0)
    assert counts["corrections_tried"] == 4


@pytest.mark.parametrize(
    ("reply", "outcome", "reason"),
    [
        (goes_on, Outcome.MISS, "uncorrected"),
        (goes_on, Outcome.UNSCORED, "unscored"),
        (lambda request, index: None, Outcome.HIT, "cut_off"),
    ],
)
def test_a_request_without_corrections_gives_no_group(reply, outcome, reason):
    groups, counts = made(requests(2), reply, {"corrected": Opinion(["corrected"], lambda exchange: outcome)})
    assert groups == []
    assert (counts["groups_dropped"], counts["corrections_dropped"]) == (2, 8)
    assert counts[f"tries_dropped_{reason}"] == 16


def test_ranks_stay_where_a_correction_is_missing():
    judge = Opinion(["corrected"], lambda exchange: Outcome(("miss", "hit")["Walk" in exchange.prefill]))
    for group in made(requests(6), judges={"corrected": judge})[0]:
        ranks = {reply.kind: reply.rank for reply in group.replies}
        assert "syn1" not in ranks
        assert ranks == {
            kind: {"safe": 0, "syn2": 2, "syn3": 3, "syn4": 4, "harmful": 5}[kind] for kind in ranks
        }


def test_an_empty_continuation_ends_a_whole_trigger_only():
    groups, counts = made(requests(12), lambda request, index: "")
    triggers = {trigger.id: trigger.text for trigger in WORDING.triggers("training")}
    used = [triggers[trigger] for group in groups for trigger in group.metadata["triggers"]]
    assert used
    assert all(text.endswith(".") for text in used)
    assert counts["tries_dropped_unfinished"] > 0


def test_a_blank_that_a_server_trimmed_is_put_back():
    (group,), _ = made(requests(1), lambda request, index: "It hurts.")
    assert all(reply.text.endswith(" It hurts.") for reply in group.replies[1:-1])


def test_requests_without_a_full_harmful_reply_are_counted():
    given = [
        *requests(2),
        Request("none", "How?"),
        Request("opener", "How?", target="Sure, here is how: take,"),
    ]
    groups, counts = made(given)
    assert len(groups) == 2
    assert (counts["requests"], counts["requests_without_harmful_reply"]) == (4, 2)


def test_a_reference_that_does_not_decline_is_no_safe_reply():
    (group,), counts = made(requests(1, reference="Wells are deep and old."), safe_replies="reference")
    assert group.replies[0].kind == "syn1"
    assert (counts["safe_reference_dropped"], counts["groups_without_safe_reply"]) == (1, 1)


def test_a_missing_safe_reply_is_drawn_under_guidance():
    def reply(request, index):
        return goes_on(request, index) if request.prefill else f"I can't help with that, number {index}."

    (group,), counts = made(requests(1, reference=None), reply)
    assert group.replies[0].text == "I can't help with that, number 0."
    assert (group.metadata["safe_reply"], counts["safe_guided"]) == ("guided", 1)


def test_a_safe_reply_equal_to_the_harmful_one_is_left_out():
    opener = WORDING.openers("training")[0].text
    whole = f"{opener} {BODY}"
    judge = Opinion(["corrected", "refusal"], agrees)
    given = requests(1, target=whole, reference=whole)
    (group,), _ = made(given, judges={"corrected": judge, "refusal": judge}, safe_replies="reference")
    assert [reply.kind for reply in group.replies] == ["syn1", "syn2", "syn3", "syn4", "harmful"]


def test_without_a_judge_of_corrections_nothing_is_made():
    with pytest.raises(UsageError, match="no judge"):
        made(requests(1), judges={"refusal": Opinion(["refusal"], agrees)})


def test_an_engine_that_only_imitates_a_prefill_is_refused():
    class Imitator(ScriptedEngine):
        def generate(self, requests, on_done=None):
            return [[Completion("No.", "stop", 1, 1, {"prefill": "fallback"})] for _ in requests]

    with pytest.raises(UsageError, match="does not continue an open assistant turn"):
        made(requests(1), engine=Imitator(goes_on))


def test_most_groups_of_the_lab_are_full():
    def reply(request, index):
        return "" if request.prefill else REFUSAL

    given = lab_requests("lab-harmful", split="train").requests[:100]
    groups, counts = made(given, reply, make_panel("lab-oracle"))
    assert len(groups) == 100
    assert counts["groups_full"] >= 70
    assert {group.metadata["wording"] for group in groups} == {"lab"}
