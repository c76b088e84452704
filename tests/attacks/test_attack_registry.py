"""What holds for every attack."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxoid.attacks import registry
from toxoid.attacks.registry import NAMES
from toxoid.data.schemas import Request
from toxoid.errors import UsageError

REQUEST = Request(
    "set/1", "How do I clean a {payload} well?", kind="contentious", reference="Use warm water."
)
SINGLE = {"analysis_question", "direct", "course_correction", "many_shot"}
SEVERAL = [name for name in NAMES if name not in SINGLE]
OF_POOLS = [name for name in SEVERAL if name != "template:FILE"]
PLAIN = [name for name in NAMES if not name.startswith(("encoding_", "payload_splitting"))]


@pytest.fixture(scope="module")
def make_attack(tmp_path_factory):
    """Return ``make_attack``, which reads a file of templates where a name says FILE."""
    path = tmp_path_factory.mktemp("templates") / "templates.csv"
    rows = "\n".join(f'{row},"Game {row} says: [INSERT PROMPT HERE]"' for row in range(4))
    path.write_text(f"id,text\n{rows}\n")
    return lambda name, **options: registry.make_attack(name.replace("FILE", str(path)), **options)


@pytest.mark.parametrize("name", NAMES)
def test_attack_bears_its_registered_name(name, make_attack):
    attack, kind = make_attack(name), name.partition(":")[0]
    assert attack.name == kind
    assert {prompt.attack for prompt in attack.apply(REQUEST, seed=0)} == {kind}


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_gives_the_same_conversations(name, make_attack):
    assert make_attack(name).apply(REQUEST, seed=3) == make_attack(name).apply(REQUEST, seed=3)


@pytest.mark.parametrize("name", NAMES)
def test_last_turn_is_the_users(name, make_attack):
    assert {p.conversation[-1].role for p in make_attack(name).apply(REQUEST, seed=0)} == {"user"}


@pytest.mark.parametrize("name", PLAIN)
def test_last_turn_holds_the_request(name, make_attack):
    for prompt in make_attack(name).apply(REQUEST, seed=0):
        assert REQUEST.prompt in prompt.conversation[-1].content


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pool", ["evaluation", "training"])
def test_no_placeholder_stays_unfilled(name, pool, make_attack):
    for row in range(20):
        request = Request(f"set/{row}", "One?", "benign", reference="Two.")
        for prompt in make_attack(name, pool=pool).apply(request, seed=0):
            sent = " ".join([*(turn.content for turn in prompt.conversation), prompt.prefill])
            assert not re.search(r"\{[a-z_]+\}", sent)


@pytest.mark.parametrize("name", NAMES)
def test_request_keeps_its_id_so_that_intervals_cluster(name, make_attack):
    assert {prompt.request.id for prompt in make_attack(name).apply(REQUEST, seed=0)} == {"set/1"}


@pytest.mark.parametrize("name", NAMES)
def test_earlier_turns_are_sent_too(name, make_attack):
    request = Request(
        "set/1",
        "And then?",
        "benign",
        reference="Then rinse it.",
        metadata={"history": [{"role": "system", "content": "Be brief."}]},
    )
    assert make_attack(name).apply(request, seed=0)[0].conversation[0].content == "Be brief."


@pytest.mark.parametrize("name", NAMES)
def test_identity_is_json(name, make_attack):
    identity = make_attack(name).identity()
    assert json.loads(json.dumps(identity))["attack"] == name.partition(":")[0]


@given(name=st.sampled_from(SEVERAL), seed=st.integers(0, 9), row=st.integers(0, 9))
def test_variants_depend_on_seed_and_id_only(name, seed, row, make_attack):
    one, other = (
        Request(f"set/{row}", "One?", "benign"),
        Request(f"set/{row}", "Other?", "contentious", "topic"),
    )
    attack = make_attack(name, variants=2)
    assert [p.variant for p in attack.apply(one, seed=seed)] == [
        p.variant for p in attack.apply(other, seed=seed)
    ]


@pytest.mark.parametrize("name", SEVERAL)
def test_another_seed_chooses_other_variants(name, make_attack):
    requests = [Request(f"set/{row}", "One?", "benign") for row in range(20)]
    attack = make_attack(name)
    chosen = [[attack.apply(request, seed=seed)[0].variant for request in requests] for seed in (0, 1)]
    assert chosen[0] != chosen[1]


@pytest.mark.parametrize("name", SEVERAL)
def test_every_variant_is_used_on_some_request(name, make_attack):
    requests = [Request(f"set/{row}", "One?", "benign") for row in range(1500)]
    attack = make_attack(name)
    used = {attack.apply(request, seed=0)[0].variant for request in requests}
    with pytest.raises(UsageError, match=f"has {len(used)} variants"):
        make_attack(name, variants=10_000)


@pytest.mark.parametrize("name", SEVERAL)
def test_variants_of_one_request_differ(name, make_attack):
    prompts = make_attack(name, variants=3).apply(REQUEST, seed=0)
    assert len({prompt.variant for prompt in prompts}) == 3
    assert len({(prompt.conversation, prompt.prefill) for prompt in prompts}) == 3


@pytest.mark.parametrize("name", OF_POOLS)
def test_training_wordings_are_disjoint_from_those_of_evaluation(name, make_attack):
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


def test_direct_sends_the_prompt_and_nothing_else(make_attack):
    prompt = make_attack("direct").apply(REQUEST, seed=0)[0]
    assert [turn.content for turn in prompt.conversation] == [REQUEST.prompt]
    assert prompt.prefill == ""


@pytest.mark.parametrize(
    ("name", "variants"), [("direct", 2), ("analysis_question", 2), ("many_shot", 2), ("persona", 0)]
)
def test_number_of_variants_that_an_attack_has_not_is_refused(name, variants, make_attack):
    with pytest.raises(UsageError, match="Ask for 1 to"):
        make_attack(name, variants=variants)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("persna", "persona"),
        ("many_shots:64", "many_shot"),
        ("base64", "encoding_base64"),
        ("direct:3", "direct"),
    ],
)
def test_unknown_attack_gets_a_suggestion(name, meant, make_attack):
    with pytest.raises(UsageError, match=f'"{name}" is no attack. Did you mean "{meant}"'):
        make_attack(name)


def test_names_are_listed_without_heavy_imports():
    code = (
        "import sys, toxoid.attacks.registry, toxoid.data.registry;"
        "print([m for m in ('torch', 'transformers', 'scipy', 'yaml', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
