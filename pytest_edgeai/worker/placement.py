"""Put this process on one core, with all of its threads."""

from __future__ import annotations

import os
import sys

_TASKS = "/proc/self/task"


def run_on(core: int | None, allowed: frozenset[int]) -> bool:
    """Let every thread of this process run on one core alone.

    Threads that start later inherit it from the thread that starts them.

    Args:
        core: its number; ``None`` for all that are allowed.
        allowed: the cores that this process was given.

    Returns:
        Whether all threads were put there.
    """
    if sys.platform != "linux":
        return False
    where = allowed if core is None else {core}
    try:
        for thread in os.listdir(_TASKS):  # noqa: PTH208
            try:
                os.sched_setaffinity(int(thread), where)
            except ProcessLookupError:
                # It has ended since.
                continue
    except OSError:
        return False
    return True


def allowed_cores() -> frozenset[int]:
    """Return the cores that this process may run on; empty where the system does not say."""
    return frozenset(os.sched_getaffinity(0)) if sys.platform == "linux" else frozenset()
