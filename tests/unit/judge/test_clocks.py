from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pytest_edgeai.judge.clocks import moving_cpu_ns, with_moving_clocks
from pytest_edgeai.judge.latency import judge_latency_consistency
from pytest_edgeai.judge.speed import judge_speed, speed_decided
from pytest_edgeai.records import PairedTimings, Threshold

TWICE = Threshold(2.0, "at_least")


def stopped(timings: PairedTimings, *rounds: int) -> PairedTimings:
    """The candidate's CPU clock stands still in some rounds."""
    assert timings.candidate_cpu_ns is not None
    cpu = timings.candidate_cpu_ns.copy()
    cpu[list(rounds)] = 0
    return replace(timings, candidate_cpu_ns=cpu)


@pytest.mark.parametrize(("size", "most"), [(40, 1), (100, 1), (500, 5)])
def test_a_few_calls_are_given_their_wall_time_and_many_prove_nothing(size: int, most: int) -> None:
    wall, cpu = np.arange(10, size + 10), np.arange(5, size + 5)
    assert moving_cpu_ns(cpu, wall) is cpu
    cpu[:most] = 0
    mended = moving_cpu_ns(cpu, wall)
    assert mended.tolist() == [*wall[:most], *cpu[most:]]
    assert (cpu[:most] == 0).all()
    cpu[most] = 0
    assert moving_cpu_ns(cpu, wall) is cpu
    assert moving_cpu_ns(cpu, wall[:-1]) is cpu


def test_a_clock_that_runs_backwards_is_none() -> None:
    wall, cpu = np.full(100, 10), np.full(100, 9)
    cpu[3] = -1
    assert moving_cpu_ns(cpu, wall) is cpu


def test_one_such_round_ends_no_measurement(simulate: Any) -> None:
    timings = simulate(np.random.default_rng(1), rounds=200, ratio=3.0, busy=False)
    glitch = stopped(timings, 3)
    assert not speed_decided(glitch.between(0, 5), TWICE)
    assert judge_speed(glitch, TWICE, budget_spent=True).outcome == "pass"
    consistent = judge_latency_consistency(
        glitch, Threshold(1.1, "at_most"), absolute_limits_ns={}, budget_spent=True, seed=1
    )
    assert consistent.outcome == "pass"
    coarse = stopped(timings, *range(50))
    assert judge_speed(coarse, TWICE, budget_spent=True).outcome == "error"
    assert speed_decided(coarse, TWICE)


def test_timings_without_a_stop_are_left_alone(simulate: Any) -> None:
    timings = simulate(np.random.default_rng(1), rounds=20, ratio=3.0, busy=False)
    assert with_moving_clocks(timings) is timings
    bare = replace(timings, baseline_cpu_ns=None, candidate_cpu_ns=None)
    assert with_moving_clocks(bare) is bare
