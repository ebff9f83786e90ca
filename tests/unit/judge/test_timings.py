from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from pytest_edgeai.judge.timings import (
    conduct_details,
    conduct_text,
    contention,
    is_contended,
    latency_details,
    timings_fault,
)


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


def test_contention_states_both_shares(make_timings: Any) -> None:
    cpu = np.full(10, 1_000_000)
    timings = make_timings(4 * cpu, 4 * cpu, cpu, cpu, preemptions=1)
    timings.candidate_preemptions[5:] = 0
    seen = contention(timings)
    assert (seen.preempted_share, seen.idle_share, seen.misleads) == (0.75, 0.75, True)
    assert contention(make_timings(cpu, cpu)).idle_share is None


def test_each_wait_says_what_the_rounds_before_it_were_like(make_timings: Any) -> None:
    cpu = np.full(150, 1_000_000)
    wall = cpu.copy()
    wall[:50] *= 4
    timings = dataclasses.replace(
        make_timings(wall, wall, cpu, cpu),
        wait_before_round=np.array([50, 125]),
        wait_ns=np.array([500_000_000, 11_500_000_000]),
        warm_up_calls=np.array([110, 150]),
        warm_up_settled=np.array([True, True]),
    )
    timings.baseline_preemptions[75:125] = 1
    assert conduct_details(timings) == {
        "warm_up": {
            "baseline": {"calls": 110, "settled": True},
            "candidate": {"calls": 150, "settled": True},
        },
        "waits": [
            {"before_round": 50, "seconds": 0.5, "preempted_share": 0.0, "idle_share": 0.75},
            {"before_round": 125, "seconds": 11.5, "preempted_share": 0.5, "idle_share": 0.0},
        ],
    }
    assert conduct_text(timings) == "; contended: waited 2 times, 12 s"


def test_a_quiet_measurement_says_nothing_of_its_conduct(make_timings: Any) -> None:
    timings = make_timings(np.full(5, 100), np.full(5, 100))
    assert conduct_text(timings) == ""
    assert conduct_details(timings) == {"warm_up": {}, "waits": []}


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
