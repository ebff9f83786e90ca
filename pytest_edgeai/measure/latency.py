"""Time models in turns, so that every disturbance of a shared machine meets all of them alike.

A model that has waited for its turn finds its weights gone from the caches, so its first call costs
up to 0.5 ms more than in a loop: twice the time of a small quantized model, and nothing next to
the large one that it is compared with. Every turn therefore begins with calls that are not judged
(:func:`lead_in_calls`) and ends with the one that is. More judged calls in a turn would come
cheaper, but successive calls share their disturbances: with five of them the signs of the CPU
channel had an autocorrelation of 0.3 to 0.5 (0 to 0.03 with one), and its error rate is promised
for independent signs only.
"""

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
LEAD_IN_CALLS = 16
LEAD_IN_NS = 12_000_000
LEAD_IN_NEEDLESS_NS = 16_000_000
BURST_CALLS = 256
BURST_NS = 60_000_000


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
    """Interleaved rounds of two or more models, grown round by round.

    Attributes:
        wall_ns: for each model, the wall time of what counts of every round: one judged call, or
            the calls of a burst.
        cpu_ns: likewise, CPU time.
        preemptions: likewise, involuntary context switches.
        lead_in_wall_ns: for each model, the wall times of all calls that led in, as they came.
        order: for each round, the index of the model that ran first.
        attempt: for each round, the attempt that it belongs to.
    """

    wall_ns: list[list[int]]
    cpu_ns: list[list[int]]
    preemptions: list[list[int]]
    lead_in_wall_ns: list[list[int]]
    order: list[int] = field(default_factory=list)
    attempt: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, models: int) -> Rounds:
        """Return an empty record for ``models`` models."""

        def columns() -> list[list[int]]:
            return [[] for _ in range(models)]

        return cls(columns(), columns(), columns(), columns())

    def __len__(self) -> int:
        return len(self.order)


def lead_in_calls(call_ns: float) -> int:
    """Return how many calls begin a turn of a model whose call takes ``call_ns``.

    As many of :data:`LEAD_IN_CALLS` as take no longer than :data:`LEAD_IN_NS` together, but one at
    least; none where 0.5 ms are within 3% of a call (:data:`LEAD_IN_NEEDLESS_NS`). Measured by
    position in the turn, against a loop, on a shared machine: quantized models of 0.05 to 0.3 ms
    take 1.6 to 3 times as long in the first call, 1.03 to 1.15 in the second, 1.0 in the fifth;
    one of 0.8 ms and 6 MB of weights 1.65, 1.25, and 1.03 to 1.09 in the sixth; float32 models of
    3 to 4 ms 1.01 to 1.06 in the first and 1.02 in the second. Half as many calls left the medians
    of the small quantized models 4% to 7% above a loop's.
    """
    if call_ns > LEAD_IN_NEEDLESS_NS:
        return 0
    return max(1, min(LEAD_IN_CALLS, int(LEAD_IN_NS / max(call_ns, 1.0))))


def warm_up(models: Sequence[Timed]) -> list[int]:
    """Run each model until its first calls, which cost more, are behind it.

    Returns:
        for each model, the calls that begin each of its turns.
    """
    return [lead_in_calls(float(model.time_calls(WARM_UP_CALLS).wall_ns.min())) for model in models]


def run_round(
    models: Sequence[Timed],
    lead_in: Sequence[int],
    rounds: Rounds,
    generator: random.Random,
    attempt: int,
    kept: Sequence[int] | None = None,
) -> None:
    """Give every model its turn, in random order and never two at a time.

    Args:
        models: the models, warm.
        lead_in: what :func:`warm_up` returned for them.
        rounds: grows by one round.
        generator: source of the random order.
        attempt: the attempt that the round belongs to.
        kept: for each model, the calls of its turn that follow those that led in; one each by
            default, which is what a verdict takes.
    """
    order = list(range(len(models)))
    generator.shuffle(order)
    for index in order:
        count = lead_in[index]
        times = models[index].time_calls(count + (kept[index] if kept else 1))
        rounds.lead_in_wall_ns[index].extend(times.wall_ns[:count].tolist())
        rounds.wall_ns[index].extend(times.wall_ns[count:].tolist())
        rounds.cpu_ns[index].extend(times.cpu_ns[count:].tolist())
        rounds.preemptions[index].extend(times.preemptions[count:].tolist())
    rounds.order.append(order[0])
    rounds.attempt.append(attempt)


def run_bursts(
    models: Sequence[Timed], generator: random.Random, *, rounds: int, time_limit_s: float
) -> Rounds:
    """Time models in turns of many calls: what a plain loop over each would take, side by side.

    The latencies of a report come from here. They decide nothing: calls of one turn share their
    disturbances, which medians bear and sequential tests do not.

    Args:
        models: the models; they are warmed up.
        generator: source of the random order.
        rounds: turns of each model.
        time_limit_s: after so long no round is begun, but for the first three.

    Returns:
        Up to :data:`BURST_CALLS` calls of each turn, as many as fit into :data:`BURST_NS`.
    """
    lead_in = warm_up(models)
    durations = [float(model.time_calls(WARM_UP_CALLS).wall_ns.min()) for model in models]
    kept = [max(1, min(BURST_CALLS, int(BURST_NS / max(call, 1.0)))) for call in durations]
    measured = Rounds.of(len(models))
    deadline = time.monotonic() + time_limit_s
    while len(measured) < rounds and (len(measured) < 3 or time.monotonic() < deadline):
        run_round(models, lead_in, measured, generator, 0, kept)
    return measured


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
        baseline: the baseline; every attempt warms it up.
        candidate: the candidate, likewise.
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
        lead_in = warm_up((baseline, candidate))
        for _ in range(ROUNDS_PER_ATTEMPT):
            run_round((baseline, candidate), lead_in, rounds, generator, attempt)
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
