from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from pytest_edgeai.judge.procedure import Mode
from pytest_edgeai.judge.speed import judge_speed, speed_decided
from pytest_edgeai.records import Threshold, to_json

TWICE = Threshold(2.0, "at_least", "edgeai.toml")


def lognormal(seed: int, rounds: int, ratio: float) -> tuple[Any, Any]:
    generator = np.random.default_rng(seed)
    baseline = 1e6 * ratio * np.exp(generator.normal(0, 0.05, rounds))
    return baseline, 1e6 * np.exp(generator.normal(0, 0.05, rounds))


def reference_channel(pairs: Any, ratio: float, alpha: float, block: int) -> str:
    """The procedure written down a second time, round by round."""
    x = np.asarray(pairs, float)
    blocks = len(x) // block
    above = 0
    for n in range(1, blocks + 1):
        a, b = x[(n - 1) * block : n * block].min(axis=0)
        above += a > ratio * b
        base = special.betaln(above + 1, n - above + 1) + (n + 1) * math.log(2)
        half = special.betainc(above + 1, n - above + 1, 0.5)
        if half < 1 and base + math.log1p(-half) >= math.log(1 / alpha):
            return "pass"
        if half > 0 and base + math.log(half) >= math.log(1 / alpha):
            return "fail"
    return "inconclusive"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(1.7, 2.4), st.integers(0, 400), st.booleans())
def test_same_verdict_as_the_procedure_written_twice(
    make_timings: Any, seed: int, ratio: float, rounds: int, with_cpu: bool
) -> None:
    generator = np.random.default_rng(seed)
    a, b = lognormal(seed, rounds, ratio)
    a, b = a.astype(np.int64), b.astype(np.int64)
    wall_a = (a + generator.exponential(1e5, rounds)).astype(np.int64)
    wall_b = (b + generator.exponential(1e5, rounds)).astype(np.int64)
    timings = make_timings(wall_a, wall_b, *((a, b) if with_cpu else ()))
    wall = reference_channel(np.stack([wall_a, wall_b], 1), 2.0, 0.01, 5)
    cpu = reference_channel(np.stack([a, b], 1), 2.0, 0.01, 1) if with_cpu else wall
    expected = wall if wall == cpu and rounds >= 30 else "inconclusive"
    assert judge_speed(timings, TWICE, budget_spent=True).outcome == expected


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(1.8, 2.3), st.floats(1.0, 1.5))
def test_a_slower_candidate_never_fares_better(
    make_timings: Any, seed: int, ratio: float, factor: float
) -> None:
    a, b = lognormal(seed, 200, ratio)
    order = ["fail", "inconclusive", "pass"]
    before = judge_speed(make_timings(a, b, a, b), TWICE, budget_spent=True)
    slower = make_timings(a, np.ceil(b * factor), a, np.ceil(b * factor))
    after = judge_speed(slower, TWICE, budget_spent=True)
    assert order.index(after.outcome) <= order.index(before.outcome)
    assert before.observed is not None
    assert after.observed is not None
    assert after.observed <= before.observed


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.8, 1.25))
def test_swapping_the_models_swaps_the_verdict(make_timings: Any, seed: int, ratio: float) -> None:
    a, b = lognormal(seed, 200, ratio)
    equal = Threshold(1.0, "at_least")
    forth = judge_speed(make_timings(a, b, a, b), equal, budget_spent=True)
    back = judge_speed(make_timings(b, a, b, a), equal, budget_spent=True)
    swap = {"pass": "fail", "fail": "pass", "inconclusive": "inconclusive"}
    assert back.outcome == swap[forth.outcome]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(1.5, 2.6), st.integers(5, 300))
def test_interval_contains_the_observed_ratio(
    make_timings: Any, seed: int, ratio: float, rounds: int
) -> None:
    a, b = lognormal(seed, rounds, ratio)
    verdict = judge_speed(make_timings(a, b, a, b), TWICE, budget_spent=True)
    assert verdict.observed is not None
    assert verdict.interval is not None
    low, high = verdict.interval
    assert low is None or low <= verdict.observed
    assert high is None or high >= verdict.observed
    assert (verdict.confidence, verdict.unit, verdict.samples) == (0.95, "ratio", rounds)
    assert to_json(verdict)["gate"] == "speedup"


