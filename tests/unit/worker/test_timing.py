"""Timing a call: one entry each, and the garbage collector as it was."""

from __future__ import annotations

import gc
import time

import pytest

from pytest_edgeai.worker.timing import time_calls


def test_every_call_is_timed_with_the_collector_off() -> None:
    collecting: list[bool] = []

    def call() -> None:
        collecting.append(gc.isenabled())
        time.sleep(0.002)

    assert gc.isenabled()
    timed = time_calls(call, 3)
    assert gc.isenabled()
    assert collecting == [False] * 3
    assert len(timed.wall_ns) == len(timed.cpu_ns) == 3
    assert all(wall >= 2_000_000 for wall in timed.wall_ns)
    assert all(cpu >= 0 for cpu in timed.cpu_ns)
    assert timed.preemptions is None or all(count >= 0 for count in timed.preemptions)


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        time_calls(lambda: None, 1)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_failing_call_leaves_the_collector_on() -> None:
    def call() -> None:
        raise ValueError

    with pytest.raises(ValueError):
        time_calls(call, 1)
    assert gc.isenabled()
