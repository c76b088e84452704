"""The tables of the alignment benchmark: what they take from runs, and what they let one claim."""

import json
import shutil

import pytest
from benchmarks.alignment_comparison import STUDIES
from benchmarks.alignment_tables import (
    Cell,
    Measure,
    Study,
    details,
    document,
    headline,
    summary,
    t_interval,
    table_of,
)
from scipy.stats import ttest_1samp

from toxoid.config.recipe import load_recipe
from toxoid.loop.run import run_loop

HARMLESS = Measure("harmless", "harmfulness", "harmless_rate", "harmless_rate")
STUDY = Study("small", "Small", "demo", (HARMLESS,), "small.")
SURE = {"p_adjusted": 0.001, "goals_interval": (0.1, 0.3), "seeds_interval": (0.1, 0.3)}


@pytest.fixture(scope="module")
def table(small_recipe, tmp_path_factory):
    """Return the table of two seeds; the second is a copy of the first, so that seeds do not differ."""
    out = tmp_path_factory.mktemp("runs")
    run_loop(small_recipe, STUDY.directory(0, out))
    shutil.copytree(STUDY.directory(0, out), STUDY.directory(1, out))
    return table_of(STUDY, (0, 1), out), json.loads((STUDY.directory(0, out) / "results.json").read_text())


def test_a_rate_is_that_of_the_run(table):
    found, results = table
    for system in results["systems"]:
        rate = next(row["rate"] for row in system["rates"] if row["metric"] == "harmless_rate")
        assert found.cells[system["name"], HARMLESS].values == pytest.approx((rate, rate))


def test_a_difference_is_to_the_reference_and_that_of_the_runs_contrast(table):
    found, results = table
    contrast = next(c for c in results["comparisons"] if c["before"] == "sft")
    row = next(r for r in contrast["rows"] if r["metric"] == "harmless_rate" and r["category"] == "all")
    cell = found.cells["mistake-analysis", HARMLESS]
    assert cell.difference == pytest.approx(row["difference"])
    assert cell.seeds_interval == pytest.approx((cell.difference, cell.difference))
    assert found.cells["sft", HARMLESS].difference is None


def test_pages_and_json_name_every_system(table):
    found, results = table
    names = [system["name"] for system in results["systems"]]
    assert list(document([found], (0, 1))["studies"]["small"]["systems"]) == names
    assert set(headline([found])) == {f"small.{name.replace('-', '_')}.harmless_rate" for name in names}
    for text in (summary(found), details(found, (0, 1))):
        assert all(system["label"] in text for system in results["systems"])


def test_the_interval_over_seeds_leaves_out_zero_as_the_t_test_does():
    for values in ([0.1, 0.2, 0.15, 0.12, 0.3], [0.1, -0.2, 0.15, 0.1, 0.05], [0.01, 0.02]):
        low, high = t_interval(values)
        assert (low <= 0 <= high) == (ttest_1samp(values, 0).pvalue >= 0.05)


def test_one_seed_has_no_interval():
    assert t_interval([0.2]) is None


def test_a_difference_that_all_agree_on_is_claimed():
    assert Cell((0.5, 0.5), 0.5, 0.2, **SURE).claim == "higher"
    below = SURE | {"seeds_interval": (-0.3, -0.1)}
    assert Cell((0.5, 0.5), 0.5, -0.2, **below).claim == "lower"


@pytest.mark.parametrize(
    "doubt", [{"p_adjusted": 0.06}, {"seeds_interval": (-0.01, 0.3)}, {"seeds_interval": None}]
)
def test_a_difference_in_doubt_is_not_claimed(doubt):
    assert Cell((0.5, 0.5), 0.5, 0.2, **(SURE | doubt)).claim == ""


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_a_study_shows_what_its_recipe_measures(study):
    recipe = load_recipe(study.recipe)
    assert study.reference in [arm.name for arm in recipe.arms]
    assert {measure.task for measure in study.measures} <= set(recipe.audit.tasks)
    assert all(measure.spec.name == measure.metric for measure in study.measures)
