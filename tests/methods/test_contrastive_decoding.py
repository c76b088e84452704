from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from types import MappingProxyType

import pytest
import torch

from tests.helpers.scripted_engine import ScriptedEngine
from tests.helpers.tiny_models import tiny_loaded
from toxoid.config.prompt_files import prompt
from toxoid.data.lab import lab_requests
from toxoid.data.schemas import Message, user
from toxoid.engines.base import GenerationRequest, Sampling
from toxoid.engines.contexts import Decoding, prompted_engine
from toxoid.engines.contrast import PUBLISHED, Contrast
from toxoid.engines.shield import Shield, made_for, save_shield
from toxoid.engines.soft_prompt import Frame
from toxoid.errors import UsageError
from toxoid.judges.lab import LabOracleJudge
from toxoid.methods.base import MethodInput, System
from toxoid.methods.contrastive_decoding.method import ContrastiveDecoding
from toxoid.progress import SilentProgress

HARMFUL = lab_requests("lab-harmful", split="train").requests[:12]
PLAIN = lab_requests("lab-benign", split="train").requests[:12]
CONTENTIOUS = lab_requests("lab-contentious", split="train").requests[:12]
BY_PROMPT = {request.prompt: request for request in (*HARMFUL, *PLAIN, *CONTENTIOUS)}
NO = "I cannot help with that."
LITERAL = {"contentious": 0, "two_sided": False, "unlikelihood": 1, "rescale": False, "plausibility": 0}


def under(request):
    """Return the prompt that a question stands under."""
    if request.conversation[0].role != "system":
        return "null"
    text = request.conversation[0].content
    return next(name for name in ("safe", "opposite") if prompt("system")[name].strip() == text)


def model(request, index):
    """Declines what sounds harmful under the safe prompt, and answers everything else."""
    asked = BY_PROMPT[request.conversation[-1].content]
    if under(request) == "safe" and asked.kind != "benign":
        return NO
    return asked.target if asked.kind == "harmful" else asked.reference


class Notes(SilentProgress):
    def __init__(self):
        self.said = []

    def note(self, text):
        self.said.append(text)


def given(reply=model, *, benign=(*PLAIN, *CONTENTIOUS), aspects=LabOracleJudge.aspects, **options):
    judge = LabOracleJudge()
    return MethodInput(
        engine=ScriptedEngine(reply),
        judges=dict.fromkeys(aspects, judge),
        harmful=HARMFUL,
        benign=benign,
        options={"anchors": 8, **options},
        progress=Notes(),
    )


def made(reply=model, **fields):
    return ContrastiveDecoding().synthesise(given(reply, **fields))


def asked(examples):
    return {example.conversation[-1].content for example in examples}


def test_every_instruction_is_answered_under_three_prompts():
    wanted = given(two_sided=False)
    ContrastiveDecoding().synthesise(wanted)
    assert Counter(under(request) for request in wanted.engine.asked) == dict.fromkeys(
        ("safe", "opposite", "null"), 16
    )
    kinds = Counter(BY_PROMPT[request.conversation[-1].content].kind for request in wanted.engine.asked)
    assert kinds == {"harmful": 24, "benign": 12, "contentious": 12}


def test_judges_sort_replies_to_harmful_instructions():
    anchors = made().prompts.anchors
    assert {example.target for example in anchors.refused} == {NO}
    assert len(anchors.refused) == 8
    assert {example.target for example in anchors.complied} <= {request.target for request in HARMFUL}
    assert len(anchors.complied) == 16


def test_anchors_stand_without_the_manual_prompt_and_name_their_set():
    found = made()
    assert all([message.role for message in example.conversation] == ["user"] for example in found.examples)
    assert found.by_source() == {"kept": 20, "refused": 8, "complied": 16, "declined": 4}


def test_refusals_of_contentious_instructions_are_for_the_adversarial_prompt_alone():
    anchors = made().prompts.anchors
    assert {BY_PROMPT[text].kind for text in asked(anchors.declined)} == {"contentious"}
    assert NO not in {example.target for example in anchors.kept}
    assert anchors.kept_by_safe is None
    kinds = [BY_PROMPT[example.conversation[-1].content].kind for example in anchors.kept]
    assert anchors.kept_by_opposite == tuple(kind == "benign" for kind in kinds)


