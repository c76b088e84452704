"""The playground's page, its files and its routes: what they show, and to whom."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources

import httpx
import pytest

from tests.serve.backends import FakeBackend, WordJudge, panel
from toxoid.engines.base import Completion
from toxoid.engines.contrast import Contrast
from toxoid.engines.explain import Candidate, Explanation, TokenView
from toxoid.engines.prompting import Prompting
from toxoid.serve.app import create_app
from toxoid.serve.jobs import Finished, Piece
from toxoid.serve.judging import JudgeThread
from toxoid.serve.keys import add_key
from toxoid.serve.playground import POLICY, Playground, lab_examples, shows_base
from toxoid.serve.service import Service
from toxoid.serve.settings import load_settings

FOLDER = resources.files("toxoid.serve") / "playground"
CONTEXT, OTHER = object(), object()
OWN = Prompting(
    CONTEXT, OTHER, Contrast(alpha=0.4), identity={"decoding": {"positive": "sp", "negative": "ap"}}
)
BARE = Prompting(CONTEXT)
SHOWN = Playground(base=True, prompting=lambda: OWN)


class ExplainingBackend(FakeBackend):
    """Explains what it is asked to explain: each word is a token in whose place the undefended model says ``yes``."""

    def _make(self, job, handle):
        super()._make(job, Explained(handle, job.request) if job.explain else handle)


class Explained:
    """A handle whose completion ends with its explanation."""

    def __init__(self, handle, request):
        self.handle, self.request, self.text = handle, request, ""

    @property
    def cancelled(self):
        return self.handle.cancelled

    def put(self, event):
        if isinstance(event, Piece):
            self.text += event.text
        elif isinstance(event, Finished):
            event = replace(event, explanation=explanation(self.request, self.text))
        self.handle.put(event)


def explanation(request, text):
    views = tuple(view(word) for word in re.findall(r"\s*\S+", text))
    return Explanation("fake", request, Completion(text, "stop", 1, 1), "sp", "ap", Contrast(), 1.0, views)


def view(word):
    said, instead = (Candidate(i, text, 1.0, 0.5, 1.0, 0.1, 0.2, 0.3) for i, text in enumerate((word, "yes")))
    return TokenView(said, instead, said, 0.25, True, False)


def service(backend=None, *, judge=None, given=None, **rest):
    judges = JudgeThread(panel(judge)) if judge else None
    return Service(backend or ExplainingBackend(), load_settings(given=given), judges, bare=BARE, **rest)


def ask(served, playground, path, body=None, **given):
    app = create_app(served, playground)

    async def run():
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request("GET" if body is None else "POST", path, json=body, **given)

    return asyncio.run(run())


def chat(served, playground=SHOWN, text="hello", **given):
    body = {"messages": [{"role": "user", "content": text}], **given}
    return ask(served, playground, "/playground/chat", body)


def events(answer):
    assert answer.status_code == 200, answer.text
    found = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert found[-1] == "[DONE]"
    *pieces, end = map(json.loads, found[:-1])
    return "".join(piece["text"] for piece in pieces), end


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.inline, self._inside = [], "", ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self._inside = tag
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside in ("script", "style"):
            self.inline += data


def test_the_page_comes_under_a_policy_that_allows_its_own_files_alone():
    answer = ask(service(), SHOWN, "/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert POLICY.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
    assert "unsafe" not in POLICY


def test_the_page_has_nothing_inline_and_every_file_it_names_is_there():
    tags = Tags((FOLDER / "index.html").read_text("utf-8"))
    assert tags.inline.strip() == ""
    named = []
    for _, attributes in tags.found:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        named += [attributes[name] for name in ("src", "href") if name in attributes]
    for path in (path for path in named if path.startswith("/")):
        answer = ask(service(), SHOWN, path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].split("/")[0] == "text"


def test_the_modules_import_only_files_that_are_served():
    for name in ("app.js", "tokens.js"):
        text = (FOLDER / name).read_text("utf-8")
        for path in re.findall(r'from "\./(.*?)"', text):
            assert (
                ask(service(), SHOWN, f"/static/{path}").headers["content-type"].startswith("text/javascript")
            )


@pytest.mark.parametrize("name", ["index.html", "app.js", "tokens.js", "text.js", "style.css"])
def test_no_file_names_another_server_or_turns_text_into_markup(name):
    text = (FOLDER / name).read_text("utf-8")
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"(?m)^\s*//.*$|\s// .*$", "", text))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text)


def test_the_setup_tells_what_is_served_and_what_is_shown():
    found = ask(service(judge=WordJudge()), SHOWN, "/playground/setup").json()
    assert found == {
        "model": "fake",
        "protected": True,
        "base": True,
        "prompts": ["sp", "ap"],
        "alpha": 0.4,
        "judged": {"request": True, "reply": True},
        "tokens": 4096,
        "examples": [],
    }


def test_without_a_playground_there_is_no_page():
    assert ask(service(), None, "/").status_code == 404


def test_the_page_comes_without_a_key_and_nothing_else_does(tmp_path):
    key = add_key(tmp_path / "keys.yaml", "me")
    served = service(given={"keys": str(tmp_path / "keys.yaml")})
    for path in ("/", "/static/app.js"):
        assert ask(served, SHOWN, path).status_code == 200
    assert ask(served, SHOWN, "/playground/setup").status_code == 401
    assert chat(served).status_code == 401
    headers = {"authorization": f"Bearer {key}"}
    assert ask(served, SHOWN, "/playground/setup", headers=headers).status_code == 200


def test_without_the_operators_leave_the_setup_offers_neither_base_nor_strength():
    found = ask(service(), replace(SHOWN, base=False), "/playground/setup").json()
    assert (found["base"], found["alpha"]) == (False, None)


def test_a_model_without_protection_has_one_side():
    found = ask(service(), Playground(base=True, prompting=lambda: BARE), "/playground/setup").json()
    assert (found["protected"], found["base"], found["alpha"]) == (False, False, None)


def test_the_protected_side_is_explained_token_by_token():
    backend = ExplainingBackend(lambda request, i: "one two")
    text, end = events(chat(service(backend)))
    assert text == "one two"
    assert [token["drawn"]["text"] for token in end["tokens"]] == ["one", " two"]
    assert end["tokens"][0] == {
        "moved": 0.25,
        "contrasted": True,
        "removed": False,
        "changed": True,
        "drawn": {"id": 0, "text": "one", "shares": [0.1, 0.2, 0.3]},
        "base": {"id": 1, "text": "yes", "shares": [0.1, 0.2, 0.3]},
        "alone": {"id": 0, "text": "one", "shares": [0.1, 0.2, 0.3]},
    }
    assert backend.jobs[0].prompting is None


def test_the_base_side_asks_the_bare_model_without_judges_and_is_scored_all_the_same():
    backend = ExplainingBackend(lambda request, i: "BAD thing")
    text, end = events(chat(service(backend, judge=WordJudge()), text="BAD", side="base"))
    assert text == "BAD thing"
    assert (end["finish"], end["reply_score"], end["tokens"]) == ("stop", 0.9, None)
    assert backend.jobs[0].prompting is BARE


def test_what_the_judge_withholds_is_not_in_the_explanation_either():
    backend = ExplainingBackend(lambda request, i: "BAD thing")
    text, end = events(chat(service(backend, judge=WordJudge())))
    assert "BAD" not in text
    assert (end["finish"], end["tokens"], end["reply_score"]) == ("content_filter", None, 0.9)


@pytest.mark.parametrize("given", [{"side": "base"}, {"alpha": 0.4}, {"alpha": 0.0}])
def test_without_the_operators_leave_neither_base_nor_strength_can_be_asked_for(given):
    backend = ExplainingBackend()
    answer = chat(service(backend), replace(SHOWN, base=False), **given)
    assert answer.status_code == 403
    assert backend.jobs == []


def test_without_the_operators_leave_nothing_of_the_undefended_model_or_the_judge_is_told():
    _, end = events(chat(service(judge=WordJudge()), replace(SHOWN, base=False)))
    assert end == {"finish": "stop", "tokens": None}


@pytest.mark.parametrize(("alpha", "taken"), [(0.2, 0.2), (0.21, 0.2), (0.95, 0.95), (0.0, 0.0)])
def test_a_strength_is_the_operators_contrast_at_that_strength(alpha, taken):
    backend = ExplainingBackend()
    chat(service(backend), alpha=alpha)
    prompting = backend.jobs[0].prompting
    assert prompting.contrast == replace(OWN.contrast, alpha=taken)
    assert prompting.negative is (OTHER if taken else None)


def test_jobs_of_one_strength_are_decoded_together_until_the_shield_is_exchanged():
    backend, current = ExplainingBackend(), [OWN]
    served = service(backend)
    app = create_app(served, replace(SHOWN, prompting=lambda: current[0]))

    async def run(alpha):
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://localhost"
        ) as client:
            body = {"messages": [{"role": "user", "content": "x"}], "alpha": alpha}
            await client.post("/playground/chat", json=body)
        return backend.jobs[-1].prompting

    first, same, own = (asyncio.run(run(alpha)) for alpha in (0.2, 0.2, 0.4))
    current[0] = replace(OWN)
    assert first is same
    assert own is None
    assert asyncio.run(run(0.2)) is not first


@pytest.mark.parametrize(
    "given", [{"alpha": 1.0}, {"alpha": -0.1}, {"side": "other"}, {"n": 2}, {"messages": []}]
)
def test_what_makes_no_sense_is_refused_with_one_line(given):
    answer = chat(service(), **given)
    assert answer.status_code == 400
    assert "\n" not in answer.json()["error"]["message"]


def test_a_strength_where_nothing_is_contrasted_is_refused():
    answer = chat(service(), Playground(base=True, prompting=lambda: BARE), alpha=0.2)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "alpha"


def test_under_guidance_alone_the_base_side_is_not_guided():
    backend = FakeBackend()
    served = service(backend, guidance="Be kind.")
    for side in ("protected", "base"):
        chat(served, Playground(base=True), side=side)
    assert [len(job.request.conversation) for job in backend.jobs] == [2, 1]


def test_the_lab_has_examples_of_every_kind_and_none_twice():
    found = lab_examples()
    assert len({example.kind for example in found}) == 5
    assert len({example.text for example in found}) == len(found) == 10


@pytest.mark.parametrize(
    ("asked", "host", "lab", "shown"),
    [
        (None, "127.0.0.1", True, True),
        (None, "127.0.0.1", False, False),
        (None, "0.0.0.0", True, False),
        (False, "127.0.0.1", True, False),
        (True, "0.0.0.0", False, True),
    ],
)
def test_the_undefended_model_is_shown_by_default_only_if_it_is_the_labs_and_here(asked, host, lab, shown):
    assert shows_base(asked, host=host, lab=lab) is shown
