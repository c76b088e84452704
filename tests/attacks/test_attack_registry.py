"""What holds for every attack."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxoid.attacks.registry import NAMES, make_attack
from toxoid.data.schemas import Request
from toxoid.errors import UsageError

REQUEST = Request(
    "set/1", "How do I clean a {payload} well?", kind="contentious", reference="Use warm water."
)
SEVERAL = [name for name in NAMES if name not in ("analysis_question", "direct", "course_correction")]


@pytest.mark.parametrize("name", NAMES)
def test_attack_bears_its_registered_name(name):
    attack = make_attack(name)
    assert attack.name == name
    assert {prompt.attack for prompt in attack.apply(REQUEST, seed=0)} == {name}


@pytest.mark.parametrize("name", NAMES)
def test_last_turn_is_the_users_and_holds_the_request(name):
    for prompt in make_attack(name).apply(REQUEST, seed=0):
        assert prompt.conversation[-1].role == "user"
        assert REQUEST.prompt in prompt.conversation[-1].content


@pytest.mark.parametrize("name", NAMES)
def test_request_keeps_its_id_so_that_intervals_cluster(name):
    assert {prompt.request.id for prompt in make_attack(name).apply(REQUEST, seed=0)} == {"set/1"}


@pytest.mark.parametrize("name", NAMES)
def test_earlier_turns_are_sent_too(name):
    request = Request(
        "set/1",
        "And then?",
        "benign",
        reference="Then rinse it.",
        metadata={"history": [{"role": "system", "content": "Be brief."}]},
    )
    assert make_attack(name).apply(request, seed=0)[0].conversation[0].content == "Be brief."


@pytest.mark.parametrize("name", NAMES)
def test_identity_is_json(name):
    identity = make_attack(name).identity()
    assert json.loads(json.dumps(identity))["attack"] == name


@given(name=st.sampled_from(SEVERAL), seed=st.integers(0, 9), row=st.integers(0, 9))
def test_variants_depend_on_seed_and_id_only(name, seed, row):
    one, other = (
        Request(f"set/{row}", "One?", "benign"),
        Request(f"set/{row}", "Other?", "contentious", "topic"),
    )
    attack = make_attack(name, variants=2)
    assert [p.variant for p in attack.apply(one, seed=seed)] == [
        p.variant for p in attack.apply(other, seed=seed)
    ]


@pytest.mark.parametrize("name", SEVERAL)
def test_another_seed_chooses_other_variants(name):
    requests = [Request(f"set/{row}", "One?", "benign") for row in range(20)]
    attack = make_attack(name)
    chosen = [[attack.apply(request, seed=seed)[0].variant for request in requests] for seed in (0, 1)]
    assert chosen[0] != chosen[1]


@pytest.mark.parametrize("name", SEVERAL)
def test_every_variant_is_used_on_some_request(name):
    requests = [Request(f"set/{row}", "One?", "benign") for row in range(900)]
    attack = make_attack(name)
    used = {attack.apply(request, seed=0)[0].variant for request in requests}
    with pytest.raises(UsageError, match=f"has {len(used)} variants"):
        make_attack(name, variants=10_000)


@pytest.mark.parametrize("name", SEVERAL)
def test_variants_of_one_request_differ(name):
    prompts = make_attack(name, variants=3).apply(REQUEST, seed=0)
    assert len({prompt.variant for prompt in prompts}) == 3
    assert len({(prompt.conversation, prompt.prefill) for prompt in prompts}) == 3


@pytest.mark.parametrize("name", SEVERAL)
def test_training_wordings_are_disjoint_from_those_of_evaluation(name):
    requests = [Request(f"set/{row}", "One?", "benign") for row in range(300)]
    training, evaluation = (
        {
            (prompt.conversation, prompt.prefill)
            for request in requests
            for prompt in make_attack(name, pool=pool).apply(request, seed=0)
        }
        for pool in ("training", "evaluation")
    )
    assert not training & evaluation


def test_direct_sends_the_prompt_and_nothing_else():
    prompt = make_attack("direct").apply(REQUEST, seed=0)[0]
    assert [turn.content for turn in prompt.conversation] == [REQUEST.prompt]
    assert prompt.prefill == ""


@pytest.mark.parametrize(("name", "variants"), [("direct", 2), ("analysis_question", 2), ("persona", 0)])
def test_number_of_variants_that_an_attack_has_not_is_refused(name, variants):
    with pytest.raises(UsageError, match="Ask for 1 to"):
        make_attack(name, variants=variants)


def test_unknown_attack_gets_a_suggestion():
    with pytest.raises(UsageError, match=r'"persna" is no attack. Did you mean "persona"'):
        make_attack("persna")


def test_names_are_listed_without_heavy_imports():
    code = (
        "import sys, toxoid.attacks.registry, toxoid.data.registry;"
        "print([m for m in ('torch', 'transformers', 'scipy', 'yaml', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
