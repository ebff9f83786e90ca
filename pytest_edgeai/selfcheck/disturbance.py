"""Bursts of work in other processes: the neighbors of a shared machine, planted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST_S = 300.0

# Ends with its parent, whatever ends that: a burst is short, and after each it looks. Nothing but
# the standard library is imported, so that it starts at once.
_BURSTS = """
import os, random, sys, time
parent, end = int(sys.argv[1]), time.monotonic() + float(sys.argv[2])
random.seed(int(sys.argv[3]))
while time.monotonic() < end and os.getppid() == parent:
    stop = time.monotonic() + random.uniform(0.02, 0.2)
    while time.monotonic() < stop:
        pass
    time.sleep(random.uniform(0.0, 0.1))
"""


@contextmanager
def bursts(processes: int) -> Iterator[tuple[int, ...]]:
    """Keep ``processes`` busy processes running; yield their ids; all are ended and reaped after.

    Each works for 20 to 200 ms and rests for 0 to 100 ms, so that it takes about two thirds of a
    core.
    """
    started: list[subprocess.Popen[bytes]] = []
    try:
        for number in range(processes):
            words = (str(os.getpid()), str(LONGEST_S), str(number))
            started.append(
                subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _BURSTS, *words],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
        yield tuple(process.pid for process in started)
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()