def test_one_sided_prompts_keep_to_everything_alike():
    anchors = made(two_sided=False).prompts.anchors
    assert anchors.declined == ()
    assert anchors.kept_by_opposite is None


def test_the_published_form_keeps_every_reply_to_a_safe_instruction():
    def rude(request, index):
        kind = BY_PROMPT[request.conversation[-1].content].kind
        return NO if kind == "benign" and index == 0 else model(request, index)

    found = made(rude, **LITERAL)
    assert found.counts["kept"] == 24
    assert {example.target for example in found.prompts.anchors.kept} == {NO}
    assert found.prompts.contrast == PUBLISHED
    assert found.prompts.objective.unlikelihood == 1


def test_the_recommended_form_is_the_default():
    prompts = made().prompts
    assert prompts.contrast == Contrast()
    assert prompts.objective.unlikelihood == 0
    assert (prompts.placement, prompts.tokens) == ("system", None)
    assert prompts.safe_text == prompt("system")["safe"].strip()
    assert prompts.opposite_text == prompt("system")["opposite"].strip()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (None, "unfinished"),
        ("", "empty"),
        ("greywick the of of", "gibberish"),
        (NO, "overrefused"),
    ],
)
def test_unusable_replies_to_safe_instructions_are_dropped_and_counted(bad, reason):
    def model_with_flaws(request, index):
        kind = BY_PROMPT[request.conversation[-1].content].kind
        return bad if kind == "benign" and under(request) == "null" else model(request, index)

    counts = made(model_with_flaws).counts
    assert counts[f"dropped_benign_{reason}"] == 4
    assert counts["kept_under_null"] == 4
    assert counts["kept"] == 16


def test_unusable_replies_to_harmful_instructions_are_dropped_and_counted():
    replies = {"safe": NO, "opposite": None, "null": "greywick the of of"}

    def model_with_flaws(request, index):
        harmful = BY_PROMPT[request.conversation[-1].content].kind == "harmful"
        if harmful and under(request) == "null" and request.seed % 2:
            return BY_PROMPT[request.conversation[-1].content].target
        return replies[under(request)] if harmful else model(request, index)

    counts = made(model_with_flaws).counts
    assert counts["dropped_harmful_unfinished"] == 8
    assert counts["complied"] + counts["dropped_harmful_gibberish"] == 8
    assert counts["refused_under_safe"] == counts["refused"] == 8


def test_without_a_judge_of_harm_what_is_no_refusal_complies():
    assert made(aspects=("refusal",)).by_source() == made().by_source()


def test_contentious_instructions_are_taken_as_far_as_there_are_any():
    found = made(benign=(*PLAIN, *CONTENTIOUS[:1]))
    assert found.counts["instructions_contentious"] == 1
    assert found.counts["instructions_benign"] == 7


@pytest.mark.parametrize(
    ("benign", "count"), [(PLAIN, "0 refusals of 0"), ((*PLAIN, *CONTENTIOUS), "4 refusals of 4")]
)
def test_few_refusals_of_contentious_instructions_are_told(benign, count):
    wanted = given(benign=benign)
    ContrastiveDecoding().synthesise(wanted)
    assert [note[: len(count)] for note in wanted.progress.said] == [count]
    one_sided = given(benign=benign, two_sided=False)
    ContrastiveDecoding().synthesise(one_sided)
    assert one_sided.progress.said == []


def test_rare_refusals_of_contentious_instructions_are_tried_again():
    def mild(request, index):
        contentious = BY_PROMPT[request.conversation[-1].content].kind == "contentious"
        if contentious and index < 2:
            return BY_PROMPT[request.conversation[-1].content].reference
        return f"{NO} For {index} reasons." if contentious else model(request, index)

    found = made(mild, decline_tries=5)
    assert (found.counts["declined_tried"], found.counts["declined"]) == (4 * 5, 4 * 3)
    assert found.counts["kept"] == made(mild, two_sided=False).counts["kept"]


