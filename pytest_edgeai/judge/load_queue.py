"""Queues of queries: which are late, what they would have waited undisturbed, what rate fits.

A server that answers in the order of arrival is the queue G/G/c; its waits follow from arrivals and
service times alone (Lindley 1952).
"""

from __future__ import annotations

import heapq
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.judge.statistics import binomial_at_most
from pytest_edgeai.load_records import LoadBounds, LoadRun
from pytest_edgeai.records import BoolArray

FloatArray = NDArray[np.float64]

SIMULATED_QUERIES = 20_000
CONFIDENCE = 0.99
"""Of LoadGen's early stopping (loadgen/early_stopping.cc)."""


def waits(scheduled_ns: NDArray[Any], service_ns: NDArray[Any], servers: int = 1) -> FloatArray:
    """Return how long each query waits before it is answered, in order of arrival.

    Args:
        scheduled_ns: arrivals, ascending, shape ``(queries,)``.
        service_ns: what each takes, same shape.
        servers: how many are answered at once.
    """
    arrivals = np.asarray(scheduled_ns, dtype=np.float64)
    service = np.asarray(service_ns, dtype=np.float64)
    if servers == 1:
        before = np.cumsum(service) - service
        begins = before + np.maximum.accumulate(arrivals - before)
        return np.asarray(np.maximum(begins - arrivals, 0.0), dtype=np.float64)
    free = [-math.inf] * servers
    found = np.empty(len(arrivals))
    for index, (arrival, takes) in enumerate(zip(arrivals.tolist(), service.tolist(), strict=True)):
        begin = max(arrival, free[0])
        heapq.heapreplace(free, begin + takes)
        found[index] = begin - arrival
    return found


def late(run: LoadRun, bounds: LoadBounds) -> BoolArray:
    """Return which queries raised, timed out or missed a bound, as LoadGen measured them."""
    return _late(run, bounds, run.latency_ns, run.issue_delay_ns, 1.0)


def late_undisturbed(run: LoadRun, bounds: LoadBounds) -> BoolArray:
    """Return which queries would have missed a bound had no call been preempted.

    The same arrivals are queued again with :attr:`~.LoadRun.undisturbed_ns`. Sleeps, locks and
    pauses of the model stay, since a call that waits of its own accord is not preempted.
    """
    waited = np.empty(run.queries)
    servers = run.streams // run.lanes
    for lane in range(run.lanes):
        chosen = run.lane == lane
        waited[chosen] = waits(run.scheduled_ns[chosen], run.undisturbed_ns[chosen], servers)
    share = run.undisturbed_ns / np.maximum(run.service_ns, 1)
    return _late(run, bounds, waited + run.undisturbed_ns, waited, share)


def _late(
    run: LoadRun,
    bounds: LoadBounds,
    latency_ns: NDArray[Any],
    waited_ns: NDArray[Any],
    share: float | NDArray[Any],
) -> BoolArray:
    missed = run.failed | (run.service_ns > bounds.timeout_ns)
    if bounds.latency_ns is not None:
        missed = missed | (latency_ns > bounds.latency_ns)
    if run.token_ns is not None and len(run.token_ns) == run.queries:
        first = waited_ns + run.token_ns[:, 0] * share
        if bounds.first_token_ns is not None:
            missed = missed | ~(first <= bounds.first_token_ns)
        if bounds.interval_ns is not None and run.token_ns.shape[1] > 1:
            between = run.token_ns[:, 1:].mean(axis=1) * share
            missed = missed | ~(between <= bounds.interval_ns)
    return np.asarray(missed, dtype=np.bool_)


def utilization(run: LoadRun, *, undisturbed: bool = False) -> float:
    """Return the share of its time that the server works at the run's rate; 1 is overload."""
    if not run.queries:
        return math.inf
    service = run.undisturbed_ns if undisturbed else run.service_ns
    return run.target_per_second * float(service.mean()) / 1e9 / run.streams


def is_overloaded(run: LoadRun) -> bool:
    """Whether queries arrive faster than undisturbed calls can answer, by three standard errors."""
    if run.queries < 2:
        return False
    service = run.undisturbed_ns
    error = float(service.std(ddof=1)) / math.sqrt(len(service))
    return run.target_per_second * (float(service.mean()) - 3 * error) / 1e9 > run.streams


