from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from toxoid.training.card import Card, base_name, card_text

FACTS = {
    "kind": "adapter",
    "steps": 12,
    "tokens": 345,
    "losses": (2.0, 1.0),
    "examples": 7,
    "cut": 1,
    "dropped": 2,
}
FINGERPRINT: dict[str, Any] = {
    "data": "d" * 64,
    "model": {"weights": "w" * 64},
    "settings": {"learning_rate": 0.1},
    "versions": {"torch": "9"},
}


def text(card: Card | None = None, source: str = "someone/some-chat", **changes: Any) -> str:
    return card_text(card or Card(), FACTS | changes, FINGERPRINT, source=source)


def front(written: str) -> dict[str, Any]:
    return yaml.safe_load(written.split("---\n")[1])


def test_the_front_matter_of_an_adapter():
    given = front(text(Card(method="mistake-analysis")))
    assert given["library_name"] == "peft"
    assert given["base_model"] == "someone/some-chat"
    assert given["base_model_relation"] == "adapter"
    assert {"toxoid", "mistake-analysis", "lora"} <= set(given["tags"])


def test_the_front_matter_of_a_model():
    given = front(text(kind="model"))
    assert (given["library_name"], given["base_model_relation"]) == ("transformers", "finetune")
    assert "lora" not in given["tags"]


def test_what_is_not_known_is_left_out():
    assert {"license", "datasets"}.isdisjoint(front(text()))
    assert front(text(Card(datasets=("a/b",), licence="mit")))["datasets"] == ["a/b"]


def test_the_facts_are_told():
    written = text(Card(command="toxoid align x"))
    assert all(
        fact in written for fact in ("12", "345", "d" * 64, "w" * 64, "toxoid align x", "2.0000, 1.0000")
    )


def test_of_a_folder_only_the_name_is_told(tmp_path: Path):
    folder = tmp_path / "my-model"
    folder.mkdir()
    written = text(source=str(folder))
    assert str(tmp_path) not in written
    assert front(written)["base_model"] == "my-model"


def test_a_hub_name_is_told_whole():
    assert base_name("someone/some-chat") == "someone/some-chat"


def test_a_command_is_told_on_one_line():
    assert "```\ntoxoid align 'a b'\n```" in text(Card(command="toxoid align 'a\nb'"))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("align /home/someone/my-model --out ../runs/mine/", "align my-model --out mine/"),
        ("align --set train.harmful='[/data/a.csv, ~/b.csv]'", "align --set train.harmful='[a.csv, b.csv]'"),
        ("align --requests=/a.csv '/home/x/my file.csv'", "align --requests=a.csv 'my file.csv'"),
        ("align someone/some-chat --out runs/mine", "align someone/some-chat --out runs/mine"),
        ("audit m --endpoint http://h:1/v1", "audit m --endpoint http://h:1/v1"),
    ],
)
def test_of_a_local_path_in_the_command_only_the_name_is_told(given: str, told: str):
    assert f"```\n{told}\n```" in text(Card(command=given))


def test_examples_are_told_by_source_where_it_is_known():
    assert "examples by source" not in text()
    assert "| examples by source | harmful 4, other 3 |" in text(Card(sources={"harmful": 4, "": 3}))


def test_a_soft_prompt_is_no_lora():
    prompt = {**FINGERPRINT, "settings": {"form": "soft-prompt"}}
    written = card_text(Card(), FACTS, prompt, source="someone/some-chat")
    assert front(written)["tags"][-1] == "soft-prompt"
    assert front(written)["library_name"] == "peft"
    assert "A soft prompt (PEFT) for" in written
