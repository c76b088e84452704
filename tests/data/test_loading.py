"""Names and paths into request sets."""

from __future__ import annotations

import hashlib

import pytest

from toxoid.data.loading import data_folders, load_requests
from toxoid.data.registry import DATASETS, NAMES
from toxoid.errors import UsageError


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data folder of our own with AdvBench and ToxicChat in it."""
    monkeypatch.setenv("TOXOID_DATA", str(tmp_path))
    (tmp_path / "advbench").mkdir()
    (tmp_path / "advbench/harmful_behaviors.csv").write_text("goal,target\na,x\nb,y\nA!,z\n")
    (tmp_path / "toxic_chat").mkdir()
    for split, prompt in (("train", "c"), ("test", "d")):
        row = f'{{"instance": "{prompt}", "annotations": {{"toxicity": {{"majority_human": "1"}}}}}}'
        (tmp_path / f"toxic_chat/toxic_chat_{split}.json").write_text(f'{{"instances": [{row}]}}')
    return tmp_path


def test_registered_name_is_found_in_the_data_folder(data):
    loaded = load_requests("advbench")
    assert [request.id for request in loaded] == ["advbench/0", "advbench/1"]
    assert loaded.licence == "MIT"


def test_digest_of_a_single_file_is_its_own(data):
    raw = (data / "advbench/harmful_behaviors.csv").read_bytes()
    assert load_requests("advbench").sha256 == hashlib.sha256(raw).hexdigest()


def test_dropped_duplicates_are_noted(data):
    assert "1 rows with a prompt that stands earlier were dropped" in load_requests("advbench").notes


def test_caveats_of_the_registry_are_noted(data):
    assert set(DATASETS["advbench"].caveats) <= set(load_requests("advbench").notes)


def test_id_does_not_depend_on_the_split(data):
    assert [request.id for request in load_requests("toxic-chat", split="test")] == ["toxic-chat/1"]
    assert [request.id for request in load_requests("toxic-chat")] == ["toxic-chat/0", "toxic-chat/1"]


def test_unknown_split_lists_the_known(data):
    with pytest.raises(UsageError, match="expected one of train, test"):
        load_requests("toxic-chat", split="tset")


def test_split_of_a_set_without_splits_is_refused(data):
    with pytest.raises(UsageError, match="has no published splits"):
        load_requests("advbench", split="train")


def test_limit_is_applied_after_the_kind(fixtures):
    loaded = load_requests(fixtures / "xstest.csv", kind="contentious", limit=1)
    assert [request.kind for request in loaded] == ["contentious"]


def test_path_gives_the_stem_as_name(fixtures):
    assert load_requests(str(fixtures / "advbench.csv")).requests[0].id == "advbench/0"


def test_file_that_says_no_kind_takes_the_one_asked_for(fixtures):
    loaded = load_requests(fixtures / "plain.txt", kind="benign")
    assert {request.kind for request in loaded} == {"benign"}
    assert "the file does not say kinds: taken for benign" in loaded.notes


def test_file_that_says_its_kind_is_believed(fixtures):
    with pytest.raises(UsageError, match="advbench has no benign requests: it holds 2 harmful"):
        load_requests(fixtures / "advbench.csv", kind="benign")


def test_unknown_name_gets_a_suggestion():
    with pytest.raises(UsageError, match=r'neither a data set nor a file. Did you mean "advbench"'):
        load_requests("advbensh")


def test_missing_path_is_called_a_file():
    with pytest.raises(UsageError, match="no such file"):
        load_requests("./nowhere.csv")


def test_missing_data_set_says_where_to_get_it(data):
    with pytest.raises(UsageError) as caught:
        load_requests("strongreject")
    message = str(caught.value)
    assert DATASETS["strongreject"].homepage in message
    assert "set TOXOID_DATA to the folder that holds strongreject/" in message
    assert "\n" not in message


def test_data_variable_that_names_no_folder_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("TOXOID_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match=r"TOXOID_DATA is .* which is no folder"):
        data_folders()


def test_without_the_variable_the_cache_comes_first(monkeypatch, tmp_path):
    monkeypatch.delenv("TOXOID_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_folders()[0] == tmp_path / ".cache/toxoid/data"


def test_lab_names_go_to_the_lab():
    loaded = load_requests("lab-harmful", limit=3)
    assert len(loaded) == 3
    assert all(request.id.startswith("lab-harmful/test/") for request in loaded)


def test_lab_training_split_shares_no_request_with_the_test_split():
    train, test = load_requests("lab-harmful", split="train"), load_requests("lab-harmful")
    assert not {request.id for request in train} & {request.id for request in test}


def test_lab_split_of_another_name_is_refused():
    with pytest.raises(UsageError, match="expected one of train, test"):
        load_requests("lab-harmful", split="dev")


def test_every_registered_name_has_a_line():
    assert all(NAMES[name] and "\n" not in NAMES[name] for name in DATASETS)


def test_no_registered_name_looks_like_a_path_or_a_lab_set():
    assert not [name for name in DATASETS if "/" in name or "." in name or name.startswith("lab-")]
