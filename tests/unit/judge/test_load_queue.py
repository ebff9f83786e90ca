from __future__ import annotations

import math

import numpy as np
import pytest

from pytest_edgeai.judge.load_queue import (
    clumping,
    is_disturbed,
    is_overloaded,
    keeps_bounds,
    late,
    late_undisturbed,
    predicted_rate,
    throughput,
    utilization,
    waits,
)
from pytest_edgeai.load_records import LoadBounds, LoadRun

MS = 1_000_000
BOUNDS = LoadBounds(99.0, 50.0 * MS, None, None, 1e10, "50 ms as stated")


def served(
    rate: float,
    service_ns: np.ndarray[tuple[int], np.dtype[np.int64]],
    *,
    seed: int = 0,
    undisturbed_ns: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None,
    streams: int = 1,
    token_ns: np.ndarray[tuple[int, int], np.dtype[np.float64]] | None = None,
) -> LoadRun:
    """Return a run of the Server scenario as a server in the order of arrival gives it."""
    generator = np.random.default_rng(seed)
    count = len(service_ns)
    scheduled = np.cumsum(generator.exponential(1e9 / rate, count)).astype(np.int64)
    waited = waits(scheduled, service_ns, streams).astype(np.int64)
    return LoadRun(
        scenario="Server",
        target_per_second=rate,
        seconds=count / rate,
        is_valid=True,
        streams=streams,
        lane=np.zeros(count, dtype=np.int64),
        scheduled_ns=scheduled,
        issue_delay_ns=waited,
        latency_ns=waited + service_ns,
        service_ns=service_ns,
        undisturbed_ns=service_ns if undisturbed_ns is None else undisturbed_ns,
        failed=np.zeros(count, dtype=np.bool_),
        token_ns=token_ns,
    )


def constant(call_ms: float, count: int = 2000) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.full(count, int(call_ms * MS), dtype=np.int64)


def test_a_query_waits_for_those_before_it() -> None:
    assert waits(np.array([0, 1, 2, 100]), np.array([10, 10, 10, 10])).tolist() == [0, 9, 18, 0]
    assert waits(np.array([0, 1, 2, 100]), np.full(4, 10), 2).tolist() == [0, 0, 8, 0]


@pytest.mark.parametrize("servers", [1, 2])
def test_both_ways_to_queue_agree_with_a_plain_loop(servers: int) -> None:
    generator = np.random.default_rng(servers)
    arrivals = np.cumsum(generator.exponential(1.0, 500))
    service = generator.exponential(0.8 * servers, 500)
    free = [0.0] * servers
    expected = []
    for arrival, takes in zip(arrivals, service, strict=True):
        first = int(np.argmin(free))
        begin = max(arrival, free[first])
        free[first] = begin + takes
        expected.append(begin - arrival)
    assert waits(arrivals, service, servers) == pytest.approx(expected, abs=1e-9)


def test_the_mean_wait_is_that_of_an_m_d_1_queue() -> None:
    """Pollaczek and Khinchine: half the utilization / (1 - utilization) of a call, at 0.5."""
    run = served(100, constant(5, 200_000), seed=3)
    assert float(run.issue_delay_ns.mean()) == pytest.approx(2.5 * MS, rel=0.03)
    assert utilization(run) == pytest.approx(0.5)


def test_queries_that_fail_time_out_or_are_late_are_counted() -> None:
    run = served(100, constant(5, 4))
    object.__setattr__(run, "latency_ns", np.array([1, 51 * MS, 1, 1]))
    object.__setattr__(run, "service_ns", np.array([1, 1, 20_000 * MS, 1]))
    object.__setattr__(run, "failed", np.array([True, False, False, False]))
    assert late(run, BOUNDS).tolist() == [True, True, True, False]


def test_tokens_have_bounds_of_their_own() -> None:
    tokens = np.array([[5.0, 1.0, 1.0], [5.0, 9.0, 9.0], [40.0, 1.0, 1.0], [np.nan] * 3]) * MS
    run = served(1, constant(5, 4), token_ns=tokens)
    bounds = LoadBounds(90.0, None, 30.0 * MS, 5.0 * MS, 1e10, "")
    assert late(run, bounds).tolist() == [False, True, True, True]


def test_preempted_calls_are_excused_and_pauses_of_the_model_are_not() -> None:
    service = constant(5, 1000)
    service[::20] += 100 * MS
    disturbed = served(50, service, undisturbed_ns=constant(5, 1000))
    assert late(disturbed, BOUNDS).mean() > 0.05
    assert not late_undisturbed(disturbed, BOUNDS).any()
    assert is_disturbed(disturbed, BOUNDS)
    sleeping = served(50, service)
    assert late_undisturbed(sleeping, BOUNDS).mean() == pytest.approx(late(sleeping, BOUNDS).mean())
    assert not is_disturbed(sleeping, BOUNDS)


def test_more_arrives_than_can_be_answered() -> None:
    assert is_overloaded(served(210, constant(5)))
    assert not is_overloaded(served(190, constant(5)))
    assert not is_overloaded(served(390, constant(5), streams=2))


def test_an_overloaded_server_answers_what_it_can() -> None:
    assert throughput(served(400, constant(5))) == pytest.approx(200, rel=0.02)
    assert throughput(served(100, constant(5))) == pytest.approx(100, rel=0.1)


def test_late_queries_in_one_clump_say_less_than_scattered_ones() -> None:
    run = served(20, constant(5))
    scattered, clumped = np.zeros((2, run.queries), dtype=np.bool_)
    scattered[::100] = True
    assert clumping(run, scattered, 0.99) == pytest.approx(1.0, abs=0.2)
    busy = served(199, constant(5))
    clumped[900:920] = True
    assert clumping(busy, clumped, 0.99) > 3


def test_a_rate_is_proved_by_early_stopping_alone() -> None:
    assert keeps_bounds(served(100, constant(5, 662)), BOUNDS)
    assert not keeps_bounds(served(100, constant(5, 450)), BOUNDS), "459 queries are needed"
    assert not keeps_bounds(served(201, constant(5, 662)), BOUNDS), "more than it can answer"
    failing = served(100, constant(5))
    failing.failed[7] = True
    assert not keeps_bounds(failing, BOUNDS)


def test_the_predicted_rate_is_what_a_queue_sustains() -> None:
    """p99 of an M/D/1 queue within ten calls: between 0.75 and 0.85 of the capacity."""
    alone = served(1, constant(5))
    rate = predicted_rate(alone, BOUNDS, lanes=1, servers=1)
    assert 0.75 * 200 < rate < 0.86 * 200
    assert keeps_bounds(served(0.9 * rate, constant(5), seed=8), BOUNDS)
    assert predicted_rate(alone, BOUNDS, lanes=2, servers=1) == pytest.approx(2 * rate)
    assert predicted_rate(alone, BOUNDS, lanes=1, servers=2) > 1.9 * rate


def test_no_rate_is_predicted_where_one_call_alone_is_late() -> None:
    tight = LoadBounds(99.0, 4.0 * MS, None, None, math.inf, "")
    assert predicted_rate(served(1, constant(5)), tight, lanes=1, servers=1) == 0
