"""How a process's end is put into words."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_edgeai.worker.exits import (
    describe_exit,
    end_group,
    out_of_memory_kills,
    wait_for_exit,
)


@pytest.mark.parametrize(
    ("code", "before", "after", "words"),
    [
        (0, None, None, "exited with code 0"),
        (7, 1, 2, "exited with code 7"),
        (0xC0000005, None, None, "exited with code 0xc0000005"),
        (-int(signal.SIGSEGV), 0, 1, "killed by SIGSEGV"),
        (-9, None, None, "killed by SIGKILL"),
        (-9, 3, 3, "killed by SIGKILL"),
        (-9, None, 3, "killed by SIGKILL"),
        (
            -9,
            3,
            4,
            "killed by SIGKILL, possibly out of memory: the kernel's OOM count rose",
        ),
        (-250, None, None, "killed by signal 250"),
    ],
)
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no signals of this kind")
def test_describe_exit(code: int, before: int | None, after: int | None, words: str) -> None:
    assert describe_exit(code, before, after) == words


@pytest.mark.skipif(not Path("/proc/vmstat").exists(), reason="the kernel does not tell")
def test_out_of_memory_kills_are_counted() -> None:
    kills = out_of_memory_kills()
    assert kills is not None
    assert kills >= 0


def test_wait_and_end() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True
    )
    assert not wait_for_exit(process, 0.02)
    assert end_group(process) != 0
    assert wait_for_exit(process, 0.0)
    assert end_group(process) == process.returncode


def test_exit_is_seen_without_being_reaped() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "raise SystemExit(5)"], start_new_session=True
    )
    assert wait_for_exit(process, 20)
    if sys.platform == "linux":
        assert process.returncode is None
    assert end_group(process) == 5
