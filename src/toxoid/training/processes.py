"""The processes of a distributed launch, as ``torchrun`` and ``accelerate launch`` describe them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Value = TypeVar("Value")


def process_count() -> int:
    """Return how many processes train together; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_index() -> int:
    """Return which of them this one is, from 0, the main one."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Return whether this process is the one that writes and speaks."""
    return process_index() == 0


def connect(device: str) -> None:
    """Let the processes of a launch find each other, over gloo for CPUs and NCCL for GPUs; later calls do nothing.

    Args:
        device: The type of the devices, e.g. ``"cpu"``.
    """
    if process_count() > 1:
        from accelerate import PartialState  # type: ignore[import-untyped]

        PartialState(cpu=device == "cpu")


def wait_for_all() -> None:
    """Return when all processes have come here."""
    if process_count() > 1:
        from torch import distributed

        distributed.barrier()


def gathered(value: Value) -> list[Value]:
    """Return what each process gave, in their order."""
    if process_count() == 1:
        return [value]
    from torch import distributed

    found: list[Any] = [None] * process_count()
    distributed.all_gather_object(found, value)
    return found


@contextmanager
def main_first() -> Iterator[None]:
    """Run the block in the main process, then in the others."""
    if not is_main():
        wait_for_all()
    yield
    if is_main():
        wait_for_all()
