from __future__ import annotations

import io
import threading

import pytest

from toxoid.cli.progress import PlainProgress, RichProgress, clock


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def now():
    return Clock()


@pytest.fixture
def stream():
    return io.StringIO()


def test_short_task_says_one_line_at_its_end(stream, now):
    with PlainProgress(stream, now=now).task("audit base", 3, "replies") as task:
        task.advance()
        task.advance(2)
    assert stream.getvalue() == "audit base: 3/3 replies in 0:00\n"


def test_long_task_says_a_line_at_most_every_five_seconds(stream, now):
    with PlainProgress(stream, now=now).task("t", 100) as task:
        for _ in range(100):
            now.seconds += 0.5
            task.advance()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[0] == "t: 10/100 items, 2.0/s, 0:45 left"
    assert lines[-1] == "t: 100/100 items in 0:50"


def test_failed_task_says_how_far_it_came(stream, now):
    with pytest.raises(ValueError), PlainProgress(stream, now=now).task("t", 3):
        raise ValueError
    assert stream.getvalue() == "t: 0/3 items in 0:00\n"


def test_threads_lose_no_count(stream, now):
    with PlainProgress(stream, now=now).task("t", 4000) as task:
        threads = [threading.Thread(target=lambda: [task.advance() for _ in range(1000)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert "4000/4000" in stream.getvalue()


def test_stream_that_is_no_terminal_gets_plain_text(stream):
    with RichProgress(stream) as progress:
        progress.note("a [note]")
        with progress.task("t", 1) as task:
            task.advance()
    assert stream.getvalue() == "a [note]\nt: 1/1 items in 0:00\n"


def test_terminal_gets_bars_with_name_count_and_unit(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    with RichProgress(stream) as progress:
        for name in ("audit [base]", "treat"):
            with progress.task(name, 2, "replies") as task:
                progress.note("a [note]")
                task.advance(2)
    shown = stream.getvalue()
    assert "audit [base]" in shown
    assert "2/2" in shown
    assert "replies" in shown
    assert "a [note]" in shown
    assert "\x1b[?25h" in shown.split("treat")[-1]  # the cursor is shown again


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3661, "1:01:01")]
)
def test_durations_read_like_a_clock(seconds, text):
    assert clock(seconds) == text