def throughput(run: LoadRun) -> float:
    """Return the queries per second that were answered, from the first arrival to the last end."""
    answered = 0.0
    for lane in range(run.lanes):
        chosen = run.lane == lane
        ends = run.scheduled_ns[chosen] + run.latency_ns[chosen]
        answered += np.count_nonzero(chosen) * 1e9 / max(1, int(ends.max()))
    return answered


def clumping(run: LoadRun, missed: BoolArray, quantile: float) -> float:
    """Return by how much late queries in clumps widen the variance of their number, 1 and more.

    Busy periods of a queue are independent of one another (it starts anew whenever it is empty),
    queries of one are not: the variance of their sums is compared with that of a binomial count.
    """
    starts = np.empty(run.queries, dtype=np.bool_)
    for lane in range(run.lanes):
        chosen = run.lane == lane
        scheduled = run.scheduled_ns[chosen]
        ends = np.maximum.accumulate(scheduled + run.latency_ns[chosen])
        starts[chosen] = np.concatenate([[True], scheduled[1:] >= ends[:-1]])
    period = np.cumsum(starts) - 1
    expected = 1 - quantile
    sums = np.bincount(period, weights=missed - expected)
    return max(1.0, float((sums**2).sum()) / (run.queries * expected * quantile))


def keeps_bounds(run: LoadRun, bounds: LoadBounds) -> bool:
    """Whether a run of the Server scenario proves its rate to be sustained.

    LoadGen's early stopping rule at 99%, with the number of queries divided by their clumping;
    LoadGen's own word where one worker answered; and a server that is not busy all the time, since
    the queue of an overloaded one outgrows every bound after a while.
    """
    if run.failed.any() or utilization(run) >= 1:
        return False
    if run.lanes == 1 and run.token_ns is None and not run.is_valid:
        return False
    missed = late(run, bounds)
    widened = clumping(run, missed, bounds.quantile)
    count, queries = float(missed.sum()) / widened, run.queries / widened
    tail = binomial_at_most(np.asarray(count), np.asarray(queries), 1 - bounds.quantile)
    return bool(tail <= 1 - CONFIDENCE)


def is_disturbed(run: LoadRun, bounds: LoadBounds) -> bool:
    """Whether a run that missed the bounds would have kept them had no call been preempted."""
    if not run.tells_contention or run.failed.any() or is_overloaded(run):
        return False
    share = float(late_undisturbed(run, bounds).mean())
    return share <= 1 - bounds.quantile < float(late(run, bounds).mean())


def predicted_rate(
    run: LoadRun, bounds: LoadBounds, *, lanes: int, servers: int, seed: int = 0
) -> float:
    """Return the rate in 1/s at which calls such as those of a run would just keep the bounds.

    The queue is simulated with Poisson arrivals and service times drawn from the run; 0 where not
    even queries that never wait keep them.

    Args:
        run: calls without a queue.
        bounds: what they have to keep.
        lanes: workers that share the rate.
        servers: queries that each of them answers at once.
        seed: of the arrivals and the drawing.
    """
    generator = np.random.default_rng(seed)
    chosen = generator.integers(0, run.queries, SIMULATED_QUERIES)
    gaps = generator.exponential(1.0, SIMULATED_QUERIES)
    service = run.service_ns[chosen].astype(np.float64)
    mean_ns = float(run.service_ns.mean())
    token_ns = None if run.token_ns is None else run.token_ns[chosen]
    allowed = 1 - bounds.quantile

    def late_share(load: float) -> float:
        arrivals = np.cumsum(gaps) * (mean_ns / servers / load)
        waited = waits(arrivals, service, servers)
        trial = LoadRun(
            "Server",
            0.0,
            0.0,
            True,
            1,
            np.zeros(len(chosen), dtype=np.int64),
            arrivals.astype(np.int64),
            waited.astype(np.int64),
            (waited + service).astype(np.int64),
            run.service_ns[chosen],
            run.service_ns[chosen],
            run.failed[chosen],
            token_ns,
        )
        return float(late(trial, bounds).mean())

    low, high = 0.0, 1.0
    if late_share(1e-3) > allowed:
        return 0.0
    for _ in range(10):
        middle = (low + high) / 2
        low, high = (low, middle) if late_share(middle) > allowed else (middle, high)
    return low * lanes * servers * 1e9 / mean_ns
