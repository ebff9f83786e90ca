from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_edgeai.judge.latency import (
    MINIMUM_ROUNDS,
    judge_latency_consistency,
    minimum_rounds,
)
from pytest_edgeai.records import PairedTimings, Threshold, Verdict, to_json

DEFAULT = Threshold(1.10, "at_most")
NO_LIMIT = Threshold(None, "at_most")


def judge(
    timings: PairedTimings,
    threshold: Threshold = DEFAULT,
    limits: dict[float, float] | None = None,
) -> Verdict:
    return judge_latency_consistency(
        timings, threshold, absolute_limits_ns=limits or {}, budget_spent=True, seed=1
    )


def draw(seed: int, rounds: int, factor: float, sigma: float = 0.1) -> tuple[Any, Any]:
    generator = np.random.default_rng(seed)
    baseline = 1e6 * np.exp(generator.normal(0, sigma, rounds))
    return baseline, factor * 1e6 * np.exp(generator.normal(0, sigma, rounds))


@pytest.mark.parametrize(("factor", "outcome"), [(0.5, "pass"), (1.0, "pass"), (1.5, "fail")])
def test_steady_models(make_timings: Any, factor: float, outcome: str) -> None:
    verdict = judge(make_timings(*draw(1, 400, factor)))
    assert verdict.outcome == outcome
    assert verdict.observed == pytest.approx(factor, rel=0.05)
    assert verdict.interval is not None
    assert verdict.confidence == 0.95
    assert "p50 / p95 / p99: candidate" in verdict.reason
    assert "(wall time)" in verdict.reason
    assert bool(verdict.advice) == (outcome == "fail")
    assert to_json(verdict)["details"]["candidate"]["wall_ns"]["p99"] > 0


def test_a_tail_is_found_where_the_median_is_better(make_timings: Any) -> None:
    baseline, candidate = draw(1, 400, 0.5)
    candidate[::8] *= 5
    verdict = judge(make_timings(baseline, candidate))
    assert verdict.outcome == "fail"
    assert verdict.details["candidate"]["wall_ns"]["p50"] < 0.6e6


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(0.7, 1.6), st.integers(1, 300), st.floats(1.0, 1.5))
def test_verdict_follows_the_interval_and_slower_is_never_better(
    make_timings: Any, seed: int, factor: float, rounds: int, slower: float
) -> None:
    baseline, candidate = draw(seed, rounds, factor, 0.2)
    verdict = judge(make_timings(baseline, candidate))
    assert verdict.interval is not None
    assert verdict.observed is not None
    low, high = verdict.interval
    assert low is not None
    assert high is not None
    assert low <= verdict.observed <= high
    if rounds < MINIMUM_ROUNDS:
        expected = "inconclusive"
    else:
        expected = "fail" if low > 1.1 else "pass" if high <= 1.25 else "inconclusive"
    assert verdict.outcome == expected
    order = ["fail", "inconclusive", "pass"]
    after = judge(make_timings(baseline, np.ceil(candidate * slower)))
    assert order.index(after.outcome) <= order.index(verdict.outcome)


def test_too_few_rounds_name_the_number_needed(make_timings: Any) -> None:
    verdict = judge(make_timings(*draw(1, 129, 0.5)))
    assert verdict.outcome == "inconclusive"
    assert "undecided after 129 rounds, the budget is used up" in verdict.reason
    assert "130 rounds are needed" in verdict.reason
    nothing = judge(make_timings([], []))
    assert (nothing.outcome, nothing.observed) == ("inconclusive", None)
    assert "no round was measured" in nothing.reason


@pytest.mark.parametrize(("percentile", "rounds"), [(90, 64), (95, 130), (99, 662)])
def test_early_stopping_says_how_many_rounds_a_percentile_takes(
    percentile: float, rounds: int
) -> None:
    # The floors of MLPerf LoadGen for an estimate at p90 and p99 are 64 and 662 queries.
    assert minimum_rounds(percentile) == rounds
    for count in (rounds - 1, rounds):
        over = 1 - percentile / 100
        at_most_one = (1 - over) ** count + count * over * (1 - over) ** (count - 1)
        assert (at_most_one <= 0.01) == (count == rounds)


