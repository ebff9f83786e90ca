"""CPU clocks that stood still during a call."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pytest_edgeai.records import Int64Array, PairedTimings

STOPPED_SHARE = 0.01
"""A clock that stands still in more calls than this is too coarse for them. On a virtual machine
the clock of a process was seen to read the same before and after a call of 10 us, with 5 to 11 us
for each of its neighbors, in one of some hundred thousand calls."""


def moving_cpu_ns(cpu_ns: Int64Array, wall_ns: Int64Array) -> Int64Array:
    """Return CPU times, with the wall time of the few calls in which the CPU clock stood still.

    Args:
        cpu_ns: CPU time of each call.
        wall_ns: its wall time, of the same shape.

    Returns:
        ``cpu_ns`` itself where no time is 0, or more than one and more than :data:`STOPPED_SHARE`
        of them: those prove nothing.
    """
    if cpu_ns.shape != wall_ns.shape:
        return cpu_ns
    stopped = cpu_ns == 0
    count = int(np.count_nonzero(stopped))
    if not 0 < count <= max(1, STOPPED_SHARE * cpu_ns.size):
        return cpu_ns
    mended: Int64Array = np.where(stopped, wall_ns, cpu_ns)
    return mended


def with_moving_clocks(timings: PairedTimings) -> PairedTimings:
    """Return timings whose CPU times are those of :func:`moving_cpu_ns`."""
    baseline, candidate = timings.baseline_cpu_ns, timings.candidate_cpu_ns
    if baseline is None or candidate is None:
        return timings
    mended = (
        moving_cpu_ns(baseline, timings.baseline_wall_ns),
        moving_cpu_ns(candidate, timings.candidate_wall_ns),
    )
    if mended[0] is baseline and mended[1] is candidate:
        return timings
    return replace(timings, baseline_cpu_ns=mended[0], candidate_cpu_ns=mended[1])
