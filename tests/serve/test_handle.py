"""Handles carry the events of one job from the backend's thread to a reader."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from threading import Thread
from time import sleep

from tests.serve.test_scheduler import collected, request, scheduler
from toxoid.serve.handle import Handle
from toxoid.serve.jobs import Failed, Finished, Job, Piece

EVENTS = [Piece(0, "one"), Finished(0, "stop", 3, 2), Piece(1, "two"), Finished(1, "length", 3, 4)]


def later(handle, events):
    def put():
        for event in events:
            sleep(0.002)
            handle.put(event)

    thread = Thread(target=put)
    thread.start()
    return thread


async def read(handle):
    return [event async for event in handle]


def test_a_reader_gets_all_events_in_order_and_the_iteration_ends():
    handle = Handle(2)
    thread = later(handle, EVENTS)
    assert list(handle) == EVENTS
    thread.join()
    assert handle.done
    assert not handle.cancelled


def test_a_reader_with_asyncio_gets_the_same():
    handle = Handle(2)
    thread = later(handle, EVENTS)
    assert asyncio.run(read(handle)) == EVENTS
    thread.join()


def test_many_readers_share_one_loop():
    handles = [Handle(2) for _ in range(20)]

    async def all_of_them():
        return await asyncio.gather(*map(read, handles))

    threads = [later(handle, EVENTS) for handle in handles]
    assert asyncio.run(all_of_them()) == [EVENTS] * 20
    for thread in threads:
        thread.join()


def test_a_failure_ends_the_job():
    handle = Handle(2)
    for event in (EVENTS[0], Failed("no"), EVENTS[1]):
        handle.put(event)
    assert list(handle) == [EVENTS[0], Failed("no")]


def test_cancelling_ends_the_iteration_tells_the_backend_once_and_drops_the_rest():
    told = []
    handle = Handle(2, lambda: told.append(1))
    handle.put(EVENTS[0])
    handle.cancel()
    handle.cancel()
    handle.put(EVENTS[1])
    assert list(handle) == []
    assert handle.cancelled
    assert told == [1]


def test_cancelling_after_the_end_does_nothing():
    told = []
    handle = Handle(1, lambda: told.append(1))
    handle.put(EVENTS[1])
    handle.cancel()
    assert list(handle) == [EVENTS[1]]
    assert not handle.cancelled
    assert not told


def test_cancelling_from_another_thread_ends_a_waiting_reader():
    handle = Handle(1)
    thread = Thread(target=lambda: (sleep(0.01), handle.cancel()))
    thread.start()
    assert asyncio.run(read(handle)) == []
    thread.join()


def test_a_reader_whose_loop_is_gone_does_not_stop_the_backend():
    handle = Handle(1)

    async def give_up():
        try:
            await asyncio.wait_for(read(handle), 0.01)
        except TimeoutError:
            return

    asyncio.run(give_up())
    handle.put(EVENTS[1])
    assert list(handle) == [EVENTS[1]]


def test_the_contract_imports_no_model_code():
    script = (
        "import sys, toxoid.serve.jobs, toxoid.serve.handle; "
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_scheduler_tells_the_tokens_of_a_prompt_at_submission():
    with scheduler("shield") as served:
        handle = served.submit(Job(request(3)))
        assert {handle.prompt_tokens} == {tokens for _, _, tokens, _ in collected(handle)}
