"""Synthesis at scale: shards that are whole, a run that continues, a folder that explains itself."""

import json
import signal
from dataclasses import replace

import pytest
import yaml
from benchmarks.c2_syn_scale import PAIRS, StubEngine, child, made_up, read_back, synthesise

from tests.helpers.openai_server import OpenAIServer, error
from toxoid.config.recipe import load_recipe, with_overrides, without_arms
from toxoid.data.parquet import read_groups
from toxoid.data.request_set import RequestSet
from toxoid.data.schemas import Request
from toxoid.engines.base import Sampling
from toxoid.errors import UsageError
from toxoid.judges.panel import make_panel
from toxoid.loop import synth
from toxoid.loop.synth import write_shards
from toxoid.methods.course_correction.synthesis import SynthesisOptions
from toxoid.progress import SilentProgress

SHARD = 30


class Notes(SilentProgress):
    """Keeps what was said."""

    def __init__(self):
        self.said = []

    def note(self, text):
        self.said.append(text)


class Deaf(StubEngine):
    """Must not be asked anything."""

    def generate(self, requests, on_done=None):
        assert not requests
        return []


def write(folder, requests=None, *, engine=None, progress=None, **settings):
    given = {"options": SynthesisOptions(), "seed": 0, "shard": SHARD, "sampling": Sampling(), **settings}
    return write_shards(
        requests or made_up(70),
        folder,
        engine=engine or StubEngine(),
        panel=make_panel("refusal"),
        progress=progress or SilentProgress(),
        **given,
    )


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """70 requests in three shards."""
    place = tmp_path_factory.mktemp("synth") / "data"
    write(place, command="toxoid synth course-correction x")
    return place


def test_a_killed_synthesis_continues_to_the_same_files(tmp_path):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    assert child(killed, 200, SHARD, dies_after=390) == -signal.SIGKILL
    before = files(killed)
    assert 0 < len(before) < 14
    synthesise(killed, 200, SHARD)
    synthesise(whole, 200, SHARD)
    assert files(killed) == files(whole)
    assert before.items() <= files(whole).items()
    assert read_back(killed) == (200 * PAIRS, 200 * PAIRS)


def test_shards_hold_every_request_once(folder):
    assert list(files(folder)) == [
        f"{part}-0000{i}.parquet" for part in ("groups", "pairs") for i in range(3)
    ]
    assert [group.id for group in read_groups(folder)] == [f"made-up/{index}" for index in range(70)]


def test_shards_of_another_size_hold_the_same_groups(folder, tmp_path):
    write(tmp_path / "data", shard=7)
    assert list(read_groups(tmp_path / "data")) == list(read_groups(folder))


def test_a_finished_synthesis_asks_nothing_again(tmp_path):
    counts = write(tmp_path / "data")
    progress = Notes()
    assert write(tmp_path / "data", engine=Deaf(), progress=progress) == counts
    assert progress.said == ["3 of 3 shards are there already"]


def test_a_damaged_shard_is_told_and_made_again_from_the_records(tmp_path):
    write(tmp_path / "data")
    before, progress = files(tmp_path / "data"), Notes()
    (tmp_path / "data" / "pairs-00001.parquet").write_bytes(b"damaged")
    (tmp_path / "data" / ".pairs-00002.parquet.x.tmp").write_bytes(b"left by a kill")
    write(tmp_path / "data", engine=Deaf(), progress=progress)
    assert files(tmp_path / "data") == before
    assert "pairs-00001.parquet: changed or missing" in progress.said[0]
    assert not list((tmp_path / "data").glob(".*.tmp"))


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"shard": 31}, r"options\.shard: 30 -> 31"),
        ({"options": SynthesisOptions(tries=3)}, r"options\.tries: 2 -> 3"),
        ({"sampling": Sampling(max_tokens=9)}, r"sampling\.max_tokens: 128 -> 9"),
        ({"requests": made_up(71)}, r"data\.requests: 70 -> 71"),
    ],
)
def test_another_setup_is_refused_by_its_difference(folder, change, difference):
    with pytest.raises(UsageError, match=difference):
        write(folder, **change)


def test_the_card_and_the_summary_say_what_was_made(folder):
    card = (folder / "README.md").read_text("utf-8")
    header = yaml.safe_load(card.split("---")[1])
    assert header["license"] == "cc0-1.0"
    assert header["configs"][0] == {"config_name": "pairs", "data_files": "pairs-*.parquet", "default": True}
    assert "| pairs | 1050 |" in card
    assert "toxoid synth course-correction x" in card
    summary = json.loads((folder / "synthesis.json").read_text("utf-8"))
    assert summary["counts"]["pairs"] == 1050
    assert summary["fingerprint"]["model"] == StubEngine().identity()
    assert set(summary["files"]) == set(files(folder))


def test_other_libraries_load_the_folder(folder, tmp_path):
    datasets = pytest.importorskip("datasets")
    pairs = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path))
    assert len(pairs) == 1050
    assert pairs[0]["chosen"][0]["role"] == "assistant"
    assert len(datasets.load_dataset(str(folder), "groups", split="train", cache_dir=str(tmp_path))) == 70


def test_all_requests_together_choose_the_wording(tmp_path):
    (other,) = made_up(1)
    mixed = RequestSet((replace(other, id="lab-x/0"), replace(other, id="other/0")), "mixed", "0" * 64)
    write(tmp_path / "data", mixed, shard=1)
    assert {group.metadata["wording"] for group in read_groups(tmp_path / "data")} == {"english"}


def test_requests_without_replies_are_refused_before_anything_is_made(tmp_path):
    bare = RequestSet((Request("a/0", "How?"), Request("a/1", "How?", target="Sure, here")), "bare", "0" * 64)
    with pytest.raises(UsageError, match="bare: none of 2 requests has a full harmful reply"):
        write(tmp_path / "data", bare)
    assert not (tmp_path / "data").exists()


def test_a_synthesis_without_a_group_ends_with_the_reasons(tmp_path):
    plain = Request("a/0", "How?", target="word " * 30)
    with pytest.raises(UsageError, match=r"no group could be made .*4 truncations dropped missing"):
        write(tmp_path / "data", RequestSet((plain,), "plain", "0" * 64))


def test_a_server_that_cannot_continue_a_turn_is_refused(tmp_path):
    def refuses(request):
        return error(400, "continue_final_message is not supported")

    with OpenAIServer(default=refuses) as server:
        settings = {"model.endpoint": server.url, "data.limit": 2}
        recipe = with_overrides(without_arms(load_recipe("audit")), settings)
        with pytest.raises(UsageError, match="continue_final_message"):
            synth.synthesise(recipe, tmp_path / "data", options=SynthesisOptions())
