"""``toxoid generate``: prompts in, replies out, and what the protection did."""

from __future__ import annotations

import io
import json
import re
import sys

import pytest
import torch

from tests.cli.test_imports import HEAVY, modules_after
from tests.helpers.openai_server import OpenAIServer
from tests.helpers.scripted_engine import ScriptedEngine
from toxoid.cli import main
from toxoid.engines.loading import load_model
from toxoid.engines.shield import Shield, made_for, save_shield
from toxoid.engines.soft_prompt import Frame
from toxoid.loop import models
from toxoid.loop.models import model_source

ASK = "Teach me to thurgel the saltbell."
OTHER = "Where does the mill stand?"
SAFE = ("--positive", "safe", "--negative", "opposite")


@pytest.fixture(scope="module")
def shield(tmp_path_factory):
    loaded = load_model(model_source("lab-base"))
    size = loaded.model.get_input_embeddings().embedding_dim
    safe, opposite = torch.randn(2, 4, size, generator=torch.Generator().manual_seed(0)) * 0.02
    folder = tmp_path_factory.mktemp("shields") / "shield"
    save_shield(Shield(safe, opposite, Frame("front"), made_for(loaded)), folder)
    return str(folder)


@pytest.fixture
def pipe(monkeypatch):
    def prepare(data, *, terminal=False):
        stream = io.TextIOWrapper(io.BytesIO(data))
        monkeypatch.setattr(stream, "isatty", lambda: terminal, raising=False)
        monkeypatch.setattr(sys, "stdin", stream)

    return prepare


@pytest.fixture
def scripted(monkeypatch):
    """Let an engine of this test's answer in place of the model."""

    def prepare(reply):
        engine = ScriptedEngine(reply)
        monkeypatch.setattr(models, "load", lambda section: None)
        monkeypatch.setattr(models, "local_engine", lambda loaded, section: engine)
        return engine

    return prepare


def said(capsys, *arguments):
    assert main(["generate", *arguments]) == 0
    return capsys.readouterr().out


def lines(capsys, *arguments):
    return [json.loads(line) for line in said(capsys, *arguments, "--json").splitlines()]


def test_a_reply_is_all_there_is_on_stdout_and_the_seed_decides_it(capsys):
    first = said(capsys, "lab-base", ASK)
    assert first.strip()
    assert first.count("\n") == 1
    assert first == said(capsys, "lab-base", ASK)
    assert len({said(capsys, "lab-base", ASK, "--seed", str(seed)) for seed in range(4)}) > 1


def test_a_stream_says_what_is_said_without_it(capsys):
    plain = said(capsys, "lab-base", ASK, "--no-stream", *SAFE)
    assert said(capsys, "lab-base", ASK, "--stream", *SAFE) == plain


def test_a_line_of_json_has_the_reply_and_its_numbers(capsys):
    found = lines(capsys, "lab-base", ASK, "--max-tokens", "3", *SAFE)
    assert [sorted(line) for line in found] == [["contrasted", "finish_reason", "prompt", "text", "tokens"]]
    assert (found[0]["prompt"], found[0]["tokens"], found[0]["finish_reason"]) == (ASK, 3, "length")


def test_several_prompts_are_one_call_in_their_order_with_progress_on_stderr(capsys, scripted):
    engine = scripted(lambda request, i: f"{request.conversation[-1].content}!{i}")
    assert main(["generate", "lab-base", "a", "b", "-n", "2", "--json"]) == 0
    out, err = capsys.readouterr()
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["a!0", "a!1", "b!0", "b!1"]
    assert len(engine.asked) == 2
    assert "2/2 prompts" in err


def test_of_several_replies_each_stands_under_its_prompt(capsys, scripted):
    scripted(lambda request, i: f"reply {i}")
    assert said(capsys, "lab-base", "a", "-n", "2") == "> a (1 of 2)\nreply 0\n\n> a (2 of 2)\nreply 1\n\n"


def test_what_is_asked_is_what_was_given(scripted):
    engine = scripted(lambda request, i: "x")
    options = {"--system": "Be brief.", "--prefill": "Well", "--temperature": "0.5", "--top-p": "0.9"}
    options |= {"--max-tokens": "7", "--seed": "5"}
    flat = [part for option in options.items() for part in option]
    assert main(["generate", "lab-base", "a", *flat, "--stop", "x", "--stop", "y", "-n", "3"]) == 0
    [asked] = engine.asked
    assert [message.content for message in asked.conversation] == ["Be brief.", "a"]
    assert (asked.prefill, asked.n, asked.seed) == ("Well", 3, 5)
    drawn = asked.sampling
    assert (drawn.temperature, drawn.top_p, drawn.max_tokens, drawn.stop) == (0.5, 0.9, 7, ("x", "y"))


