"""A process is put on one core with all of its threads, and let go again."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from pytest_edgeai.worker.placement import allowed_cores, run_on

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux puts processes on cores")


def test_every_thread_is_put_on_the_core_and_let_go() -> None:
    allowed = allowed_cores()
    ready, done = threading.Event(), threading.Event()
    identities: list[int] = []

    def wait() -> None:
        identities.append(threading.get_native_id())
        ready.set()
        done.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    ready.wait()
    core = max(allowed)
    try:
        assert run_on(core, allowed)
        for identity in (0, *identities):
            assert os.sched_getaffinity(identity) == {core}
    finally:
        assert run_on(None, allowed)
        put_back = [os.sched_getaffinity(identity) for identity in (0, *identities)]
        done.set()
        thread.join()
    assert put_back == [set(allowed)] * 2


def test_a_core_that_is_not_there_is_refused() -> None:
    allowed = allowed_cores()
    before = os.sched_getaffinity(0)
    assert not run_on(1_000_000 if len(allowed) < 1_000_000 else -1, allowed)
    assert os.sched_getaffinity(0) == before