def test_a_smaller_choice_of_instructions_is_part_of_a_larger_one():
    few, many = (asked(made(anchors=count).prompts.anchors.complied) for count in (4, 9))
    assert few < many


def test_another_engine_answers_if_an_option_names_it():
    other = ScriptedEngine(model)
    wanted = replace(given(replies_by="other"), other=other)
    ContrastiveDecoding().synthesise(wanted)
    assert (len(wanted.engine.asked), len(other.asked)) == (0, 48 + 4)
    with pytest.raises(UsageError, match="replies_by names 'other'"):
        made(replies_by="other")


@pytest.mark.parametrize(
    ("reply", "benign", "message"),
    [
        (lambda request, index: NO, (*PLAIN, *CONTENTIOUS), "none of the anchors is kept"),
        (
            lambda request, index: BY_PROMPT[request.conversation[-1].content].target,
            (),
            "is kept .no reply|kept",
        ),
        (
            lambda r, i: model(r, i) if under(r) == "safe" else NO,
            (*PLAIN, *CONTENTIOUS),
            "is complied .*24 refused",
        ),
        (
            lambda r, i: model(r, i) if under(r) != "safe" else None,
            (*PLAIN, *CONTENTIOUS),
            "is refused .*16 complied",
        ),
        (model, CONTENTIOUS, "all 8 replies to keep to answer contentious"),
    ],
)
def test_a_set_that_stays_empty_stops_with_numbers(reply, benign, message):
    with pytest.raises(UsageError, match=message):
        made(reply, benign=benign)


def test_sorting_without_a_judge_of_refusals_is_refused():
    with pytest.raises(UsageError, match="--judge"):
        made(aspects=("harmful",))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"anchors": 0}, "anchors is 0"),
        ({"contentious": 1.5}, "contentious is 1.5"),
        ({"contentious": 0}, "two_sided needs contentious"),
        ({"alpha": 2}, "alpha is 2"),
        ({"alpha": 1}, "rescale: false"),
        ({"unlikelihood": -1}, "unlikelihood is -1"),
        ({"tokens": 0}, "tokens is 0"),
        ({"placement": "middle"}, "placement is 'middle'"),
        ({"replies_endpoint": "http://x"}, "name its model in replies_by"),
        ({"anchors_file": "x.jsonl", "replies_by": "m"}, "remove one"),
        ({"shield": "s"}, "anchors says how one is made"),
        ({"plausability": 0}, 'Did you mean "plausibility"'),
    ],
)
def test_wrong_options_are_refused_before_the_model_is_asked(options, message):
    wanted = given(**options)
    with pytest.raises(UsageError, match=message):
        ContrastiveDecoding().synthesise(wanted)
    assert wanted.engine.asked == []


ROWS = [
    {"request": "How do I paint a gate?", "reply": "With a brush.", "set": "kept"},
    {"request": "How do I catch moths?", "reply": "With a lamp.", "set": "kept", "kind": "contentious"},
    {"request": "How do I catch moths?", "reply": "I will not say.", "set": "declined"},
    {"request": "How do I burn the mill?", "reply": "I will not say.", "set": "refused"},
    {"request": "How do I burn the mill?", "reply": "With a torch.", "set": "complied"},
]


def anchors_file(folder, rows, name="anchors.jsonl"):
    path = folder / name
    if path.suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        pyarrow.parquet = pytest.importorskip("pyarrow.parquet")
        columns = {key: [row.get(key) for row in rows] for key in ("request", "reply", "set", "kind")}
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("name", ["anchors.jsonl", "anchors.parquet"])
def test_a_file_of_anchors_needs_neither_model_nor_judge(tmp_path, name):
    wanted = given(anchors_file=anchors_file(tmp_path, ROWS, name), aspects=())
    anchors = ContrastiveDecoding().synthesise(wanted).prompts.anchors
    assert wanted.engine.asked == []
    found = [
        example for name in ("kept", "declined", "refused", "complied") for example in getattr(anchors, name)
    ]
    assert [(e.conversation, e.target, e.source) for e in found] == [
        (user(row["request"]), row["reply"], row["set"]) for row in ROWS
    ]
    assert anchors.kept_by_opposite == (True, False)


