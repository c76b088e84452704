"""The page in a real browser: silent, still, and readable at any width."""

from __future__ import annotations

import pytest

from tests.report.browser import CHROMIUM, look
from tests.report.synthetic import HOSTILE, flip, results
from toxoid.report.html import render_html

pytestmark = pytest.mark.slow
pytest.importorskip("playwright", reason="playwright is not installed")
if CHROMIUM is None:
    pytest.skip("no Chromium on the path", allow_module_level=True)

OVERFLOW = "document.documentElement.scrollWidth - window.innerWidth"
STYLED = "getComputedStyle(document.body).fontFamily"
LOW_CONTRAST = """() => {
  const parse = c => c.match(/[\\d.]+/g).map(Number);
  const lum = c => { const [r, g, b] = c.slice(0, 3).map(v => { v /= 255;
    return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * r + .7152 * g + .0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; }
    return [255, 255, 255]; };
  return [...document.querySelectorAll('main *')].filter(e => !e.closest('svg') && e.checkVisibility() &&
    [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())).map(e => {
    const a = lum(parse(getComputedStyle(e).color)), b = lum(behind(e));
    return [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.className || e.tagName]; })
    .filter(([ratio]) => ratio < 4.5).map(String);
}"""
HIDDEN_FLIPS = """[...document.querySelectorAll('.flip pre')].filter(e => !e.checkVisibility()).length"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_html(results()), "utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 400])
def test_the_page_asks_for_nothing_complains_of_nothing_and_fits(page, width, scheme):
    seen = look(page, OVERFLOW, STYLED, width=width, scheme=scheme)
    assert seen.requests == [page.resolve().as_uri()]
    assert seen.complaints == []
    assert seen.values[0] <= 0
    assert "system-ui" in seen.values[1]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(page, scheme):
    assert look(page, LOW_CONTRAST, scheme=scheme).values == [[]]


def test_print_opens_what_is_closed_on_screen(page):
    assert look(page, HIDDEN_FLIPS).values[0] > 0
    assert look(page, HIDDEN_FLIPS, media="print").values == [0]


def test_a_picture_can_be_taken(page, tmp_path):
    look(page, picture=tmp_path / "report.png")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")


HOSTILE_PAGE = """() => {
  document.querySelectorAll('details').forEach(e => { e.open = true; });
  const shown = [...document.querySelectorAll('.flip pre')];
  return {
    tags: [...new Set([...document.querySelectorAll('main *')].map(e => e.localName))].filter(
      name => ['script', 'img', 'iframe', 'object', 'style', 'link', 'form', 'base'].includes(name)),
    handlers: [...document.querySelectorAll('*')].flatMap(
      e => [...e.attributes]).filter(a => a.name.startsWith('on')).length,
    hidden: shown.filter(e => !e.checkVisibility() || e.getBoundingClientRect().height < 1).length,
    unseen: shown.filter(e => /[\\u202a-\\u202e\\u2066-\\u2069\\u200b\\ufeff\\x1b\\x07]/.test(e.textContent)).length,
    overflow: document.documentElement.scrollWidth - window.innerWidth,
    shown: shown.length,
  };
}"""
SPOOF = "body{display:none}</style><style>*{position:fixed;color:#fff}</style>"


@pytest.mark.parametrize("line", [*HOSTILE, SPOOF, "<b onclick=alert(4)>" * 50_000, "\u202e" * 1_000_000])
def test_what_a_model_wrote_is_shown_and_not_obeyed(line, tmp_path):
    whole = results()
    whole["comparisons"][0] |= {"flips": [flip(line, index=0)], "flips_total": {"better": 1}}
    whole["systems"][0] |= {"label": line[:200], "description": line[:200]}
    page = tmp_path / "report.html"
    page.write_text(render_html(whole), "utf-8")
    seen = look(page, HOSTILE_PAGE, width=400)
    assert seen.requests == [page.resolve().as_uri()]
    assert seen.complaints == []
    found = seen.values[0]
    assert found.pop("shown") > 2
    assert found == {"tags": [], "handlers": 0, "hidden": 0, "unseen": 0, "overflow": 0}
