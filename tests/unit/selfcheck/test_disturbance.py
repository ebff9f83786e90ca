"""Busy processes are real, and none outlives what started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from pytest_edgeai.selfcheck.disturbance import bursts


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def ends(pid: int) -> bool:
    deadline = time.monotonic() + 10.0
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_running(pid)


def test_processes_run_and_are_reaped() -> None:
    with bursts(2) as pids:
        assert len(set(pids)) == 2
        assert all(map(is_running, pids))
    assert not any(map(is_running, pids))


def test_none_is_started_for_none() -> None:
    with bursts(0) as pids:
        assert pids == ()


def test_they_end_with_an_error() -> None:
    seen: list[int] = []

    def interrupted() -> None:
        with bursts(1) as pids:
            seen.extend(pids)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(seen) == 1
    assert not is_running(seen[0])


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_they_end_with_a_parent_that_is_killed() -> None:
    code = (
        "import sys, time\n"
        "from pytest_edgeai.selfcheck.disturbance import bursts\n"
        "with bursts(1) as pids:\n"
        "    print(*pids, flush=True)\n"
        "    time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert is_running(pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert ends(pid)
