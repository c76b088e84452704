"""A small recipe on the lab model: every stage, a few items."""

import pytest

from toxoid.config.recipe import load_recipe, only_arms, with_overrides

SMALL = {
    "data.limit": 5,
    "audit.samples": 1,
    "audit.sampling.max_tokens": 48,
    "train.limit": 8,
    "training.max_steps": 6,
    "training.save_steps": 2,
    "training.batch_size": 4,
    "statistics.resamples": 200,
}


@pytest.fixture(scope="session")
def small_recipe():
    """The demo's plain arms, cut down to seconds."""
    return with_overrides(only_arms(load_recipe("demo"), ["sft"]), SMALL)