@pytest.mark.parametrize("ratio", [1.6, 2.5])
def test_the_interval_agrees_where_sampling_stops_at_the_decision(
    make_timings: Any, ratio: float
) -> None:
    a, b = lognormal(4, 400, ratio)
    rounds = 30
    while not speed_decided(make_timings(*(x[:rounds] for x in (a, b, a, b))), TWICE):
        rounds += 1
    assert rounds <= 60
    verdict = judge_speed(
        make_timings(*(x[:rounds] for x in (a, b, a, b))), TWICE, budget_spent=False
    )
    assert verdict.interval is not None
    low, high = verdict.interval
    assert low is not None
    assert high is not None
    assert verdict.outcome == ("pass" if low > 2 else "fail")
    assert (high < 2) == (ratio < 2)


def test_pass_names_figures_and_channels(make_timings: Any) -> None:
    a, b = lognormal(1, 60, 2.8)
    verdict = judge_speed(make_timings(a, b, a, b), TWICE, budget_spent=False)
    assert verdict.outcome == "pass"
    assert (
        "reaches the required 2.00x after 60 rounds, by wall and CPU time alike" in verdict.reason
    )
    assert verdict.advice == ""
    assert verdict.threshold_origin == "edgeai.toml"
    assert verdict.details["channels"]["cpu"]["decision"] == "pass"
    assert verdict.details["cpu_ratio"] == pytest.approx(2.8, rel=0.03)
    p50 = verdict.details["baseline"]["wall_ns"]["p50"]
    assert p50 == pytest.approx(np.median(a.astype(np.int64)))
    assert (
        verdict.details["candidate"]["cpu_ns"]["p99"]
        > verdict.details["candidate"]["cpu_ns"]["p50"]
    )


def test_without_cpu_time_the_wall_channel_decides_and_says_so(make_timings: Any) -> None:
    a, b = lognormal(1, 60, 2.8)
    verdict = judge_speed(make_timings(a, b), TWICE, budget_spent=False)
    assert verdict.outcome == "pass"
    assert "wall time alone (no CPU time is valid here)" in verdict.reason
    assert verdict.details["cpu_ratio"] is None
    assert "cpu_ns" not in verdict.details["baseline"]


@pytest.mark.parametrize(
    ("mode", "outcome"), [("agree", "inconclusive"), ("cpu-led", "pass"), ("wall-only", "fail")]
)
def test_modes_when_the_channels_contradict_each_other(
    make_timings: Any, mode: Mode, outcome: str
) -> None:
    fast, base = lognormal(1, 100, 2.8)
    slow, _ = lognormal(2, 100, 1.2)
    timings = make_timings(slow, base, fast, base)
    verdict = judge_speed(timings, TWICE, budget_spent=True, mode=mode)
    assert verdict.outcome == outcome
    # More rounds cannot change it: first crossings are final.
    assert speed_decided(timings, TWICE, mode=mode)
    if mode == "agree":
        assert "wall time says slower, CPU time says faster" in verdict.reason
        assert "contradict" in verdict.advice
    if mode == "cpu-led":
        assert verdict.observed == pytest.approx(2.8, rel=0.05)


def test_too_few_rounds_never_decide(make_timings: Any) -> None:
    a, b = lognormal(1, 29, 9.0)
    timings = make_timings(a, b, a, b)
    verdict = judge_speed(timings, TWICE, budget_spent=True)
    assert verdict.outcome == "inconclusive"
    assert "at least 30 rounds are needed" in verdict.reason
    assert not speed_decided(timings, TWICE)
    # CPU time alone would have decided after 9 of the rounds.
    assert judge_speed(timings, TWICE, budget_spent=True, mode="cpu-led").outcome == "inconclusive"
    assert not speed_decided(timings, TWICE, mode="cpu-led")
    a, b = lognormal(1, 30, 9.0)
    enough = make_timings(a, b, a, b)
    assert judge_speed(enough, TWICE, budget_spent=True, mode="cpu-led").outcome == "pass"
    assert speed_decided(enough, TWICE, mode="cpu-led")
    empty = judge_speed(make_timings([], [], [], []), TWICE, budget_spent=True)
    assert (empty.outcome, empty.observed, empty.interval) == ("inconclusive", None, None)


def test_undecided_says_what_is_missing(make_timings: Any) -> None:
    a, b = lognormal(5, 60, 2.03)
    verdict = judge_speed(make_timings(a, b, a, b), TWICE, budget_spent=True)
    assert verdict.outcome == "inconclusive"
    assert "undecided after 60 rounds, the budget is used up" in verdict.reason
    assert "further rounds would decide" in verdict.reason
    assert verdict.details["further_rounds"] > 0
    assert "within 3% of the threshold" in verdict.advice
    again = judge_speed(make_timings(a, b, a, b), TWICE, budget_spent=False)
    assert "sampling goes on" in again.reason


