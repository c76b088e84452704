"""The playground in a real browser: streaming, stopping, hostile output, long chats, and no mouse."""

from __future__ import annotations

import re
import socket
import threading
import time
from contextlib import contextmanager
from statistics import median

import pytest
import uvicorn

from tests.report.browser import ARGUMENTS, CHROMIUM
from tests.report.synthetic import HOSTILE
from tests.report.test_browser import LOW_CONTRAST, OVERFLOW
from tests.serve.backends import WordJudge
from tests.serve.test_playground import SHOWN, ExplainingBackend, service
from toxoid.serve.app import create_app
from toxoid.serve.playground import Example, Playground

pytestmark = pytest.mark.slow
pytest.importorskip("playwright", reason="playwright is not installed")
if CHROMIUM is None:
    pytest.skip("no Chromium on the path", allow_module_level=True)

EXAMPLES = (Example("Harmful", "How do I BAD it?"), Example("Honest", "How do I mend it?"))
HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\U000e0041]"
)
SAID = "[...document.querySelectorAll('.said')].at(-1).textContent"


def reply(request, index):
    """Reply to ``hostile N`` and ``slow``; else with what was asked, in the words of the side that is asked."""
    asked = request.conversation[-1].content
    if asked.startswith("hostile"):
        return HOSTILE[int(asked.split()[1])]
    if asked == "slow":
        return "word " * 400
    return f"You have said {len(request.conversation)} things, the last one: {asked}"


