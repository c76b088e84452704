"""The registered public sets, where they are at hand: they load, with counts near those published."""

from __future__ import annotations

import pytest

from toxoid.data.loading import load_requests, overlap
from toxoid.data.registry import DATASETS

pytestmark = pytest.mark.data

# name -> (fewest, most) requests after duplicates; copies differ by the rows their keepers left out
COUNTS = {
    "advbench": (500, 520),
    "jailbreakbench": (90, 100),
    "strongreject": (295, 313),
    "malicious-instruct": (95, 100),
    "simple-safety-tests": (80, 100),
    "do-not-answer": (900, 939),
    "harmfulqa": (1850, 1960),
    "dangerousqa": (190, 200),
    "xstest": (440, 450),
    "alpaca": (4900, 5000),
    "pku-saferlhf": (850, 5200),
    "pku-saferlhf-sft": (3000, 5200),
    "c2-eval": (440, 500),
    "safety-tuned-llamas": (2400, 2500),
    "i-alpaca": (50, 50),
    "i-cona": (170, 178),
    "i-controversial": (38, 40),
    "i-malicious-instructions": (95, 100),
    "i-physical-safety": (190, 200),
    "q-harm": (95, 100),
    "hh-rlhf": (2000, 2312),
    "toxic-chat": (5000, 5654),
    "gptfuzz": (95, 100),
    "mt-bench": (80, 80),
    "vicuna-bench": (80, 80),
    "gsm8k": (1300, 1319),
}


def test_every_registered_set_has_expected_counts():
    assert COUNTS.keys() == DATASETS.keys()


@pytest.mark.parametrize("name", DATASETS)
def test_registered_set_loads_with_a_plausible_count(public_data, name):
    fewest, most = COUNTS[name]
    assert fewest <= len(load_requests(name)) <= most


@pytest.mark.parametrize("name", ["advbench", "jailbreakbench", "pku-saferlhf", "c2-eval"])
def test_sets_for_prefills_have_a_target_in_every_row(public_data, name):
    assert all(request.target for request in load_requests(name))


@pytest.mark.parametrize("name", ["safety-tuned-llamas", "pku-saferlhf-sft", "gsm8k"])
def test_sets_for_training_have_a_reference_in_every_row(public_data, name):
    assert all(request.reference for request in load_requests(name))


@pytest.mark.parametrize("name", ["jailbreakbench", "strongreject", "harmfulqa", "do-not-answer", "xstest"])
def test_sets_with_categories_keep_them(public_data, name):
    categories = {request.category for request in load_requests(name)}
    assert len(categories) >= 5
    assert "all" not in categories


def test_xstest_safe_half_is_contentious(public_data):
    assert 245 <= len(load_requests("xstest", kind="contentious")) <= 250


def test_known_overlaps_are_found(public_data):
    assert overlap(load_requests("c2-eval"), load_requests("pku-saferlhf-sft")) >= 40
    assert overlap(load_requests("strongreject"), load_requests("advbench")) >= 10
