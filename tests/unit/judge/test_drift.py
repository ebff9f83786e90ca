from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy import stats

from pytest_edgeai.judge.drift import judge_latency_drift, shift_interval
from pytest_edgeai.judge.turns import is_settled
from pytest_edgeai.records import StabilitySamples, Threshold, TurnSamples

LIMIT = Threshold(1.10, "at_most")


def sides(factors: Any, *, noise: float = 0.02, machine: Any = 1.0) -> StabilitySamples:
    """Turns of 1 ms whose candidate takes ``factors`` times as long; a machine slows both."""
    generator = np.random.default_rng(5)
    turns = len(factors)

    def side(by: Any) -> TurnSamples:
        own = np.exp(generator.normal(0, noise, (turns, 1))) * np.reshape(by * machine, (turns, 1))
        wall = (own * 1e6 * np.exp(generator.normal(0, 0.01, (turns, 30)))).astype(np.int64)
        return TurnSamples(
            wall,
            wall.copy(),
            np.zeros_like(wall),
            np.arange(turns + 1) * 30,
            np.full(turns + 1, 2**20),
        )

    return StabilitySamples(side(np.ones(turns)), side(np.asarray(factors)), "here")


@pytest.mark.parametrize(
    ("factors", "outcome"),
    [
        (np.ones(24), "pass"),
        (np.linspace(1, 1.5, 24), "fail"),
        (np.linspace(1, 1.05, 24), "pass"),
        (np.linspace(1.5, 1, 24), "pass"),  # it warms up
        (np.repeat([1.0, 1.6], 12), "fail"),  # throttled from the middle on
        (np.ones(11), "inconclusive"),
        (np.linspace(1, 1.5, 12), "fail"),
        (np.linspace(1, 1.6, 48), "fail"),
    ],
)
def test_the_last_third_against_the_first(factors: Any, outcome: str) -> None:
    verdict = judge_latency_drift(sides(factors, noise=0.03), LIMIT)
    assert verdict.outcome == outcome, verdict.reason
    assert bool(verdict.advice) == (outcome != "pass")
    if verdict.interval and verdict.observed is not None:
        low, high = (bound or 0.0 for bound in verdict.interval)
        assert low <= verdict.observed <= high
        third = len(factors) // 3
        truth = np.median(factors[-third:]) / np.median(factors[:third])
        assert verdict.observed == pytest.approx(truth, rel=0.08)


def test_a_machine_that_gets_slower_is_no_drift() -> None:
    slower = np.linspace(1, 2, 24)
    assert judge_latency_drift(sides(np.ones(24), machine=slower), LIMIT).outcome == "pass"


def test_a_preempted_call_is_judged_by_its_cpu_time() -> None:
    samples = sides(np.ones(24))
    wall = samples.candidate.wall_ns.copy()
    wall[12:, :20] *= 5
    preemptions = np.zeros_like(wall)
    preemptions[12:, :20] = 1
    disturbed = replace(
        samples, candidate=replace(samples.candidate, wall_ns=wall, preemptions=preemptions)
    )
    assert judge_latency_drift(disturbed, LIMIT).outcome == "pass"
    undisturbed = replace(samples, candidate=replace(samples.candidate, wall_ns=wall))
    assert judge_latency_drift(undisturbed, LIMIT).outcome == "fail"


def test_a_failure_is_confirmed() -> None:
    verdict = judge_latency_drift(sides(np.linspace(1, 1.5, 24)), LIMIT)
    assert not is_settled(verdict, 24)
    assert is_settled(verdict, 48)
    assert is_settled(judge_latency_drift(sides(np.ones(24)), LIMIT), 24)


def test_nothing_unmeasured_passes() -> None:
    broken = sides(np.ones(24))
    broken.baseline.wall_ns[0, 0] = 0
    assert judge_latency_drift(broken, LIMIT).outcome == "error"
    fine = sides(np.ones(24))
    assert judge_latency_drift(fine, Threshold(0.0, "at_most")).outcome == "error"
    assert judge_latency_drift(fine, Threshold(None, "at_most")).outcome == "not_applicable"
    with pytest.raises(ValueError, match="at_most"):
        judge_latency_drift(fine, Threshold(1.1, "at_least"))


@pytest.mark.parametrize(("n", "m"), [(4, 4), (4, 6), (5, 3)])
def test_the_interval_is_that_of_every_order_of_ranks(n: int, m: int) -> None:
    """The bounds leave out as much as the exact distribution of the rank sum allows."""
    alpha = 0.1
    rank_sums = [sum(places) - n * (n - 1) // 2 for places in combinations(range(n + m), n)]
    generator = np.random.default_rng(n * m)
    before, after = generator.normal(size=n), generator.normal(size=m)
    _, low, high = shift_interval(before, after, alpha)
    differences = np.sort(np.subtract.outer(after, before), axis=None)
    kept = next(k for k in range(n * m) if np.mean(np.less_equal(rank_sums, k)) > alpha / 2)
    assert (low, high) == (differences[kept - 1], differences[-kept])


def test_too_few_values_have_no_interval() -> None:
    _, low, high = shift_interval(np.zeros(3), np.ones(3), 0.04)
    assert (low, high) == (-math.inf, math.inf)


@pytest.mark.parametrize("size", [8, 16, 32])
def test_the_interval_agrees_with_the_rank_sum_test(size: int) -> None:
    generator = np.random.default_rng(size)
    before, after = generator.normal(size=size), generator.normal(0.8, 1, size)
    estimate, low, high = shift_interval(before, after, 0.05)
    assert low < estimate < high
    for inside, bound in ((low + 1e-9, low - 1e-9), (high - 1e-9, high + 1e-9)):
        p_inside, p_outside = (
            stats.mannwhitneyu(after - shift, before, method="exact").pvalue
            for shift in (inside, bound)
        )
        assert p_inside > p_outside
        assert p_outside <= 0.055
