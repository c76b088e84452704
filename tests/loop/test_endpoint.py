"""An endpoint is audited by the same items as a checkpoint, and treated by neither."""

import pytest

from tests.helpers.lab_server import answer
from tests.helpers.openai_server import OpenAIServer
from toxoid.config.recipe import with_overrides, without_arms
from toxoid.errors import UsageError
from toxoid.loop.run import align, run_loop


@pytest.fixture(scope="module")
def server():
    with OpenAIServer(default=answer()) as running:
        yield running


@pytest.fixture
def greedy(small_recipe):
    settings = {"audit.sampling.temperature": 0.0, "audit.sampling.max_tokens": 40}
    return with_overrides(without_arms(small_recipe), settings)


def test_greedy_audits_of_endpoint_and_checkpoint_agree(server, greedy, tmp_path):
    here = run_loop(greedy, tmp_path / "here")
    remote = with_overrides(greedy, {"model.endpoint": server.url})
    there = run_loop(remote, tmp_path / "there")
    assert there["systems"][0]["rates"] == here["systems"][0]["rates"]


def test_a_repeated_audit_asks_the_server_nothing(server, greedy, tmp_path):
    remote = with_overrides(greedy, {"model.endpoint": server.url, "audit.tasks": ["harmfulness"]})
    first = run_loop(remote, tmp_path / "run")
    asked = len(server.requests)
    assert run_loop(remote, tmp_path / "run") == first
    assert len(server.requests) == asked


def test_an_endpoints_weights_cannot_be_trained(server, small_recipe, tmp_path):
    with pytest.raises(UsageError, match="weights are elsewhere"):
        align(with_overrides(small_recipe, {"model.endpoint": server.url}), tmp_path / "run")
