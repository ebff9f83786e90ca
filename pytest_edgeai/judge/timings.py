"""What the latency gates ask of paired timings: usable, disturbed, how taken, percentiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.judge.verdict import count_text, duration_text
from pytest_edgeai.records import JSON, PairedTimings

CONTENDED_IDLE_SHARE = 0.5
"""Share of the wall time that was not CPU time above which a measurement counts as contended."""

CONTENDED_PREEMPTED_SHARE = 0.8
"""Share of calls with an involuntary context switch from which on it counts as contended."""

WAIT_ROUNDS = 50
"""Rounds before a wait by which it is described."""

SIDES = ("baseline", "candidate")
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


@dataclass(frozen=True)
class Contention:
    """How much other processes disturbed some rounds.

    Attributes:
        preempted_share: share of the calls with an involuntary context switch.
        idle_share: share of the wall time that was not CPU time; ``None`` without CPU times. More
            threads than one can take more CPU than wall time: it is negative then.
    """

    preempted_share: float
    idle_share: float | None

    @property
    def misleads(self) -> bool:
        """Whether wall times mislead."""
        idle = self.idle_share is not None and self.idle_share > CONTENDED_IDLE_SHARE
        return idle or self.preempted_share >= CONTENDED_PREEMPTED_SHARE


def contention(timings: PairedTimings) -> Contention:
    """Return how much other processes disturbed the rounds; not at all where there are none."""
    calls = 2 * timings.rounds
    if calls == 0:
        return Contention(0.0, None)
    preempted = np.count_nonzero(np.asarray(timings.baseline_preemptions) > 0)
    preempted += np.count_nonzero(np.asarray(timings.candidate_preemptions) > 0)
    idle_share = None
    if timings.baseline_cpu_ns is not None and timings.candidate_cpu_ns is not None:
        wall = float(timings.baseline_wall_ns.sum() + timings.candidate_wall_ns.sum())
        cpu = float(timings.baseline_cpu_ns.sum() + timings.candidate_cpu_ns.sum())
        idle_share = 1 - cpu / wall if wall > 0 else None
    return Contention(preempted / calls, idle_share)


def is_contended(timings: PairedTimings) -> bool:
    """Whether other processes disturbed the measurement so much that wall times mislead.

    True if more than half of the wall time was not CPU time, or if at least 80% of all calls were
    preempted. Samples are never dropped for it: wait, then measure on.
    """
    return contention(timings).misleads


def conduct_details(timings: PairedTimings) -> dict[str, JSON]:
    """How the rounds were taken: calls of the warm-up, and each wait for other processes.

    A wait names the number of rounds before it, its seconds and how disturbed the last
    :data:`WAIT_ROUNDS` of them were.
    """
    waits: list[JSON] = []
    for before, wait_ns in zip(
        timings.wait_before_round.tolist(), timings.wait_ns.tolist(), strict=True
    ):
        seen = contention(timings.between(max(0, before - WAIT_ROUNDS), before))
        waits.append(
            {
                "before_round": before,
                "seconds": wait_ns / 1e9,
                "preempted_share": seen.preempted_share,
                "idle_share": seen.idle_share,
            }
        )
    warm_up: dict[str, JSON] = {
        side: {"calls": calls, "settled": settled}
        for side, calls, settled in zip(
            SIDES if len(timings.warm_up_calls) else (),
            timings.warm_up_calls.tolist(),
            timings.warm_up_settled.tolist(),
            strict=True,
        )
    }
    return {"warm_up": warm_up, "waits": waits}


def conduct_text(timings: PairedTimings) -> str:
    """What of it a reason must say: waits, and a warm-up without an end; or an empty string."""
    said = ""
    waits = len(timings.wait_ns)
    if waits:
        seconds = float(timings.wait_ns.sum()) / 1e9
        said += f"; contended: waited {count_text(waits, 'time')}, {seconds:.3g} s"
    for side, calls, settled in zip(
        SIDES, timings.warm_up_calls.tolist(), timings.warm_up_settled.tolist(), strict=False
    ):
        if not settled:
            said += f"; the {side} was still getting faster after {calls:,} calls of warm-up"
    return said


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
        for offset, side in enumerate(SIDES)
    }


def percentiles_text(figures: dict[str, float]) -> str:
    """Format percentiles in the order of the details: ``980 µs / 1.02 ms / 1.5 ms``."""
    return " / ".join(duration_text(value) for value in figures.values())