def test_judges_choose_the_sets_that_a_file_leaves_open(tmp_path):
    rows = [
        {"request": request.prompt, "reply": reply, "kind": request.kind}
        for request in (HARMFUL[0], PLAIN[0], CONTENTIOUS[0])
        for reply in (NO, request.target or request.reference)
    ]
    counts = made(anchors_file=anchors_file(tmp_path, rows)).counts
    assert {name: counts[name] for name in ("kept", "refused", "complied", "declined")} == {
        "kept": 2,
        "refused": 1,
        "complied": 1,
        "declined": 1,
    }
    assert counts["dropped_benign_overrefused"] == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"request": "a", "reply": "b"}, "line 1: neither `set`"),
        ({"request": "a", "reply": "b", "set": "good"}, "'good'; expected one of kept, refused"),
        ({"request": "a", "reply": "b", "kind": "evil"}, "'evil'; expected one of harmful"),
        ({"request": "a", "set": "kept"}, '"reply" is missing'),
        ({"request": "", "reply": "b", "set": "kept"}, '"request" is empty'),
    ],
)
def test_a_wrong_row_is_named(tmp_path, row, message):
    with pytest.raises(UsageError, match=message):
        made(anchors_file=anchors_file(tmp_path, [row]))


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        made(anchors_file=str(tmp_path / "none.jsonl"))


LOADED = tiny_loaded()
MANUAL = "You are a careful clerk."


def shield(contrast=None):
    safe, opposite = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(1))
    frame = Frame(manual=MANUAL)
    return Shield(safe, opposite, frame, made_for(LOADED), contrast or Contrast(alpha=0.3))


def system(artifact, decoding=MappingProxyType({}), **options):
    return System(lambda: pytest.fail("nothing was trained"), lambda: LOADED, artifact, options, decoding)


def reply(engine):
    request = GenerationRequest(
        (Message("user", "polish the bell"),), sampling=Sampling(temperature=0, max_tokens=8)
    )
    return engine.generate([request])[0][0].text


def test_the_shield_of_the_training_is_used_as_it_is_meant_to_be(tmp_path):
    save_shield(shield(), tmp_path / "shield")
    engine = ContrastiveDecoding().engine(system(tmp_path / "shield"))
    wanted = prompted_engine(LOADED, Decoding("sp", "ap", Contrast(alpha=0.3)), shield())
    assert engine.identity() == wanted.identity()
    assert reply(engine) == reply(wanted)


def test_a_shield_that_is_there_goes_before_and_nothing_is_made(tmp_path):
    save_shield(shield(), tmp_path / "mine")
    wanted = replace(given(), options={"shield": str(tmp_path / "mine")})
    nothing = ContrastiveDecoding().synthesise(wanted)
    assert (nothing.examples, nothing.prompts, wanted.engine.asked) == ((), None, [])
    engine = ContrastiveDecoding().engine(system(tmp_path / "empty", shield=str(tmp_path / "mine")))
    assert reply(engine)


def test_the_arms_own_decoding_goes_before_the_shields(tmp_path):
    save_shield(shield(), tmp_path / "shield")
    engine = ContrastiveDecoding().engine(
        system(tmp_path / "shield", {"negative": None, "plausibility": 0.2})
    )
    wanted = prompted_engine(LOADED, Decoding("sp", None, Contrast(alpha=0.0, plausibility=0.2)), shield())
    assert engine.identity() == wanted.identity()


@pytest.mark.parametrize("negative", ["bare", "opposite", None])
def test_manual_prompts_need_no_shield(tmp_path, negative):
    decoding = {"positive": "safe", "negative": negative}
    assert reply(ContrastiveDecoding().engine(system(tmp_path / "none", decoding)))


def test_a_missing_shield_is_told(tmp_path):
    with pytest.raises(UsageError, match="none"):
        ContrastiveDecoding().engine(system(tmp_path / "none"))
