from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pytest_edgeai.judge.timings import is_contended, latency_details, timings_fault


def test_contended_by_idle_share(make_timings: Any) -> None:
    cpu = np.full(10, 1_000_000)
    assert is_contended(make_timings(2.2 * cpu, 2.2 * cpu, cpu, cpu))
    assert not is_contended(make_timings(2 * cpu, 2 * cpu, cpu, cpu))
    assert not is_contended(make_timings(9 * cpu, 9 * cpu))


def test_contended_by_preemptions(make_timings: Any) -> None:
    cpu = np.full(10, 1_000_000)
    timings = make_timings(cpu, cpu, cpu, cpu, preemptions=1)
    assert is_contended(timings)
    timings.baseline_preemptions[:4] = 0
    assert is_contended(timings)
    timings.candidate_preemptions[:1] = 0
    assert not is_contended(timings)
    assert not is_contended(make_timings([], []))


def test_more_cpu_than_wall_time_is_no_contention(make_timings: Any) -> None:
    wall = np.full(10, 1_000_000)
    assert not is_contended(make_timings(wall, wall, 2 * wall, 2 * wall))


def test_details_hold_numpys_percentiles(make_timings: Any) -> None:
    generator = np.random.default_rng(0)
    a, b, c, d = generator.integers(10**6, 2 * 10**6, size=(4, 77))
    details = latency_details(make_timings(a, b, c, d))
    assert details["baseline"]["wall_ns"]["p95"] == np.percentile(a, 95)
    assert details["candidate"]["wall_ns"]["p50"] == np.median(b)
    assert details["baseline"]["cpu_ns"]["p99"] == np.percentile(c, 99)
    assert details["candidate"]["cpu_ns"]["p95"] == np.percentile(d, 95)
    assert latency_details(make_timings([], [])) == {}


def test_fault_names_the_array_and_the_round(make_timings: Any) -> None:
    good = np.full(5, 100)
    assert timings_fault(make_timings(good, good, good, good), cpu=True) == ""
    bad = good.copy()
    bad[2] = 0
    timings = make_timings(good, good, good, bad)
    assert timings_fault(timings, cpu=True).startswith("candidate CPU time is 0 ns in round 3")
    assert timings_fault(timings, cpu=False) == ""
    assert "shape (4,)" in timings_fault(make_timings(good, good[:4]), cpu=False)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_times_that_are_no_numbers_are_faults(make_timings: Any, bad: float) -> None:
    timings = make_timings(np.full(3, 100), np.full(3, 100))
    wall = np.array([100.0, bad, 100.0])
    object.__setattr__(timings, "candidate_wall_ns", wall)
    assert "candidate wall time" in timings_fault(timings, cpu=False)
