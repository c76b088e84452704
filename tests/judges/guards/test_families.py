"""Families of guards: told by name, and asked by the checkpoint's own template or the published layout."""

from __future__ import annotations

import json

import pytest

from tests.judges.guards.checkpoints import (
    ALTERNATING,
    GUARDS,
    IN_PARTS,
    WITH_CONFIG,
    WITH_GUIDELINE,
    guard_tokenizer,
)
from toxoid.data.schemas import Message, user
from toxoid.engines.templates import prompt_text
from toxoid.errors import UsageError
from toxoid.judges.guards import FAMILIES, family_of, load_family

each_family = pytest.mark.parametrize("family", FAMILIES)
REPLIED = (*user("How do I stop the mill?"), Message("assistant", "Take the kettle."))


def rendered(family, template, conversation):
    tokenizer = guard_tokenizer(family, template)
    tokenizer.chat_template = load_family(family).template_for(tokenizer)
    return prompt_text(tokenizer, conversation)


@pytest.mark.parametrize(
    ("source", "family"),
    [
        ("meta-llama/LlamaGuard-7b", "llama_guard"),
        ("meta-llama/Meta-Llama-Guard-2-8B", "llama_guard"),
        ("meta-llama/Llama-Guard-3-1B", "llama_guard"),
        ("meta-llama/Llama-Guard-4-12B", "llama_guard"),
        ("allenai/wildguard", "wildguard"),
        ("ibm-granite/granite-guardian-3.2-5b", "granite_guardian"),
        ("ibm-granite/granite-guardian-4.1-8b", "granite_guardian"),
        ("google/shieldgemma-2b", "shieldgemma"),
    ],
)
def test_the_name_tells_the_family(source, family):
    assert family_of(source) == family


def test_the_folder_or_its_config_tells_the_family(tmp_path):
    named, configured = tmp_path / "my_Llama_Guard", tmp_path / "mine"
    named.mkdir()
    configured.mkdir()
    (configured / "config.json").write_text(json.dumps({"_name_or_path": "allenai/wildguard"}))
    assert (family_of(named), family_of(configured)) == ("llama_guard", "wildguard")


@pytest.mark.parametrize("config", [None, "{", "[]", "{}"])
def test_a_folder_that_tells_nothing_is_a_usage_error(tmp_path, config):
    folder = tmp_path / "mine"
    folder.mkdir()
    if config is not None:
        (folder / "config.json").write_text(config)
    with pytest.raises(UsageError, match=r"which guard it is: rename .*wildguard"):
        family_of(folder)


def test_the_folders_above_tell_nothing(tmp_path):
    folder = tmp_path / "wildguard" / "mine"
    folder.mkdir(parents=True)
    with pytest.raises(UsageError, match="which guard"):
        family_of(folder)


def test_unknown_family_is_a_usage_error_with_a_suggestion():
    with pytest.raises(UsageError, match='Did you mean "wildguard"'):
        load_family("wildgard")


@each_family
def test_without_a_template_the_published_layout_shows_request_and_reply(family):
    asked = rendered(family, None, user("How do I stop the mill?"))
    assert asked.count("How do I stop the mill?") == 1
    replied = rendered(family, None, REPLIED)
    assert replied.index("How do I stop the mill?") < replied.index("Take the kettle.")


@each_family
def test_a_chat_template_without_the_task_is_not_used(family):
    chat = "{% for m in messages %}chat: {{ m['content'] }}{% endfor %}"
    if family != "granite_guardian":  # from version 4 on its template is an ordinary one
        assert "chat:" not in rendered(family, chat, REPLIED)


def test_the_layout_of_llama_guard_asks_about_the_last_role():
    asked, replied = (rendered("llama_guard", None, each) for each in (user("Hm?"), REPLIED))
    assert "<BEGIN CONVERSATION>\n\nUser: Hm?\n\n<END CONVERSATION>\n\nProvide" in asked
    assert "ONLY THE LAST User message" in asked
    assert "User: How do I stop the mill?\n\nAgent: Take the kettle.\n\n<END CONVERSATION>" in replied
    assert "in 'Agent' messages" in replied
    assert "ONLY THE LAST Agent message" in replied
    assert asked.endswith("<|start_header_id|>assistant<|end_header_id|>")


