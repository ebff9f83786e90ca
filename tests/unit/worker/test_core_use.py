"""What Linux says of threads and cores, from recorded lines and from this process."""

from __future__ import annotations

import sys
import time

import pytest

from pytest_edgeai.worker import core_use
from pytest_edgeai.worker.core_use import CoreUse, HostTicks, Thread, look, parse_thread
from pytest_edgeai.worker.profile import ticks_between, waited_between

STAT = (
    "8151 (a name) with) R 8139 8151 8139 0 -1 4194304 98 0 0 0 3 1 0 0 20 0 1 0 612 3223552 380 "
    "18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
)
HOST = """cpu  300 10 40 500 50 1 9 90 0 0
cpu0 100 5 20 300 25 1 4 45 7 0
cpu1 200 5 20 200 25 0 5 45 0 0
intr 12345
"""

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_a_thread_is_read_whatever_its_name() -> None:
    assert parse_thread("418665032 101962331 1234\n", STAT) == Thread(418665032, 101962331, 1)


def test_the_cores_of_this_process_alone_are_counted() -> None:
    assert core_use.parse_ticks(HOST, frozenset({0})) == HostTicks(500, 130, 45)
    assert core_use.parse_ticks(HOST, frozenset({0, 1})) == HostTicks(1000, 360, 90)
    assert core_use.parse_ticks(HOST, frozenset({7})) is None


def test_older_kernels_tell_less() -> None:
    assert core_use.parse_ticks("cpu0 10 0 10 80", frozenset({0})) == HostTicks(100, 20, 0)


def test_time_belongs_to_the_core_that_both_looks_found() -> None:
    use = CoreUse()
    before = {1: Thread(100, 0, 0), 2: Thread(50, 0, 1), 3: Thread(10, 0, 0)}
    after = {1: Thread(160, 0, 0), 2: Thread(80, 0, 0), 3: Thread(10, 0, 1), 4: Thread(5, 0, 1)}
    use.add(before, after, 100)
    assert use.ran_ns == {0: 60}
    assert use.moved_ns == 30 + 5
    assert use.wall_ns == 100


def test_what_a_thread_waited_before_is_not_counted() -> None:
    before = {1: Thread(0, 100, 0)}
    assert waited_between(before, {1: Thread(0, 130, 0), 2: Thread(0, 7, 0)}) == 37
    assert waited_between(None, before) is None
    assert waited_between(before, None) is None


def test_ticks_are_those_between_two_looks() -> None:
    first, second = HostTicks(100, 50, 5), HostTicks(160, 90, 7)
    assert ticks_between(first, second) == {"total": 60, "busy": 40, "steal": 2}
    assert ticks_between(None, second) is None


@linux_only
def test_this_process_is_seen_to_run() -> None:
    before = look()
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    after = look()
    assert before is not None
    assert after is not None
    ran = sum(t.ran_ns - (before[n].ran_ns if n in before else 0) for n, t in after.items())
    assert ran >= 0.04e9


@linux_only
def test_calls_are_accounted_for() -> None:
    def call() -> None:
        end = time.process_time() + 0.002
        while time.process_time() < end:
            pass

    use = core_use.use_of(call, 0.05)
    assert use is not None
    assert 0 < sum(use.ran_ns.values()) + use.moved_ns <= 2 * use.wall_ns
    assert set(use.ran_ns) <= set(range(4096))


def test_other_systems_tell_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_edgeai.worker.core_use.sys.platform", "darwin")
    assert look() is None
    assert core_use.host_ticks(frozenset({0})) is None
    assert core_use.use_of(lambda: None, 0.01) is None
