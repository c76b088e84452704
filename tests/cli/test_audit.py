"""``toxoid audit``: suites, previews and caps as a person meets them."""

import pytest

from toxoid.cli.app import run_app

SMALL = ["--limit", "2", "--samples", "1", "--max-tokens", "8"]


def test_a_dry_run_tells_the_cost_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_app(["audit", "--suite", "quick", "--dry-run", *SMALL]) == 0
    said = capsys.readouterr().out
    assert "requests: 12 replies to 12 questions" in said
    assert "smallest change that would be seen" in said
    assert list(tmp_path.iterdir()) == []


def test_a_suite_and_a_recipe_exclude_each_other(capsys):
    assert run_app(["audit", "--suite", "quick", "--recipe", "demo"]) == 2
    assert "give one of them" in capsys.readouterr().err


def test_an_unknown_suite_is_refused_with_the_known_ones(capsys):
    assert run_app(["audit", "--suite", "huge"]) == 2
    assert "standard" in capsys.readouterr().err


@pytest.mark.parametrize("cap", ["--max-requests", "--max-total-tokens"])
def test_a_cap_below_the_plan_stops_the_run_before_it_begins(cap, tmp_path, capsys):
    assert run_app(["audit", "--suite", "quick", *SMALL, cap, "3", "--out", str(tmp_path / "run")]) == 2
    assert cap in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_one_price_alone_is_refused(capsys):
    assert run_app(["audit", "--suite", "quick", "--dry-run", *SMALL, "--price-in", "1"]) == 2
    assert "price_out" in capsys.readouterr().err


def test_a_comparison_writes_its_page(tmp_path, capsys):
    for name, model in (("a", "lab-base"), ("b", "lab-uncensored")):
        assert run_app(["audit", model, "--suite", "quick", *SMALL, "--out", str(tmp_path / name)]) == 0
    page = tmp_path / "page.html"
    assert run_app(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(page)]) == 0
    assert "Is the trade significant" in page.read_text("utf-8")
    assert "page:" in capsys.readouterr().out
