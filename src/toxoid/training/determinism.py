"""Random state and threads of a training, kept apart from the caller's."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(seed: int, threads: int | None = None) -> Iterator[None]:
    """Seed python, numpy and torch for a block and give the caller's states back after it.

    Args:
        seed: Any non-negative integer.
        threads: Torch threads within the block; ``None`` leaves them.
    """
    python_state, numpy_state, before = random.getstate(), np.random.get_state(), torch.get_num_threads()
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices=devices):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        torch.set_num_threads(threads or before)
        try:
            yield
        finally:
            torch.set_num_threads(before)
            random.setstate(python_state)
            np.random.set_state(numpy_state)
