"""The public names: which there are, that type checkers see them, and that what they promise holds."""

from __future__ import annotations

import ast
import pkgutil
from importlib import import_module
from pathlib import Path

import pytest

import toxoid
from toxoid.config.shortcuts import _PLACES, Settings

FROZEN = [
    "Aspect",
    "Attack",
    "AttackedPrompt",
    "Completion",
    "Conversation",
    "Engine",
    "Exchange",
    "GenerationRequest",
    "Judge",
    "Message",
    "Outcome",
    "Recipe",
    "Request",
    "RequestSet",
    "Results",
    "RichProgress",
    "Sampling",
    "ToxoidError",
    "Treated",
    "UsageError",
    "Verdict",
    "__version__",
    "align_model",
    "audit_model",
    "available",
    "compare_runs",
    "judge_texts",
    "load_engine",
    "load_judges",
    "load_recipe",
    "load_requests",
    "make_attack",
    "only_arms",
    "read_results",
    "register",
    "render_summary",
    "run_recipe",
    "shield_model",
    "user",
    "with_overrides",
]
"""Names that users rely on: add to them, and remove none without a new major version."""
SMALL = {"audit.sampling.max_tokens": 32, "statistics.resamples": 100}


def seen_by_type_checkers():
    """Return name -> module of the imports for type checkers."""
    tree = ast.parse(Path(toxoid.__file__).read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.asname: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }


def test_names_are_the_frozen_ones():
    assert sorted(toxoid.__all__) == sorted(FROZEN)


def test_type_checkers_see_the_same_names():
    assert seen_by_type_checkers() == toxoid._EXPORTS


@pytest.mark.parametrize("name", FROZEN)
def test_each_name_is_there_and_documented(name):
    found = getattr(toxoid, name)
    assert name in dir(toxoid)
    if callable(found) and hasattr(found, "__module__") and found.__module__.startswith("toxoid."):
        assert found.__doc__
        assert found.__module__ == toxoid._EXPORTS[name]


def test_no_name_is_a_module_of_the_package():
    modules = {module.name for module in pkgutil.iter_modules(toxoid.__path__)}
    assert modules.isdisjoint(toxoid.__all__)  # importing such a module would put it in the name's place


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'audit_modle'"):
        _ = toxoid.audit_modle


def test_every_setting_has_its_place_in_a_recipe():
    assert Settings.__optional_keys__ == set(_PLACES)


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api") / "run"
    return folder, toxoid.audit_model(
        "lab-base", folder, tasks=["harmfulness"], limit=4, samples=1, overrides=SMALL
    )


def test_audit_writes_results_and_report(audited):
    folder, results = audited
    assert results["systems"][0]["rates"][0]["n_items"] == 4
    assert (folder / "report.html").is_file()
    assert "Harmless rate" in toxoid.render_summary(results)


def test_results_are_read_back_with_their_circumstances(audited):
    folder, results = audited
    found = toxoid.read_results(folder)
    assert found["systems"][0]["rates"] == results["systems"][0]["rates"]
    assert found["meta"]["created"]


def test_audit_of_the_command_line_is_the_same(audited, tmp_path):
    from toxoid.cli import main

    sets = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    arguments = ["audit", "lab-base", "--task", "harmfulness", "--limit", "4", "--samples", "1", *sets]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run/results.json").read_bytes() == (audited[0] / "results.json").read_bytes()


def test_recipe_and_suite_exclude_each_other(tmp_path):
    recipe = toxoid.load_recipe("demo")
    with pytest.raises(toxoid.UsageError, match=r"--suite quick .* --recipe demo another"):
        toxoid.audit_model("lab-base", tmp_path, suite="quick", recipe=recipe)


def test_misspelt_setting_is_told(tmp_path):
    with pytest.raises(toxoid.UsageError, match=r'"benigne" is no setting. Did you mean "benign"\?'):
        toxoid.align_model("lab-base", tmp_path, benigne="alpaca")


def test_engines_differ_as_asked():
    plain, guided, contrast = (
        toxoid.load_engine("lab-base"),
        toxoid.load_engine("lab-base", guided=True),
        toxoid.load_engine("lab-base", decoding={"positive": "safe", "negative": "opposite", "alpha": 0.3}),
    )
    question = toxoid.GenerationRequest(
        toxoid.user("How do I mend the thornbridge?"), sampling=toxoid.Sampling(max_tokens=8), n=2
    )
    assert len({str(engine.identity()) for engine in (plain, guided, contrast)}) == 3
    assert [len(engine.generate([question])[0]) for engine in (plain, guided, contrast)] == [2, 2, 2]


def test_wrong_decoding_is_one_line():
    with pytest.raises(toxoid.UsageError, match=r"load_engine: .*alhpa.*alpha"):
        toxoid.load_engine("lab-base", decoding={"alhpa": 0.3})


def test_texts_are_judged_in_order():
    judges = toxoid.load_judges("refusal")
    replies = ["I'm sorry, but I can't help with that.", "Turn the key to the left."]
    found = toxoid.judge_texts(judges, "refusal", ["How?", "How?"], replies)
    assert [verdict.outcome for verdict in found] == [toxoid.Outcome.HIT, toxoid.Outcome.MISS]
    assert toxoid.judge_texts(judges, "refusal", [], []) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("problematic", ["a"]), 'no judge answers "problematic": these answer convicts, corrected'),
        (("refusal", ["a"]), "is asked of replies"),
        (("refusal", ["a", "b"], ["c"]), "2 prompts and 1 replies"),
    ],
)
def test_texts_that_cannot_be_judged_are_told(arguments, message):
    with pytest.raises(toxoid.UsageError, match=message):
        toxoid.judge_texts(toxoid.load_judges("refusal"), *arguments)


def test_unknown_kind_is_told():
    with pytest.raises(toxoid.UsageError, match=r'Did you mean "recipes"\?'):
        toxoid.available("recipe")


@pytest.mark.parametrize("module", sorted(set(toxoid._EXPORTS.values())))
def test_modules_of_public_names_can_be_imported(module):
    import_module(module)
