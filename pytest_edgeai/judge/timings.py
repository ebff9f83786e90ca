"""What both latency gates ask of paired timings: usable or not, disturbed or not, percentiles."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.judge.verdict import duration_text
from pytest_edgeai.records import JSON, PairedTimings

CONTENDED_IDLE_SHARE = 0.5
"""Share of the wall time that was not CPU time above which a measurement counts as contended."""

CONTENDED_PREEMPTED_SHARE = 0.8
"""Share of calls with an involuntary context switch from which on it counts as contended."""

PERCENTILES = (50.0, 95.0, 99.0)


def timings_fault(timings: PairedTimings, *, cpu: bool) -> str:
    """Return why timings cannot be judged, in one sentence, or an empty string.

    Every time must be finite and positive: a clock that reads 0 is too coarse for the call it
    measures and proves nothing.

    Args:
        timings: the rounds.
        cpu: whether the CPU times will be used.
    """
    rounds = timings.rounds
    arrays: dict[str, NDArray[Any]] = {
        "baseline wall time": timings.baseline_wall_ns,
        "candidate wall time": timings.candidate_wall_ns,
    }
    if cpu:
        if timings.baseline_cpu_ns is not None:
            arrays["baseline CPU time"] = timings.baseline_cpu_ns
        if timings.candidate_cpu_ns is not None:
            arrays["candidate CPU time"] = timings.candidate_cpu_ns
    for name, values in arrays.items():
        if values.shape != (rounds,):
            return f"{name} has shape {values.shape} where ({rounds},) was expected"
        usable = np.isfinite(values) & (values > 0)
        if not usable.all():
            first = int(np.argmin(usable))
            return (
                f"{name} is {values[first]} ns in round {first + 1}; "
                "every time must be a positive, finite number"
            )
    return ""


def has_cpu_times(timings: PairedTimings) -> bool:
    """Whether both sides carry CPU times."""
    return timings.baseline_cpu_ns is not None and timings.candidate_cpu_ns is not None


def is_contended(timings: PairedTimings) -> bool:
    """Whether other processes disturbed the measurement so much that wall times mislead.

    True if more than half of the wall time was not CPU time, or if at least 80% of all calls were
    preempted. Samples are never dropped for it: wait, then measure on.
    """
    calls = 2 * timings.rounds
    if calls == 0:
        return False
    preempted = np.count_nonzero(np.asarray(timings.baseline_preemptions) > 0)
    preempted += np.count_nonzero(np.asarray(timings.candidate_preemptions) > 0)
    if preempted >= CONTENDED_PREEMPTED_SHARE * calls:
        return True
    if timings.baseline_cpu_ns is None or timings.candidate_cpu_ns is None:
        return False
    wall = float(timings.baseline_wall_ns.sum() + timings.candidate_wall_ns.sum())
    cpu = float(timings.baseline_cpu_ns.sum() + timings.candidate_cpu_ns.sum())
    return wall > 0 and 1 - cpu / wall > CONTENDED_IDLE_SHARE


def latency_details(timings: PairedTimings) -> dict[str, JSON]:
    """p50, p95 and p99 of both sides in ns: ``{"baseline": {"wall_ns": {"p50": ...}}}``."""
    if timings.rounds == 0:
        return {}
    names, columns = ["wall_ns"], [timings.baseline_wall_ns, timings.candidate_wall_ns]
    if timings.baseline_cpu_ns is not None and timings.candidate_cpu_ns is not None:
        names.append("cpu_ns")
        columns += [timings.baseline_cpu_ns, timings.candidate_cpu_ns]
    figures = np.percentile(np.stack(columns), PERCENTILES, axis=1)
    labels = [f"p{percentile:g}" for percentile in PERCENTILES]
    return {
        side: {
            name: dict(zip(labels, figures[:, 2 * clock + offset].tolist(), strict=True))
            for clock, name in enumerate(names)
        }
        for offset, side in enumerate(("baseline", "candidate"))
    }


def percentiles_text(figures: dict[str, float]) -> str:
    """Format percentiles in the order of the details: ``980 µs / 1.02 ms / 1.5 ms``."""
    return " / ".join(duration_text(value) for value in figures.values())