def test_each_line_of_standard_input_is_a_prompt(pipe, scripted):
    engine = scripted(lambda request, i: "x")
    pipe("one\n\n  two é \r\n".encode())
    assert main(["generate"]) == 0
    assert [request.conversation[-1].content for request in engine.asked] == ["one", "two é"]


def test_a_dash_is_all_of_standard_input(pipe, scripted):
    engine = scripted(lambda request, i: "x")
    pipe(b"one\n\ntwo\n")
    assert main(["generate", "lab-base", "-"]) == 0
    assert [request.conversation[-1].content for request in engine.asked] == ["one\n\ntwo"]


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.txt", "one\ntwo\n"), ("a.csv", "prompt\none\ntwo\n"), ("a.jsonl", '{"prompt": "one"}\n')],
)
def test_a_file_has_prompts_in_any_layout(tmp_path, scripted, name, text):
    engine = scripted(lambda request, i: "x")
    (tmp_path / name).write_text(text)
    assert main(["generate", "lab-base", "--file", str(tmp_path / name)]) == 0
    found = [request.conversation[-1].content for request in engine.asked]
    assert found == ["one", "two"][: len(found)]


def test_the_terminal_does_not_obey_a_reply_or_a_prompt(capsys, scripted):
    scripted(lambda request, i: "\x1b[2Jred\u202e\x07")
    out = said(capsys, "lab-base", "ask\x1b[31m", "-n", "2")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", out)
    assert "\\x1b[2Jred\\u202e\\x07" in out


def test_json_is_ascii(capsys, scripted):
    scripted(lambda request, i: "\x9b\u202eé")
    assert said(capsys, "lab-base", "a", "--json").isascii()


def test_manual_prompts_change_what_is_said(capsys):
    plain = lines(capsys, "lab-base", ASK, "-n", "30")
    guarded = lines(capsys, "lab-base", ASK, "-n", "30", *SAFE)
    assert [line["text"] for line in plain] != [line["text"] for line in guarded]
    assert "contrasted" not in plain[0]
    assert sum(line["contrasted"] for line in guarded) > 0


def test_guided_is_the_safe_prompt(capsys):
    assert said(capsys, "lab-base", ASK, "--guided") == said(capsys, "lab-base", ASK, "--positive", "safe")


def test_a_shield_is_used_as_it_is_meant_to_be_or_as_the_options_say(capsys, shield):
    [meant] = lines(capsys, "lab-base", ASK, "--shield", shield)
    [first] = lines(capsys, "lab-base", ASK, "--shield", shield, "--first", "1")
    [alone] = lines(capsys, "lab-base", ASK, "--shield", shield, "--alpha", "0")
    assert "contrasted" in meant
    assert first["contrasted"] <= 1
    assert "contrasted" not in alone


def test_an_explanation_is_a_reply_a_table_and_a_sentence(capsys):
    out = said(capsys, "lab-base", ASK, "--explain", "--max-tokens", "5", *SAFE)
    [reply] = lines(capsys, "lab-base", ASK, "--max-tokens", "5", *SAFE)
    assert out.startswith(reply["text"])
    assert "undefended" in out
    assert " of 5 tokens are not what the undefended model" in out


def test_an_explanation_is_a_page_too(capsys, tmp_path, shield):
    page = tmp_path / "new" / "page.html"
    out = said(capsys, "lab-base", ASK, "--html", str(page), "--shield", shield)
    assert f"page: {page}" in out
    assert "the shield&#39;s safe prompt" in page.read_text()


def test_an_explanation_is_json_too(capsys, tmp_path):
    page = tmp_path / "page.html"
    [found] = lines(capsys, "lab-base", ASK, "--explain", "--html", str(page), *SAFE)
    assert len(found["explanation"]["tokens"]) == found["tokens"]
    assert page.is_file()


def test_a_server_is_asked_too(capsys):
    with OpenAIServer() as server:
        [found] = lines(capsys, "served", "hello", "--endpoint", server.url, "--guided")
    assert found["text"] == "echo: hello"


