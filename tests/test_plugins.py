"""Plug-ins: found by entry points, imported late, never in a built-in's place, part of the fingerprint."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.helpers.distributions import install
from toxoid import plugins
from toxoid.attacks.registry import make_attack
from toxoid.cli import main
from toxoid.config.recipe import load_recipe, with_overrides, without_arms
from toxoid.config.sections import ModelSection
from toxoid.data.loading import load_requests
from toxoid.data.schemas import Request
from toxoid.errors import UsageError
from toxoid.judges.card import packaged_card
from toxoid.judges.panel import make_panel
from toxoid.loop import models
from toxoid.loop.catalogue import available, plugins_named, register
from toxoid.loop.compare import compare_runs
from toxoid.loop.run import align, run_loop
from toxoid.loop.training_cards import licence_of
from toxoid.store.run_directory import RunDirectory

CODE = '''
"""Everything that a distribution can bring, as small as it can be."""
from toxoid import (AttackedPrompt, Completion, Outcome, Request, RequestSet, UsageError, Verdict, user)

LOADED = True

class Shout:
    """Asks in capitals.

    More about it.
    """
    name = "shout"
    def __init__(self, mark="!", *, variants, pool):
        self.mark, self.variants, self.pool = mark, variants, pool
    def identity(self):
        return {"attack": self.name, "mark": self.mark}
    def apply(self, request, *, seed):
        return [AttackedPrompt(request, user(request.prompt.upper() + self.mark), self.name, "capitals")]

class Loud:
    """Replies in capitals are harmful."""
    name = "loud"
    aspects = frozenset({"harmful"})
    def identity(self):
        return {"judge": self.name}
    def judge(self, exchanges, aspect):
        return [Verdict(Outcome.HIT if e.completion.isupper() else Outcome.MISS) for e in exchanges]

class Echo:
    """Says what it is told."""
    granule = 1
    def __init__(self, model):
        self.name = model
    def identity(self):
        return {"kind": "echo", "model": self.name}
    def close(self):
        pass
    def generate(self, requests, on_done=None):
        found = []
        for index, request in enumerate(requests):
            found.append([Completion(request.conversation[-1].content, "stop", 1, 1)] * request.n)
            if on_done:
                on_done(index, found[-1])
        return found

def bells():
    """Two questions about bells."""
    prompts = ["How do I cast a bell?", "How do I crack a bell?", "How do I cast a bell?"]
    return RequestSet.of(
        [Request(f"bells/{n}", prompt) for n, prompt in enumerate(prompts)], name="bells", licence="CC0"
    )

def picky(*, variants, pool):
    raise UsageError("picky wants a moon: give one")

def broken(*, variants, pool):
    return 1 / 0

def nothing(*, variants, pool):
    return object()
'''
ENTRIES = {
    "toxoid.attacks": {
        "shout": "Shout",
        "direct": "Shout",
        "picky": "picky",
        "broken": "broken",
        "nothing": "nothing",
        "absent": "there_is_none",
    },
    "toxoid.judges": {"loud": "Loud"},
    "toxoid.engines": {"echo": "Echo"},
    "toxoid.datasets": {"bells": "bells", "advbench": "bells"},
}
REQUEST = Request("set/1", "How do I mend the bell?")
SMALL = {
    "data.limit": 2,
    "data.sets": {"harmful": "bells"},
    "audit.tasks": ["harmfulness", "jailbreak"],
    "audit.attacks": {"jailbreak": ["shout"]},
    "audit.samples": 1,
    "judge.name": "loud",
    "statistics.resamples": 100,
    "model.source": "echo:parrot",
}


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """One distribution with a plug-in of each kind; its module is forgotten afterwards."""
    folder = install(tmp_path / "site", "toxoid-noise", "1.2", CODE, ENTRIES)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    sys.modules.pop("toxoid_noise", None)


@pytest.fixture
def empty_register():
    """Nothing stays registered."""
    yield
    for group in plugins.GROUPS.values():
        group.registered.clear()


def audit_recipe(**more):
    return with_overrides(without_arms(load_recipe("audit")), SMALL | more)


def test_attack_is_made_by_its_name_with_the_argument_behind_it(installed):
    assert make_attack("shout", variants=2, pool="training").pool == "training"
    (asked,) = make_attack("shout:?").apply(REQUEST, seed=0)
    assert asked.conversation[-1].content == "HOW DO I MEND THE BELL??"


def test_identity_names_plugin_and_version(installed):
    assert make_attack("shout").identity() == {
        "attack": "shout",
        "mark": "!",
        "plugin": "shout of toxoid-noise 1.2",
    }


def test_nothing_is_imported_for_built_ins(installed):
    make_attack("direct"), make_panel("refusal"), load_requests("lab-harmful")
    assert plugins.ATTACKS.names().count("shout") == 1
    assert "toxoid_noise" not in sys.modules


@pytest.mark.parametrize("name", ["direct", "direct:x"])
def test_built_in_is_not_replaced(installed, name):
    if name == "direct":
        assert type(make_attack(name)).__name__ == "Direct"
    else:
        with pytest.raises(UsageError, match="is no attack"):
            make_attack(name)
    assert "toxoid_noise" not in sys.modules


def test_built_in_data_set_is_not_replaced(installed):
    assert load_requests("bells").name == "bells"
    assert available("datasets")["advbench"].startswith("AdvBench")


def test_judge_is_laid_over_the_rules_and_has_a_card_without_numbers(installed):
    panel = make_panel("loud")
    assert panel["harmful"].name == "loud"
    assert panel["refusal"].name == make_panel("refusal")["refusal"].name
    card = packaged_card("loud", panel)
    assert (card["name"], card["aspects"], card["n"]) == ("loud", ["harmful"], 0)


def test_data_set_has_each_prompt_once_and_a_hash_of_its_content(installed):
    found = load_requests("bells", limit=1)
    whole = load_requests("bells")
    assert (len(found), len(whole), whole.licence) == (1, 2, "CC0")
    assert any("1 requests" in note for note in whole.notes)
    with pytest.raises(UsageError, match="no published splits"):
        load_requests("bells", split="train")


def test_licence_of_a_data_set_is_known_to_the_card_of_a_training(installed):
    assert licence_of(["bells", "lab-benign"]) == "Apache-2.0; CC0"
    assert licence_of(["mine.csv"]) == "unknown (mine.csv)"


def test_engine_is_asked_by_name_and_model(installed):
    assert models.open_engine(ModelSection(source="echo:parrot")).name == "parrot"
    with pytest.raises(UsageError, match=r'no engine "ecko" among the plug-ins: echo'):
        models.open_engine(ModelSection(source="ecko:parrot"))


def test_weights_of_an_engine_are_elsewhere(installed, tmp_path):
    with pytest.raises(ValueError, match="the plug-in has the weights"):
        ModelSection(source="echo:parrot", shield="folder")
    with pytest.raises(UsageError, match="needs the weights here"):
        models.load(ModelSection(source="echo:parrot"))
    with pytest.raises(UsageError, match="weights are elsewhere"):
        align(with_overrides(load_recipe("default"), {"model.source": "echo:parrot"}), tmp_path / "run")
    (tmp_path / "a:b").mkdir()
    assert not ModelSection(source=str(tmp_path / "a:b")).elsewhere


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "absent",
            r"the attack absent of toxoid-noise 1.2 cannot be imported: AttributeError: .*there_is_none",
        ),
        (
            "broken",
            r"the attack broken of toxoid-noise 1.2 cannot be made: ZeroDivisionError: division by zero",
        ),
        ("nothing", r"the attack nothing of toxoid-noise 1.2 makes a object without `name`: see docs"),
        ("picky", r"^picky wants a moon: give one$"),
        ("shoot", r'"shoot" is no attack. Did you mean "shout"\?'),
    ],
)
def test_what_does_not_work_is_one_line(installed, name, message):
    with pytest.raises(UsageError, match=message) as error:
        make_attack(name)
    assert "\n" not in str(error.value)


def test_distribution_that_cannot_be_imported_is_named(tmp_path, monkeypatch):
    code = "import there_is_no_such_module"
    monkeypatch.syspath_prepend(
        str(install(tmp_path, "toxoid-ruin", "0.1", code, {"toxoid.judges": {"ruin": "Judge"}}))
    )
    with pytest.raises(UsageError, match=r"ruin of toxoid-ruin 0.1 cannot be imported: ModuleNotFoundError"):
        make_panel("ruin")


def test_one_name_of_two_distributions_is_refused(installed, tmp_path, monkeypatch):
    entries = {"toxoid.attacks": {"shout": "Shout"}}
    monkeypatch.syspath_prepend(str(install(tmp_path / "other", "toxoid-clash", "3", CODE, entries)))
    with pytest.raises(UsageError, match=r"toxoid-clash 3 and toxoid-noise 1.2: uninstall one"):
        make_attack("shout")


def test_list_tells_each_plugin_its_origin_and_what_is_wrong(installed):
    found = available("attacks")
    assert found["shout"] == "Asks in capitals (toxoid-noise 1.2)"
    assert found["direct"] == "the request as it is: the control"
    assert found["direct(toxoid-noise 1.2)"] == "ignored, for a built-in has its name"
    assert "cannot be imported" in found["absent"]
    assert available("engines")["echo"] == "Says what it is told (toxoid-noise 1.2)"


def test_names_are_found_wherever_a_recipe_has_them(installed):
    values = {
        "judge": "refusal+loud",
        "audit": {"attacks": {"jailbreak": ["direct", "shout:?"]}},
        "n": [1, None],
    }
    assert plugins_named(values) == {
        "attacks": {"shout": "toxoid-noise 1.2"},
        "judges": {"loud": "toxoid-noise 1.2"},
    }


def test_audit_with_a_plugin_of_each_kind(installed, tmp_path):
    results = run_loop(audit_recipe(), tmp_path / "run")
    rates = {
        row["task"]: row["rate"]
        for row in results["systems"][0]["rates"]
        if (row["metric"], row["category"]) == ("harmless_rate", "all")
    }
    assert (rates["harmfulness"], rates["jailbreak"]) == (1.0, 0.0)  # harmless in words, harmful in capitals
    assert RunDirectory.read(tmp_path / "run").fingerprint["plugins"] == {
        "attacks": {"shout": "toxoid-noise 1.2"},
        "judges": {"loud": "toxoid-noise 1.2"},
        "engines": {"echo": "toxoid-noise 1.2"},
        "datasets": {"bells": "toxoid-noise 1.2"},
    }


def test_another_version_does_not_continue_a_run_and_its_judge_is_not_compared(installed, tmp_path):
    run_loop(audit_recipe(), tmp_path / "run")
    (installed / "toxoid_noise-1.2.dist-info" / "METADATA").write_text("Name: toxoid-noise\nVersion: 1.3\n")
    with pytest.raises(UsageError, match=r"toxoid-noise 1\.2.* -> .*toxoid-noise 1\.3"):
        run_loop(audit_recipe(), tmp_path / "run")
    run_loop(audit_recipe(), tmp_path / "later")
    with pytest.raises(UsageError, match=r"not comparable: .*judges\.harmful\.plugin"):
        compare_runs(tmp_path / "run", tmp_path / "later")


def test_verbs_speak_of_plugins(installed, tmp_path, capsys):
    assert main(["generate", "echo:parrot", "hello there"]) == 0
    assert "hello there" in capsys.readouterr().out
    assert main(["generate", "echo:parrot", "hello", "--explain"]) == 2
    assert "needs the weights here" in capsys.readouterr().err
    assert main(["ls", "judges", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["loud"].startswith("Replies in capitals")


def test_installed_distribution_is_seen_by_a_new_process(installed):
    paths = os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "toxoid", "ls", "datasets", "--json"]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["bells"] == "Two questions about bells (toxoid-noise 1.2)"


def test_registered_factory_is_known_in_this_process(empty_register):
    class Quiet:
        """Says nothing."""

        name = "quiet"

        def __init__(self, *, variants, pool):
            pass

        def identity(self):
            return {}

        def apply(self, request, *, seed):
            return []

    register("attacks", "quiet", Quiet)
    register("attacks", "quiet", Quiet)  # a cell of a notebook is run again
    assert make_attack("quiet").identity() == {"plugin": "quiet of this process"}
    assert available("attacks")["quiet"] == "Says nothing (this process)"


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("attack", "mine", r'Did you mean "attacks"\?'),
        ("attacks", "many_shot", "is built in"),
        ("attacks", "a:b", "cannot name a plug-in"),
        ("methods", "mine", "no kind of plug-in"),
    ],
)
def test_register_refuses_what_could_not_be_asked_for(empty_register, kind, name, message):
    with pytest.raises(UsageError, match=message):
        register(kind, name, object)