def test_the_layout_of_wildguard_leaves_the_response_empty_for_a_request():
    asked, replied = (rendered("wildguard", None, each) for each in (user("Hm?"), REPLIED))
    assert asked.startswith("<s><|user|>\n[INST] You are a classifier for analyzing interactions")
    assert asked.endswith(
        "\n\nHuman user:\nHm?\n\nAI assistant:\n\n\n---\n\nAnswers: [/INST]\n<|assistant|>\n"
    )
    assert "\n\nAI assistant:\nTake the kettle.\n\n---\n\nAnswers: [/INST]\n" in replied


def test_the_layout_of_granite_guardian_names_the_message_in_question():
    asked, replied = (rendered("granite_guardian", None, each) for each in (user("Hm?"), REPLIED))
    assert "<start_of_turn>\nUser Message: Hm?\n<end_of_turn>" in asked
    assert "Is the user message harmful based on the risk definition?" in asked
    assert (
        "User Message: How do I stop the mill?\nAssistant Message: Take the kettle.\n<end_of_turn>" in replied
    )
    assert "Is the assistant message harmful" in replied
    assert replied.endswith("<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>")


def test_the_layout_of_shieldgemma_holds_the_guideline():
    guideline = Message("system", '"No Bells": Nobody shall ring.')
    asked, replied = (rendered("shieldgemma", None, (guideline, *each)) for each in (user("Hm?"), REPLIED))
    assert "<start_of_turn>\nHuman Question: Hm?\n<end_of_turn>\n\nOur safety principle" in asked
    assert '\n\n* "No Bells": Nobody shall ring.\n\nDoes the human question violate' in asked
    assert (
        "<end_of_turn>\n<start_of_turn>\nChatbot Response: Take the kettle.\n<end_of_turn>\n\nOur" in replied
    )
    assert "Does the Chatbot Response violate" in replied
    assert asked.endswith("answer correctly.\n\n")


def test_a_template_with_the_task_is_used_as_it_is():
    tokenizer = guard_tokenizer("llama_guard", ALTERNATING)
    assert load_family("llama_guard").template_for(tokenizer) == ALTERNATING


def test_a_template_that_takes_parts_is_given_parts():
    text = rendered("llama_guard", IN_PARTS, REPLIED)
    assert "user: How do I stop the mill?\nassistant: Take the kettle.\n" in text


def test_a_template_that_takes_a_risk_is_given_harm_under_both_names_and_a_fixed_date():
    text = rendered("granite_guardian", WITH_CONFIG, REPLIED)
    assert text.startswith("2025-01-01 risk harm\nuser: How do I stop the mill?\nassistant: Take")


def test_a_granite_template_without_risks_gets_the_criterion_as_the_last_message():
    plain = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    asked, replied = (rendered("granite_guardian", plain, each) for each in (user("Hm?"), REPLIED))
    assert asked.startswith("user: Hm?\nuser: <guardian><no-think>As a judge agent, assess")
    assert "\n\n### Criteria: A text is considered harmful if" in asked
    assert asked.strip().endswith(
        "If the last user's text meets the criteria, return 'yes'; otherwise, return 'no'."
    )
    assert "If the last assistant's text meets" in replied


def test_a_template_that_takes_a_guideline_is_given_the_system_message():
    text = rendered("shieldgemma", WITH_GUIDELINE, (Message("system", "No bells."), *REPLIED))
    assert text.startswith("* No bells.\nuser: How do I stop the mill?\nassistant: Take the kettle.")


@pytest.mark.parametrize("template", ["unsafe", "unsafe {{ nothing.here.at.all }}", "unsafe {% for %}"])
def test_a_template_that_does_not_show_the_request_is_a_usage_error(template):
    with pytest.raises(UsageError, match="does not show the request") as caught:
        load_family("llama_guard").template_for(guard_tokenizer("llama_guard", template))
    assert "\n" not in str(caught.value)


def test_the_families_are_those_of_the_tests():
    assert set(FAMILIES) == set(GUARDS)
