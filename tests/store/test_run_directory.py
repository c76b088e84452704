from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
import yaml

from toxoid import __version__
from toxoid.errors import UsageError
from toxoid.store.run_directory import RunDirectory

PRINT = {"model": {"sha256": "1a"}, "seed": 0}
RECIPE = {"name": "demo", "arms": [{"name": "sft"}]}


def start(path, **fingerprint):
    return RunDirectory.open(path, fingerprint={**PRINT, **fingerprint}, recipe=RECIPE, info={"host": "x"})


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture
def run(tmp_path):
    with start(tmp_path / "run") as opened:
        yield opened


def test_new_run_has_recipe_manifest_records_and_artifacts(tmp_path):
    start(tmp_path / "deep" / "run").close()
    folder = tmp_path / "deep" / "run"
    assert yaml.safe_load((folder / "recipe.yaml").read_text()) == RECIPE
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["fingerprint"] == PRINT
    assert (manifest["toxoid"], manifest["info"]) == (__version__, {"host": "x"})
    assert (folder / "artifacts").is_dir()
    assert (folder / "records.sqlite").is_file()


def test_same_fingerprint_continues_with_records_stages_and_first_manifest(tmp_path):
    with start(tmp_path / "run") as run:
        run.records.put_many([("k", "generation", 1)])
        run.mark_done("sft/train", {"steps": 3})
        first = run.manifest
    with start(tmp_path / "run") as run:
        assert run.records.get_many(["k"]) == {"k": 1}
        assert run.stage_payload("sft/train") == {"steps": 3}
        assert run.manifest == first


def test_other_fingerprint_is_refused_by_name_and_nothing_is_touched(tmp_path):
    start(tmp_path / "run").close()
    before = contents(tmp_path / "run")
    with pytest.raises(
        UsageError, match=r'seed: 0 -> 5; model\.sha256: "1a" -> "2b".*another directory, or delete'
    ):
        start(tmp_path / "run", model={"sha256": "2b"}, seed=5)
    before.pop("run.lock")
    after = contents(tmp_path / "run")
    after.pop("run.lock")
    assert after == before


def test_many_differences_are_counted(tmp_path):
    start(tmp_path / "run").close()
    with pytest.raises(UsageError, match="and 6 more"):
        start(tmp_path / "run", **{f"k{number}": number for number in range(10)})


def test_refused_start_lets_the_next_one_in(tmp_path):
    start(tmp_path / "run").close()
    with pytest.raises(UsageError):
        start(tmp_path / "run", seed=1)
    start(tmp_path / "run").close()


def test_foreign_files_are_named_and_untouched(tmp_path):
    (tmp_path / "thesis.tex").write_text("chapter")
    (tmp_path / "recipe.yaml").write_text("mine: true")
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=r"not a toxoid run \(recipe\.yaml, thesis\.tex\).*new directory"):
        start(tmp_path)
    assert contents(tmp_path) == before


def test_foreign_files_beside_a_lock_file_are_untouched_too(tmp_path):
    (tmp_path / "run.lock").touch()
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UsageError, match=r"thesis\.tex"):
        start(tmp_path)


def test_file_in_place_of_the_directory_is_refused(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(UsageError, match="this is a file"):
        start(tmp_path / "run")


def test_a_users_note_in_a_run_is_no_obstacle(tmp_path):
    start(tmp_path / "run").close()
    (tmp_path / "run" / "notes.txt").touch()
    start(tmp_path / "run").close()


@pytest.mark.parametrize("survivors", [[], ["recipe.yaml"], [".manifest.json.1-2.tmp", "records.sqlite"]])
def test_run_killed_before_its_manifest_starts_afresh(tmp_path, survivors):
    (tmp_path / "run.lock").touch()
    for name in survivors:
        (tmp_path / name).touch()
    start(tmp_path).close()
    assert not list(tmp_path.glob("*.tmp"))
    assert RunDirectory.read(tmp_path).fingerprint == PRINT


def test_damaged_manifest_is_told_and_kept(tmp_path):
    start(tmp_path / "run").close()
    (tmp_path / "run" / "manifest.json").write_text("{")
    with pytest.raises(UsageError, match=r"manifest\.json: damaged"):
        start(tmp_path / "run")


def test_manifest_of_a_newer_version_is_refused(tmp_path):
    start(tmp_path / "run").close()
    path = tmp_path / "run" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 9}))
    with pytest.raises(UsageError, match="newer toxoid"):
        start(tmp_path / "run")


