"""What the gates of stability ask of turns: usable or not, each call's own time, the looks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.judge.clocks import moving_cpu_ns
from pytest_edgeai.judge.verdict import count_text, make_verdict, threshold_fault
from pytest_edgeai.records import (
    PART_TURNS,
    BoolArray,
    Int64Array,
    StabilitySamples,
    Threshold,
    TurnSamples,
    Verdict,
)

MINIMUM_TURNS = 12
"""Fewer prove nothing: of two thirds of 11 turns, three each, the most extreme order of ranks has a
probability of 1/20, above what an interval may leave out."""

FIRST_LOOK_SHARE = 0.8
"""Share of a test's error rate that the first look may spend; each later look spends the same share
of what is left, so that all of them together, however many, spend no more than the whole."""

PREEMPTED_SHARE = 0.75
"""Share of preempted calls from which on all calls of a model are judged by CPU time: the rest is
too small a sample, and of the shortest calls."""


TURN_CALLS = 15
"""Calls of a turn that it takes for a median of its own."""


@dataclass(frozen=True, eq=False)
class OwnTimes:
    """How long calls took, disturbances by other processes aside.

    Attributes:
        relative: float64 of shape ``(turns, calls)``, each call's time over the median; CPU time
            over its median where the call was preempted, or where nearly all were.
        delay_ns: float64, likewise, by how much it is above the median.
        waited: bool, likewise: preempted and long by the wall clock alone, so that nobody can tell
            whether the model or the machine made it wait; only where CPU time is not judged anyway.
        clock: ``wall`` or ``cpu``, what calls were judged by that were not preempted.
        preempted: number of preempted calls.
    """

    relative: NDArray[np.float64]
    delay_ns: NDArray[np.float64]
    waited: BoolArray
    clock: str
    preempted: int


def limit_or_verdict(
    gate: str, samples: StabilitySamples, threshold: Threshold, fault: str, *, unit: str
) -> float | Verdict:
    """Return the limit that turns are judged by, or the verdict where they cannot be judged.

    Args:
        gate: the gate.
        samples: the turns.
        threshold: its own.
        fault: why the samples cannot be judged, in one sentence, or an empty string.
        unit: of what the gate observes.
    """
    fault = threshold_fault(threshold) or fault
    if fault:
        return make_verdict(
            gate,
            "error",
            threshold,
            unit=unit,
            reason=f"not judged: {fault}",
            advice="correct the limit, or measure again",
        )
    if threshold.value is None:
        reason = "no threshold is set"
        return make_verdict(gate, "not_applicable", threshold, unit=unit, reason=reason)
    if samples.turns < MINIMUM_TURNS:
        return make_verdict(
            gate,
            "inconclusive",
            threshold,
            unit=unit,
            reason=f"{count_text(samples.turns, 'turn')} of {MINIMUM_TURNS} were measured",
            advice="raise --edge-budget",
            samples=samples.turns,
        )
    return threshold.value


def turns_fault(samples: StabilitySamples) -> str:
    """Return why turns cannot be judged, in one sentence, or an empty string."""
    for name, side in (("baseline", samples.baseline), ("candidate", samples.candidate)):
        columns: list[tuple[str, NDArray[Any] | None]] = [
            ("wall time", side.wall_ns),
            ("CPU time", _cpu_ns(side)),
        ]
        for what, values in columns:
            if values is None:
                continue
            if values.shape != side.wall_ns.shape or values.ndim != 2:
                return f"{name} {what} has shape {values.shape}"
            if not (values > 0).all():
                turn = int(np.argmax((values <= 0).any(axis=1)))
                return f"{name} {what} is 0 ns or less in turn {turn + 1}"
        if len(side.wall_ns) != samples.turns:
            return f"the {name} took {count_text(len(side.wall_ns), 'turn')}"
    return ""


def _cpu_ns(side: TurnSamples) -> Int64Array | None:
    return None if side.cpu_ns is None else moving_cpu_ns(side.cpu_ns, side.wall_ns)


def own_times(
    side: TurnSamples, *, long: float, least_delay_ns: float, by_turn: bool = False
) -> OwnTimes:
    """Return how long each call took by itself.

    A preempted call (an involuntary context switch, ``ru_nivcsw``) was stopped while it wanted to
    go on: its wall time is the machine's, its CPU time its own. A call that waits of its own will
    (for a disk, a lock, a device) switches voluntarily, so that its wall time counts.

    Args:
        side: the turns of one model, without a fault.
        long: a call counts as long above this multiple of the median ...
        least_delay_ns: ... and by this much at least.
        by_turn: whether the median is that of the call's own turn, where that has
            :data:`TURN_CALLS` calls to take it of, instead of that of all calls.
    """
    wall = side.wall_ns.astype(np.float64)
    preempted: BoolArray = side.preemptions > 0
    cpu_ns = _cpu_ns(side)
    cpu = None if cpu_ns is None else cpu_ns.astype(np.float64)
    everything: BoolArray = np.ones(wall.shape, dtype=np.bool_)
    if cpu is not None and preempted.mean() >= PREEMPTED_SHARE:
        median = _medians(cpu, everything, by_turn)
        return OwnTimes(cpu / median, cpu - median, ~everything, "cpu", int(preempted.sum()))
    median = _medians(wall, everything if preempted.all() else ~preempted, by_turn)
    relative, delay = wall / median, wall - median
    is_long: BoolArray = (relative > long) & (delay >= least_delay_ns)
    if cpu is None:
        waited: BoolArray = preempted & is_long
    else:
        median = _medians(cpu, everything, by_turn)
        relative = np.where(preempted, cpu / median, relative)
        delay = np.where(preempted, cpu - median, delay)
        waited = preempted & is_long & ~((relative > long) & (delay >= least_delay_ns))
    return OwnTimes(relative, delay, waited, "wall", int(preempted.sum()))


def _medians(times: NDArray[np.float64], chosen: BoolArray, by_turn: bool) -> NDArray[np.float64]:
    """Return the median of the chosen calls of each turn, or of all, shape ``(turns, 1)``."""
    overall = float(np.median(times[chosen]))
    medians = np.full((len(times), 1), overall)
    if by_turn:
        enough = chosen.sum(axis=1) >= TURN_CALLS
        some = np.where(chosen, times, np.nan)[enough]
        if len(some):
            medians[enough, 0] = np.nanmedian(some, axis=1)
    return medians


def error_rate_of_look(turns: int, error_rate: float) -> float:
    """Return the error rate that a look after so many turns may spend.

    Looks are taken after :data:`PART_TURNS` turns and whenever their number has doubled, or when
    the budget is spent. The looks' rates are a geometric series with the sum ``error_rate``
    (alpha spending, Lan and DeMets 1983, in fixed portions).
    """
    look = max(0, math.ceil(math.log2(max(turns, 1) / PART_TURNS)))
    return float(error_rate * FIRST_LOOK_SHARE * (1 - FIRST_LOOK_SHARE) ** look)


def is_settled(verdict: Verdict, turns: int) -> bool:
    """Return whether no further turn is measured for a verdict.

    A failure at the first look is confirmed by a second one: a neighbor that begins to work in the
    middle of a measurement meets the two models unlike, and is often gone soon.
    """
    if verdict.outcome == "fail":
        return turns > PART_TURNS
    return verdict.outcome != "inconclusive"


def clock_text(baseline: OwnTimes, candidate: OwnTimes) -> str:
    """Return by which clock the calls were judged, for a reason."""
    by = {
        "wall": "wall time, and CPU time where a call was preempted",
        "cpu": "CPU time, since other processes preempted most calls",
    }
    if baseline.clock != candidate.clock:
        return f"baseline by {by[baseline.clock]}, candidate by {by[candidate.clock]}"
    if baseline.preempted + candidate.preempted == 0:
        return "wall time"
    return by[baseline.clock]
