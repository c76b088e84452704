"""Opens a report in a real browser: takes its picture, and notes what it asks for or complains about.

``python -m tests.report.browser report.html report.png`` makes the picture of the docs. It needs playwright and a
Chromium on the path, which toxoid itself does not.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@dataclass
class Seen:
    """What a browser saw of a page."""

    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    values: list[object] = field(default_factory=list)


def look(
    page: Path,
    *scripts: str,
    picture: Path | None = None,
    width: int = 1200,
    height: int = 1100,
    scheme: str = "light",
    media: str = "screen",
) -> Seen:
    """Open ``page`` from disk, evaluate ``scripts`` from outside, and keep a picture if asked for one."""
    from playwright.sync_api import sync_playwright

    seen = Seen()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        tab = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        tab.emulate_media(media=media, color_scheme=scheme)
        tab.on("request", lambda request: seen.requests.append(request.url))
        tab.on("console", lambda message: seen.complaints.append(message.text))
        tab.on("pageerror", lambda error: seen.complaints.append(str(error)))
        tab.goto(page.resolve().as_uri())
        seen.values = [tab.evaluate(script) for script in scripts]
        if picture:
            tab.screenshot(path=picture)
        browser.close()
    return seen


if __name__ == "__main__":
    look(Path(sys.argv[1]), picture=Path(sys.argv[2]))
