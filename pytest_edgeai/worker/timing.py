"""Time calls with nothing between the clocks and the call."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns, process_time_ns

if sys.platform != "win32":
    from resource import RUSAGE_SELF, getrusage


@dataclass(frozen=True)
class CallTimes:
    """What each call took, in order.

    Attributes:
        wall_ns: wall time.
        cpu_ns: CPU time of all threads of this process.
        preemptions: involuntary context switches (``ru_nivcsw``); ``None`` where the platform does
            not count them.
    """

    wall_ns: list[int]
    cpu_ns: list[int]
    preemptions: list[int] | None


def time_calls(call: Callable[[], object], calls: int) -> CallTimes:
    """Call ``call`` ``calls`` times, with the garbage collector off.

    Only the clocks are read around a call: reading /proc there would shift the preemption that is
    measured.
    """
    wall_ns = [0] * calls
    cpu_ns = [0] * calls
    collecting = gc.isenabled()
    gc.disable()
    try:
        if sys.platform == "win32":
            for index in range(calls):
                cpu_begin = process_time_ns()
                wall_begin = perf_counter_ns()
                call()
                wall_ns[index] = perf_counter_ns() - wall_begin
                cpu_ns[index] = process_time_ns() - cpu_begin
            return CallTimes(wall_ns, cpu_ns, None)
        preemptions = [0] * calls
        for index in range(calls):
            switches_begin = getrusage(RUSAGE_SELF).ru_nivcsw
            cpu_begin = process_time_ns()
            wall_begin = perf_counter_ns()
            call()
            wall_ns[index] = perf_counter_ns() - wall_begin
            cpu_ns[index] = process_time_ns() - cpu_begin
            preemptions[index] = getrusage(RUSAGE_SELF).ru_nivcsw - switches_begin
        return CallTimes(wall_ns, cpu_ns, preemptions)
    finally:
        if collecting:
            gc.enable()