@given(st.floats(50.01, 99.9), st.floats(50.01, 99.9))
def test_higher_percentiles_take_no_fewer_rounds(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert minimum_rounds(low) <= minimum_rounds(high)


@pytest.mark.parametrize(("rounds", "outcome"), [(661, "inconclusive"), (662, "pass")])
def test_a_comparison_at_p99_takes_662_rounds(make_timings: Any, rounds: int, outcome: str) -> None:
    verdict = judge_latency_consistency(
        make_timings(*draw(1, rounds, 0.5)),
        DEFAULT,
        absolute_limits_ns={},
        budget_spent=True,
        seed=1,
        percentile=99,
    )
    assert verdict.outcome == outcome
    assert "p99 is 0." in verdict.reason
    assert ("662 rounds are needed" in verdict.reason) == (outcome == "inconclusive")
    assert (verdict.details["percentile"], verdict.details["minimum_rounds"]) == (99, 662)


def test_a_tail_beyond_p95_is_found_at_p99_alone(make_timings: Any) -> None:
    baseline, candidate = draw(1, 1500, 0.9)
    candidate[::40] *= 6
    timings = make_timings(baseline, candidate)
    outcomes = {
        percentile: judge_latency_consistency(
            timings,
            DEFAULT,
            absolute_limits_ns={},
            budget_spent=True,
            seed=1,
            percentile=percentile,
        ).outcome
        for percentile in (95, 99)
    }
    assert outcomes == {95: "pass", 99: "fail"}


@pytest.mark.parametrize("percentile", [50, 100, 0.99, math.nan])
def test_an_impossible_percentile_raises(make_timings: Any, percentile: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        judge_latency_consistency(
            make_timings(*draw(1, 200, 0.5)),
            DEFAULT,
            absolute_limits_ns={},
            budget_spent=True,
            seed=1,
            percentile=percentile,
        )


def test_waits_and_an_endless_warm_up_are_said(make_timings: Any) -> None:
    timings = dataclasses.replace(
        make_timings(*draw(1, 200, 0.5)),
        wait_before_round=np.array([30]),
        wait_ns=np.array([500_000_000]),
        warm_up_calls=np.array([100, 5000]),
        warm_up_settled=np.array([True, False]),
    )
    verdict = judge(timings)
    assert verdict.reason.endswith(
        "; contended: waited 1 time, 0.5 s; the candidate was still getting faster after 5,000 "
        "calls of warm-up"
    )
    assert verdict.details["waits"][0]["before_round"] == 30


def test_noise_asks_for_more_rounds(make_timings: Any) -> None:
    verdict = judge(make_timings(*draw(1, 150, 1.0, 1.0)))
    assert verdict.outcome == "inconclusive"
    assert "rounds are needed" in verdict.reason
    assert verdict.advice


def test_contention_moves_the_comparison_to_cpu_time(make_timings: Any) -> None:
    baseline, candidate = draw(1, 300, 0.9)
    generator = np.random.default_rng(2)
    timings = make_timings(
        baseline + generator.exponential(9e6, 300),
        candidate + generator.exponential(15e6, 300),
        baseline,
        candidate,
    )
    verdict = judge(timings)
    assert verdict.outcome == "pass"
    assert verdict.details["clock"] == "cpu_ns"
    assert "CPU time, since the machine was contended" in verdict.reason


def test_contention_without_cpu_time_is_said(make_timings: Any) -> None:
    verdict = judge(make_timings(*draw(1, 300, 0.9), preemptions=2))
    assert verdict.details["clock"] == "wall_ns"
    assert "although the machine was contended" in verdict.reason


@pytest.mark.parametrize(
    ("rounds", "over", "outcome"),
    [(298, 0, "inconclusive"), (299, 0, "pass"), (299, 1, "inconclusive"), (299, 12, "fail")],
)
def test_absolute_limit_by_the_exact_binomial(
    make_timings: Any, rounds: int, over: int, outcome: str
) -> None:
    candidate = np.full(rounds, 1_000_000)
    candidate[:over] = 30_000_000
    timings = make_timings(np.full(rounds, 1_000_000), candidate)
    verdict = judge(timings, NO_LIMIT, {0.99: 20e6})
    assert verdict.outcome == outcome
    assert f"{over} of {rounds} calls took longer" in verdict.reason
    assert "20 ms" in verdict.reason
    if (rounds, over) == (298, 0):
        assert "299 calls with no further one over it are needed" in verdict.reason


def test_the_worst_part_decides_and_comes_first(make_timings: Any) -> None:
    baseline, candidate = draw(1, 400, 0.5)
    verdict = judge(make_timings(baseline, candidate), DEFAULT, {0.5: 0.1e6, 0.9: 20e6})
    assert verdict.outcome == "fail"
    assert verdict.reason.startswith("p50 exceeds 100 µs (400 of 400 calls took longer)")
    assert verdict.details["limits"]["p90"]["outcome"] == "pass"
    inconclusive = judge(make_timings(baseline, candidate), DEFAULT, {0.999: 20e6})
    assert inconclusive.outcome == "inconclusive"
    assert inconclusive.reason.startswith("p99.9 is not proven")


def test_nothing_to_judge_is_reported_only(make_timings: Any) -> None:
    verdict = judge(make_timings(*draw(1, 400, 0.5)), NO_LIMIT)
    assert verdict.outcome == "not_applicable"
    assert verdict.observed == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize(
    "limits", [{0.99: 0.0}, {0.99: math.nan}, {0.99: math.inf}, {1.0: 5e6}, {99.0: 5e6}]
)
def test_impossible_limits_are_an_error(make_timings: Any, limits: dict[float, float]) -> None:
    verdict = judge(make_timings(*draw(1, 400, 0.5)), DEFAULT, limits)
    assert verdict.outcome == "error"
    assert verdict.reason.startswith("not judged: ")


def test_impossible_times_and_thresholds_are_an_error(make_timings: Any) -> None:
    baseline, candidate = draw(1, 200, 0.5)
    assert (
        judge(make_timings(baseline, candidate), Threshold(math.nan, "at_most")).outcome == "error"
    )
    candidate[3] = 0
    assert judge(make_timings(baseline, candidate)).outcome == "error"
    with pytest.raises(ValueError, match="relation"):
        judge(make_timings(baseline, baseline), Threshold(1.1, "at_least"))


def test_same_seed_same_interval(make_timings: Any) -> None:
    timings = make_timings(*draw(1, 200, 0.9))
    assert judge(timings).interval == judge(timings).interval