def test_second_opening_is_refused_while_the_first_lives(run):
    with pytest.raises(UsageError, match=rf"run is in progress here \(process {os.getpid()}\)"):
        start(run.path)
    run.close()
    start(run.path).close()


HOLDER = """
import sys, time
from toxoid.store.run_directory import RunDirectory
run = RunDirectory.open(sys.argv[1], fingerprint={"model": {"sha256": "1a"}, "seed": 0}, recipe={})
with run.building("adapter", resumable=len(sys.argv) > 2) as folder:
    (folder / "checkpoint").write_text("half")
    print("ready", flush=True)
    time.sleep(600)
"""


def killed_while_building(path, *more):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, path, *more], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    with pytest.raises(UsageError, match=f"process {process.pid}"):
        start(path)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_killed_process_releases_the_lock_and_its_half_artefact_is_cleared(tmp_path):
    killed_while_building(str(tmp_path / "run"))
    with start(tmp_path / "run") as run:
        assert not run.artifact("adapter").exists()
        with run.building("adapter") as folder:
            assert list(folder.iterdir()) == []


def test_resumable_building_gets_back_what_a_killed_one_left(tmp_path):
    killed_while_building(str(tmp_path / "run"), "resumable")
    with start(tmp_path / "run") as run:
        with run.building("adapter", resumable=True) as folder:
            assert (folder / "checkpoint").read_text() == "half"
        assert (run.artifact("adapter") / "checkpoint").exists()
        assert not folder.exists()


def fail(run, name, *, error, **options):
    def build():
        with run.building(name, **options) as folder:
            folders.append(folder)
            (folder / "checkpoint").touch()
            raise error

    folders = []
    with pytest.raises(error):
        build()
    return folders[0]


def test_artefact_appears_only_when_the_block_succeeds(run):
    folder = fail(run, "arm/adapter", error=KeyboardInterrupt)
    assert not run.artifact("arm/adapter").exists()
    assert not folder.exists()


def test_failed_resumable_building_keeps_its_folder(run):
    folder = fail(run, "adapter", error=ValueError, resumable=True)
    assert (folder / "checkpoint").exists()


def test_rebuilding_replaces_the_artefact(run):
    for text in ("old", "new"):
        with run.building("adapter") as folder:
            (folder / "w").write_text(text)
    assert (run.artifact("adapter") / "w").read_text() == "new"
    assert [path.name for path in (run.path / "artifacts").iterdir()] == ["adapter"]


@pytest.mark.parametrize("name", ["", "..", "../x", "/x", "a//b", "a/../b", ".hidden", "x.building", "a b"])
def test_names_that_leave_the_directory_are_refused(run, name):
    with pytest.raises(ValueError, match="not a name"):
        run.artifact(name)
    with pytest.raises(ValueError, match="not a name"):
        run.mark_done(name)


def test_stage_is_done_after_it_is_marked_even_without_payload(run):
    assert not run.stage_done("train")
    run.mark_done("train")
    assert run.stage_done("train")
    assert run.stage_payload("train") == {}


def test_payload_of_a_stage_that_is_not_done_is_an_error(run):
    with pytest.raises(UsageError, match="missing"):
        run.stage_payload("train")


def test_reading_needs_no_lock_and_writes_nothing(run):
    run.records.put_many([("k", "generation", 1)])
    with RunDirectory.read(run.path) as reader:
        assert reader.recipe() == RECIPE
        assert reader.records.count() == 1
        with pytest.raises(RuntimeError, match="reading only"):
            reader.mark_done("x")
        with pytest.raises(RuntimeError, match="reading only"), reader.building("x"):
            pass


def test_reading_an_unfinished_run_says_how_to_finish_it(run):
    reader = RunDirectory.read(run.path)
    with pytest.raises(UsageError, match=r"not finished.*run the same command again"):
        reader.results()
    run.results_path.write_text('{"rows": []}')
    assert reader.results() == {"rows": []}


@pytest.mark.parametrize(("make", "message"), [(False, "no such run directory"), (True, "no manifest")])
def test_reading_what_is_no_run_is_one_line(tmp_path, make, message):
    if make:
        (tmp_path / "x").mkdir()
    with pytest.raises(UsageError, match=message):
        RunDirectory.read(tmp_path / "x")


def test_reading_a_damaged_recipe_or_result_is_one_line(run):
    (run.path / "recipe.yaml").write_text("a: [")
    run.results_path.write_text("[1]")
    reader = RunDirectory.read(run.path)
    with pytest.raises(UsageError, match=r"recipe\.yaml: damaged"):
        reader.recipe()
    with pytest.raises(UsageError, match="a JSON object was expected"):
        reader.results()