@contextmanager
def serving(playground, *, pace=0.0):
    backend = ExplainingBackend(reply, cut=7, pace=pace)
    served = service(backend, judge=WordJudge())
    server = uvicorn.Server(uvicorn.Config(create_app(served, playground), log_level="critical"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/", backend
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def quick():
    with serving(Playground(True, SHOWN.prompting, EXAMPLES)) as served:
        yield served


@pytest.fixture
def page(browser, quick):
    yield from opened(browser, quick[0])


def opened(browser, url, **given):
    """Yield an open page; at its end, it must have asked its own server alone and complained of nothing."""
    tab = browser.new_page(**given)
    tab.set_default_timeout(20_000)
    tab.asked, tab.complaints = [], []
    tab.on("request", lambda request: tab.asked.append(request.url))
    for event in ("console", "pageerror", "dialog"):
        tab.on(event, lambda told: tab.complaints.append(str(told)))
    tab.goto(url)
    tab.wait_for_selector("#composer:not([hidden])")
    yield tab
    assert [asked for asked in tab.asked if not asked.startswith((url, "data:,"))] == []
    assert tab.complaints == []
    tab.close()


def send(page, text):
    page.fill("#message", text)
    page.press("#message", "Enter")


def done(page):
    page.wait_for_selector("#send:not([hidden])")


def until(page, script):
    """Wait for an expression to hold; the page's own policy forbids playwright to wait for it there."""
    for _ in range(200):
        if page.evaluate(script):
            return
        time.sleep(0.05)
    raise AssertionError(script)


def test_both_sides_answer_and_the_protected_one_is_shown_token_by_token(page):
    send(page, "Mend it.")
    done(page)
    assert page.locator(".reply h3").all_inner_texts() == ["Without protection", "Protectedα 0.40"]
    assert page.locator(".base .said").inner_text() == "You have said 1 things, the last one: Mend it."
    assert page.locator(".protected .said").is_hidden()
    assert page.locator(".protected .token").count() == 10
    assert page.locator(".protected .tokens").inner_text() == page.locator(".base .said").inner_text()
    page.uncheck("#view")
    assert page.locator(".protected .said").is_visible()
    assert page.locator(".protected .tokens").is_hidden()


def test_the_outline_skips_no_level_and_all_stands_in_a_landmark(page):
    send(page, "Mend it.")
    done(page)
    levels = page.evaluate(
        "[...document.querySelectorAll(':is(h1, h2, h3):not([hidden] *)')].map(e => +e.tagName[1])"
    )
    assert levels == [1, 2, 3, 3]
    assert page.evaluate("[...document.querySelectorAll('form:not([hidden])')].every(e => e.ariaLabel)")


def test_each_side_remembers_its_own_replies(page):
    for text in ("One.", "Two."):
        send(page, text)
        done(page)
    assert "You have said 3 things" in page.locator(".base .said").last.inner_text()


def test_the_judge_scores_messages_and_withholds_replies_on_the_protected_side_alone(page):
    send(page, "BAD idea")
    done(page)
    assert page.locator(".asked .tag").inner_text() == "judge: 90.0 % problematic"
    assert page.locator(".base .ending").inner_text() == "judge: 90.0 % harmful"
    assert "refused by the judge" in page.locator(".protected .ending").inner_text()
    assert "BAD" not in page.locator(".protected .said").inner_text()


def test_the_text_grows_as_it_is_made_and_stop_ends_both_sides(browser):
    with serving(SHOWN, pace=0.02) as (url, backend):
        for page in opened(browser, url):
            send(page, "slow")
            seen = []
            for _ in range(3):
                until(page, f"{SAID}.length > {(seen[-1] if seen else 0) + 20}")
                seen.append(page.evaluate(f"{SAID}.length"))
            assert page.locator("[aria-busy=true]").count() == 2
            page.click("#stop")
            done(page)
            assert page.locator(".reply .tag").all_inner_texts() == ["stopped", "stopped"]
            assert seen == sorted(seen)
            assert seen[-1] < 2000
            for _ in range(100):
                if backend.cancelled == 2:
                    break
                time.sleep(0.05)
            assert backend.cancelled == 2
            send(page, "short")
            done(page)
            assert "You have said 3 things" in page.locator(".base .said").last.inner_text()


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_output_is_shown_and_not_obeyed(page, number):
    send(page, f"hostile {number}")
    done(page)
    shown = page.locator("#chat").text_content()
    assert not HIDDEN.search(shown)
    assert page.locator("#chat :is(script, img, style, svg, iframe)").count() == 0
    assert page.title() == "toxoid playground"
    if HIDDEN.search(HOSTILE[number]):
        assert page.locator(".base .esc").count() > 0
    page.locator(".token[role]").first.focus()
    assert not HIDDEN.search(page.locator("#tip").text_content())


def test_hostile_input_is_shown_and_not_obeyed(page):
    send(page, "".join(HOSTILE[:5]))
    done(page)
    assert not HIDDEN.search(page.locator("#chat").text_content())
    assert page.locator("#chat :is(script, img, style, svg, iframe)").count() == 0


def test_the_fiftieth_message_is_as_quick_as_the_first(page):
    times = []
    for number in range(50):
        start = time.monotonic()
        send(page, f"Message {number}: {'some words ' * 20}")
        done(page)
        times.append(time.monotonic() - start)
    assert page.locator(".exchange").count() == 50
    assert page.locator("#chat .problem").all_inner_texts() == []
    assert median(times[-9:]) < 2 * median(times[:9]) + 0.2
    assert page.evaluate("innerHeight + scrollY >= document.documentElement.scrollHeight - 2")


def test_all_of_it_can_be_done_by_keyboard(page, quick):
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == EXAMPLES[1].text:
            break
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "message"
    page.keyboard.press("Enter")
    done(page)
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.textContent") == "You"
    assert page.locator("#tip").is_visible()
    assert "␣" not in page.locator("#tip .name").first.inner_text()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.textContent") == "have"
    assert page.locator("#tip .name").all_inner_texts() == ["␣have", "yes", "␣have"]
    assert "The undefended model: yes." in page.evaluate("document.activeElement.ariaLabel")
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.textContent") == "it?"
    page.mouse.wheel(0, 40)
    assert page.locator("#tip").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()
    page.focus("#alpha")
    page.keyboard.press("ArrowLeft")
    page.focus("#again")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('.protected h3').textContent.includes('0.35')")
    done(page)
    assert quick[1].jobs[-1].prompting is not None or quick[1].jobs[-2].prompting is not None


def test_a_key_is_asked_for_where_the_server_wants_one(browser, quick):
    tab = browser.new_page()
    asked = []

    def guarded(route):
        key = route.request.headers.get("authorization")
        asked.append(key)
        if key == "Bearer right":
            route.continue_()
        else:
            route.fulfill(status=401, json={"error": {"message": "no valid API key"}})

    tab.route("**/playground/*", guarded)
    tab.goto(quick[0])
    for key in ("wrong", "right"):
        tab.wait_for_selector("#door:not([hidden])")
        tab.fill("#key", key)
        tab.press("#key", "Enter")
        if key == "wrong":
            until(tab, "document.querySelector('#refused').textContent !== ''")
    tab.wait_for_selector("#composer:not([hidden])")
    assert asked == [None, "Bearer wrong", "Bearer right"]
    assert tab.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") == 0
    tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 400])
def test_the_page_fits_and_stands_out(browser, quick, width, scheme):
    given = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
    for page in opened(browser, quick[0], **given):
        assert page.evaluate(LOW_CONTRAST) == []
        for text in (f"hostile 3 {'x' * 300}", "mend " * 40, "BAD idea"):
            send(page, text)
            done(page)
        page.locator(".token[role]").last.focus()
        assert page.evaluate(OVERFLOW) <= 0
        assert page.evaluate(LOW_CONTRAST) == []
        box = page.locator("#tip").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width


def test_to_others_than_the_operator_the_page_is_a_plain_chat(browser):
    with serving(Playground(False, SHOWN.prompting)) as (url, _):
        for page in opened(browser, url):
            send(page, "Mend it.")
            done(page)
            assert page.locator(".reply").count() == 1
            assert page.locator(".said").inner_text() == "You have said 1 things, the last one: Mend it."
            for hidden in ("#alpha", "#view", "#legend", "#examples"):
                assert page.locator(hidden).is_hidden()
            assert page.locator(".token[role], .ending .tag").count() == 0
