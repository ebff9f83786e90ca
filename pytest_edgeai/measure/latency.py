"""Time models in turns, so that every disturbance of a shared machine meets all of them alike."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from pytest_edgeai.records import BoolArray, Int64Array, LatencySummary, PairedTimings

WARM_UP_CALLS = 10
ROUNDS_PER_ATTEMPT = 300
ROUNDS_BETWEEN_LOOKS = 5
PAUSE_BETWEEN_ATTEMPTS_S = 2.0


@dataclass(frozen=True, eq=False)
class CallTimes:
    """Times of consecutive calls of one model; every array is int64 of shape ``(calls,)``.

    Attributes:
        wall_ns: wall time of each call.
        cpu_ns: CPU time of the process during each call.
        preemptions: involuntary context switches during each call.
    """

    wall_ns: Int64Array
    cpu_ns: Int64Array
    preemptions: Int64Array


class Timed(Protocol):
    """A loaded model with one sample bound to it."""

    cpu_time_is_valid: bool

    def time_calls(self, calls: int) -> CallTimes:
        """Run the bound sample ``calls`` times and return the times of each call."""
        ...


@dataclass
class Rounds:
    """Interleaved rounds of two or more models, grown round by round."""

    wall_ns: list[list[int]]
    cpu_ns: list[list[int]]
    preemptions: list[list[int]]
    order: list[int] = field(default_factory=list)
    attempt: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, models: int) -> Rounds:
        """Return an empty record for ``models`` models."""
        return cls(
            [[] for _ in range(models)], [[] for _ in range(models)], [[] for _ in range(models)]
        )

    def __len__(self) -> int:
        return len(self.order)


def warm_up(models: Sequence[Timed]) -> None:
    """Run each model until its first calls, which cost more, are behind it."""
    for model in models:
        model.time_calls(WARM_UP_CALLS)


def run_round(
    models: Sequence[Timed], rounds: Rounds, generator: random.Random, attempt: int
) -> None:
    """Run every model once, in random order and never two at a time."""
    order = list(range(len(models)))
    generator.shuffle(order)
    for index in order:
        times = models[index].time_calls(1)
        rounds.wall_ns[index].append(int(times.wall_ns[0]))
        rounds.cpu_ns[index].append(int(times.cpu_ns[0]))
        rounds.preemptions[index].append(int(times.preemptions[0]))
    rounds.order.append(order[0])
    rounds.attempt.append(attempt)


def paired(rounds: Rounds, *, cpu_time_is_valid: bool) -> PairedTimings:
    """Return rounds of exactly two models, baseline first, as a record."""
    baseline, candidate = 0, 1

    def column(values: Sequence[int]) -> Int64Array:
        return np.asarray(values, dtype=np.int64)

    first: BoolArray = np.asarray(rounds.order, dtype=np.int64) == baseline
    return PairedTimings(
        baseline_wall_ns=column(rounds.wall_ns[baseline]),
        candidate_wall_ns=column(rounds.wall_ns[candidate]),
        baseline_cpu_ns=column(rounds.cpu_ns[baseline]) if cpu_time_is_valid else None,
        candidate_cpu_ns=column(rounds.cpu_ns[candidate]) if cpu_time_is_valid else None,
        baseline_preemptions=column(rounds.preemptions[baseline]),
        candidate_preemptions=column(rounds.preemptions[candidate]),
        baseline_first=first,
        attempt=column(rounds.attempt),
    )


def interleave(
    baseline: Timed,
    candidate: Timed,
    rounds: Rounds,
    *,
    decided: Callable[[PairedTimings], bool],
    is_contended: Callable[[PairedTimings], bool],
    budget_s: float,
    generator: random.Random,
    progress: Callable[[int, float], None],
) -> tuple[PairedTimings, bool]:
    """Add rounds until the question is decided or the budget is spent; no round is ever dropped.

    Attempts of :data:`ROUNDS_PER_ATTEMPT` rounds are spaced apart and carry their evidence over, so
    that a burst of contention does not fill a whole measurement.

    Args:
        baseline: the baseline, warm.
        candidate: the candidate, warm.
        rounds: what was measured before; grows in place.
        decided: asked every few rounds.
        is_contended: asked between attempts about the last attempt's rounds.
        budget_s: longest time, pauses included.
        generator: source of the random order.
        progress: called with the rounds so far and the seconds spent.

    Returns:
        All rounds, and whether the budget was spent without a decision.
    """
    cpu_time_is_valid = baseline.cpu_time_is_valid and candidate.cpu_time_is_valid
    started = time.monotonic()
    deadline = started + budget_s
    attempt = rounds.attempt[-1] + 1 if rounds.attempt else 0
    next_look = len(rounds) + ROUNDS_BETWEEN_LOOKS
    while True:
        for _ in range(ROUNDS_PER_ATTEMPT):
            run_round((baseline, candidate), rounds, generator, attempt)
            spent = time.monotonic() >= deadline
            if spent or len(rounds) >= next_look:
                next_look = len(rounds) + max(ROUNDS_BETWEEN_LOOKS, len(rounds) // 50)
                timings = paired(rounds, cpu_time_is_valid=cpu_time_is_valid)
                progress(len(rounds), time.monotonic() - started)
                if decided(timings):
                    return timings, False
                if spent:
                    return timings, True
        timings = paired(rounds, cpu_time_is_valid=cpu_time_is_valid)
        pause_s = PAUSE_BETWEEN_ATTEMPTS_S * (2.0 if is_contended(timings) else 1.0)
        if time.monotonic() + pause_s >= deadline:
            return timings, True
        time.sleep(pause_s)
        warm_up((baseline, candidate))
        attempt += 1


def summarize(
    rounds: Rounds, index: int, *, cpu_time_is_valid: bool, threads: int, batch: int
) -> LatencySummary:
    """Return the latency summary of one model of interleaved rounds."""
    return summarize_times(
        CallTimes(
            np.asarray(rounds.wall_ns[index], dtype=np.int64),
            np.asarray(rounds.cpu_ns[index], dtype=np.int64),
            np.asarray(rounds.preemptions[index], dtype=np.int64),
        ),
        cpu_time_is_valid=cpu_time_is_valid,
        threads=threads,
        batch=batch,
    )


def summarize_times(
    times: CallTimes, *, cpu_time_is_valid: bool, threads: int, batch: int
) -> LatencySummary:
    """Return the latency summary of consecutive calls."""
    p50, p95, p99 = (float(value) for value in np.percentile(times.wall_ns, (50, 95, 99)))
    cpu = float(np.median(times.cpu_ns)) if cpu_time_is_valid else None
    return LatencySummary(len(times.wall_ns), p50, p95, p99, cpu, threads, batch)