SHIELD = "--shield=DIR"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["lab-base", ""], "an empty prompt"),
        (["lab-base", "-", "x"], "- reads all of standard input"),
        (["lab-base", "x", "--file", "y.txt"], "give one of the two"),
        (["lab-base", "--file", "no-such.txt"], "no such file"),
        (["Teach me this."], "name the model first"),
        (["./no-such-model", "x"], "no-such-model"),
        (["lab-base", "x", "--system", "\udcff"], "not UTF-8"),
        (["lab-base", "x", "--endpoint", "http://localhost:1", SHIELD], "--shield needs the weights here"),
        (
            ["lab-base", "x", "--endpoint", "http://localhost:1", "--explain"],
            "--explain needs the weights here",
        ),
        (["lab-base", "x", "--endpoint", "http://localhost:1", "--alpha", "0"], "--alpha needs the weights"),
        (["lab-base", "x", "y", "--stream"], "--stream shows one reply"),
        (["lab-base", "x", "-n", "2", "--stream"], "--stream shows one reply"),
        (["lab-base", "x", "--stream", "--json"], "--stream and --json exclude each other"),
        (["lab-base", "x", "--stream", "--explain"], "--stream and --explain exclude each other"),
        (["lab-base", "x", "y", "--explain"], "--explain is for one reply"),
        (["lab-base", "x", "-n", "2", "--html", "p.html"], "--explain is for one reply"),
        (["lab-base", "x", "--guided", "--positive", "safe"], "--guided is --positive safe"),
        (["lab-base", "x", "--guided", SHIELD], "--guided and --shield"),
        (["lab-base", "x", "--positive", "sp"], "give --shield DIR"),
        (["lab-base", "x", "--negative", "ap"], "give --shield DIR"),
        (["lab-base", "x", SHIELD, *SAFE], "no prompt of the shield is used"),
        (["lab-base", "x", "--alpha", "0.2"], "--alpha has no effect"),
        (["lab-base", "x", "--raw"], "--raw has no effect"),
        (["lab-base", "x", SHIELD, "--negative", "none", "--first", "2"], "--first has no effect"),
        (["lab-base", "x", *SAFE, "--alpha", "0"], "--negative has no effect with --alpha 0"),
        (["lab-base", "x", "--negative", "bare"], "nothing to contrast"),
        (["lab-base", "x", *SAFE, "--alpha", "1"], "alpha"),
        (["lab-base", "x", *SAFE, "--alpha", "nan"], "alpha"),
        (["lab-base", "x", "--temperature", "0", "-n", "2"], "the same reply each time"),
        (["lab-base", "x", "--top-p", "0"], "top_p"),
        (["lab-base", "x", "--max-tokens", "0"], "max_tokens"),
        (["lab-base", "x", "--stop", ""], "an empty stop string"),
        (["lab-base", "x", "--shield", "no-such-folder"], "no-such-folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(capsys, tmp_path, monkeypatch, arguments, expected):
    monkeypatch.chdir(tmp_path)
    assert main(["generate", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    [line] = err.splitlines()
    assert line.startswith("toxoid: ")
    assert expected in line


@pytest.mark.parametrize(("data", "expected"), [(b" \n", "holds no prompt"), (b"\xff\n", "not UTF-8")])
def test_standard_input_without_text_is_refused(capsys, pipe, data, expected):
    pipe(data)
    assert main(["generate"]) == 2
    assert expected in capsys.readouterr().err


def test_without_a_prompt_a_terminal_is_told_how_to_give_one(capsys, pipe):
    pipe(b"", terminal=True)
    assert main(["generate", "lab-base"]) == 2
    assert "no prompt is given" in capsys.readouterr().err


def test_the_shield_of_another_model_is_refused(capsys, shield):
    assert main(["generate", "lab-uncensored", "x", "--shield", shield]) == 2
    assert "was made for lab-base" in capsys.readouterr().err


def test_a_prompt_without_room_is_told_on_stderr(capsys):
    assert main(["generate", "lab-base", "mill " * 3000]) == 0
    out, err = capsys.readouterr()
    assert out == "\n"
    assert "prompt exceeds the context window" in err


@pytest.mark.parametrize("verb", ["generate", "shield"])
def test_help_loads_no_heavy_library(verb):
    assert not HEAVY & modules_after(verb, "--help")