def test_contended_measurement_is_flagged_with_advice(make_timings: Any) -> None:
    a, b = lognormal(5, 60, 2.03)
    verdict = judge_speed(make_timings(3 * a, 3 * b, a, b), TWICE, budget_spent=True)
    assert verdict.details["contended"] is True
    assert "quiet the machine" in verdict.advice


@pytest.mark.parametrize("ratio", [1.4, 2.8])
def test_waits_are_said_whatever_the_verdict(make_timings: Any, ratio: float) -> None:
    a, b = lognormal(1, 60, ratio)
    timings = make_timings(a, b, a, b)
    plain = judge_speed(timings, TWICE, budget_spent=False)
    waited = dataclasses.replace(
        timings, wait_before_round=np.array([30]), wait_ns=np.array([10**9])
    )
    verdict = judge_speed(waited, TWICE, budget_spent=False)
    assert (verdict.outcome, verdict.observed) == (plain.outcome, plain.observed)
    assert verdict.reason == plain.reason + "; contended: waited 1 time, 1 s"
    assert verdict.details["waits"][0]["seconds"] == 1.0
    assert plain.details["waits"] == []


def test_dependent_rounds_are_warned_about(make_timings: Any) -> None:
    generator = np.random.default_rng(3)
    sticky = np.cumsum(generator.random(300) < 0.15) % 2
    b = np.full(300, 1_000_000)
    a = np.where(sticky == 1, 2_050_000, 1_950_000)
    verdict = judge_speed(make_timings(a, b, a, b), TWICE, budget_spent=True)
    assert verdict.details["signs_dependent"] is True
    assert "depend on each other" in verdict.reason


@pytest.mark.parametrize(
    ("column", "bad", "rounds"),
    [
        *((column, -5, [7]) for column in range(4)),
        *((wall, 0, [7]) for wall in (0, 1)),
        *((cpu, 0, [7, 8]) for cpu in (2, 3)),
    ],
)
def test_impossible_times_are_an_error(
    make_timings: Any, column: int, bad: int, rounds: list[int]
) -> None:
    a, b = lognormal(1, 60, 2.8)
    columns = [a.copy(), b.copy(), a.copy(), b.copy()]
    columns[column][rounds] = bad
    timings = make_timings(*columns)
    verdict = judge_speed(timings, TWICE, budget_spent=True)
    assert verdict.outcome == "error"
    assert f"is {bad} ns in round 8" in verdict.reason
    assert speed_decided(timings, TWICE)
    if column >= 2:
        assert judge_speed(timings, TWICE, budget_spent=True, mode="wall-only").outcome == "pass"


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, -1.0])
def test_impossible_thresholds_are_an_error(make_timings: Any, value: float) -> None:
    a, b = lognormal(1, 60, 2.8)
    verdict = judge_speed(
        make_timings(a, b), Threshold(value, "at_least", "marker"), budget_spent=True
    )
    assert verdict.outcome == "error"
    assert "(marker) is not a positive, finite number" in verdict.reason


def test_without_a_threshold_the_ratio_is_only_reported(make_timings: Any) -> None:
    a, b = lognormal(1, 60, 2.8)
    timings = make_timings(a, b, a, b)
    verdict = judge_speed(timings, Threshold(None, "at_least"), budget_spent=True)
    assert verdict.outcome == "not_applicable"
    assert verdict.observed == pytest.approx(2.8, rel=0.05)
    assert speed_decided(timings, Threshold(None, "at_least"))


def test_a_callers_mistake_raises(make_timings: Any) -> None:
    a, b = lognormal(1, 60, 2.8)
    with pytest.raises(ValueError, match="relation"):
        judge_speed(make_timings(a, b), Threshold(2.0, "at_most"), budget_spent=True)
    with pytest.raises(ValueError, match="alpha"):
        judge_speed(make_timings(a, b), TWICE, budget_spent=True, alpha=1.0)


def test_asking_after_every_round_is_affordable(make_timings: Any) -> None:
    # Not a benchmark: the bound is ten times the usual cost, and only guards against recomputing
    # the evidence of all rounds at every question.
    a, b = lognormal(1, 900, 2.0)
    timings = make_timings(a, b, a, b)
    speed_decided(timings, TWICE)
    started = time.process_time()
    for _ in range(50):
        speed_decided(timings, TWICE)
    assert (time.process_time() - started) / 50 < 0.002
