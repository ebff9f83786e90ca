from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.judge.procedure import (
    FEWEST_SIGNS,
    LONG_CALL_NS,
    ROUNDS_PER_START,
    Mode,
    choose,
    procedure_of,
)
from pytest_edgeai.judge.speed import judge_speed, speed_decided, start_ratios
from pytest_edgeai.judge.statistics import crossing_counts
from pytest_edgeai.records import PairedTimings, Threshold

TWICE = Threshold(2.0, "at_least")
MODES: tuple[Mode, ...] = ("agree", "cpu-led", "wall-only")


@pytest.mark.parametrize(
    ("call_ms", "threads", "cpu", "clock", "deciding", "min_rounds"),
    [
        (0.05, 1, True, "agree", "agree", 30),
        (14.9, 1, True, "agree", "agree", 30),
        (15, 1, True, "agree", "cpu-unless-contradicted", 45),
        (200, 1, True, "agree", "cpu-unless-contradicted", 45),
        (200, 1, True, "cpu-led", "cpu", 30),
        (5, 1, True, "wall-only", "wall", 45),
        (5, 1, False, "agree", "wall", 45),
        (5, 4, False, "cpu-led", "wall", 45),
        (5, 2, True, "agree", "starts", 90),
        (5, 0, True, "wall-only", "starts", 90),
    ],
)
def test_what_decides(
    call_ms: float, threads: int, cpu: bool, clock: Mode, deciding: str, min_rounds: int
) -> None:
    procedure = choose(call_ms * 1e6, threads=threads, cpu_time_is_valid=cpu, clock=clock)
    assert (procedure.deciding, procedure.min_rounds) == (deciding, min_rounds)
    assert procedure.restarts == (deciding == "starts")
    assert procedure.details()["deciding"] == deciding


def test_nine_signs_that_agree_decide() -> None:
    counts = crossing_counts(0.01, FEWEST_SIGNS).tolist()
    assert counts[-1] == FEWEST_SIGNS
    assert all(count > units for units, count in enumerate(counts[:-1], start=1))


@given(
    st.lists(st.tuples(st.integers(1, 10**9), st.integers(1, 10**9)), min_size=5, max_size=60),
    st.integers(0, 3),
    st.sampled_from(MODES),
)
def test_later_rounds_never_change_the_choice(
    make_timings: Any, times: list[tuple[int, int]], threads: int, clock: Mode
) -> None:
    baseline, candidate = np.array(times).T
    whole = make_timings(baseline, candidate, baseline, candidate)
    chosen = procedure_of(whole, threads=threads, clock=clock)
    for end in range(5, len(times) + 1):
        assert procedure_of(whole.between(0, end), threads=threads, clock=clock) == chosen


def long_calls(make_timings: Any, ratio: float, wall_factor: float = 1.0) -> PairedTimings:
    generator = np.random.default_rng(3)
    candidate = 4 * LONG_CALL_NS * generator.lognormal(0, 0.02, 60)
    baseline = ratio * 4 * LONG_CALL_NS * generator.lognormal(0, 0.02, 60)
    timings: PairedTimings = make_timings(wall_factor * baseline, candidate, baseline, candidate)
    return timings


@pytest.mark.parametrize(("ratio", "outcome"), [(1.8, "fail"), (2.2, "pass")])
def test_cpu_time_decides_long_calls_that_wall_time_cannot(
    make_timings: Any, ratio: float, outcome: str
) -> None:
    timings = long_calls(make_timings, ratio)
    # Preempted all the time: wall time says nothing either way.
    waits = np.random.default_rng(5).exponential(1e9, (2, 60)).astype(np.int64)
    disturbed = dataclasses.replace(
        timings,
        baseline_wall_ns=timings.baseline_wall_ns + 2 * waits[0],
        candidate_wall_ns=timings.candidate_wall_ns + waits[1],
    )
    verdict = judge_speed(disturbed, TWICE, budget_spent=False)
    assert verdict.outcome == outcome
    assert speed_decided(disturbed, TWICE)
    assert verdict.details["channels"]["wall"]["decision"] == "undecided"
    assert "CPU time, which wall time does not contradict" in verdict.reason
    assert verdict.details["procedure"]["name"] == "long calls"
    assert verdict.observed == pytest.approx(ratio, rel=0.02)
    short = disturbed.between(0, 44)
    assert judge_speed(short, TWICE, budget_spent=False).outcome == "inconclusive"
    assert not speed_decided(short, TWICE)


@pytest.mark.parametrize(("relative", "outcome"), [(0.95, "fail"), (1.05, "pass")])
@pytest.mark.parametrize("busy", [False, True])
def test_long_calls_are_decided_rightly_on_any_machine(
    simulate: Any, busy: bool, relative: float, outcome: str
) -> None:
    generator = np.random.default_rng([50, busy, round(100 * relative)])
    outcomes: list[str] = []
    for _ in range(60):
        timings = simulate(generator, rounds=150, ratio=2 * relative, busy=busy, candidate_ms=50.0)
        outcomes.append(judge_speed(timings, TWICE, budget_spent=True).outcome)
    assert outcomes.count(outcome) >= 59
    assert set(outcomes) <= {outcome, "inconclusive"}


def test_long_calls_at_the_threshold_keep_the_error_rate(simulate: Any) -> None:
    generator = np.random.default_rng([50, 1, 100])
    outcomes = []
    for _ in range(100):
        timings = simulate(generator, rounds=300, ratio=2.0, busy=True, candidate_ms=50.0)
        outcomes.append(judge_speed(timings, TWICE, budget_spent=True).outcome)
    # Each error has a probability of 0.01 at most: 5 of 100 or more, one of 0.3%.
    assert outcomes.count("pass") < 5
    assert outcomes.count("fail") < 5


def test_wall_time_that_contradicts_leaves_long_calls_undecided(make_timings: Any) -> None:
    verdict = judge_speed(long_calls(make_timings, 1.8, 1.4), TWICE, budget_spent=True)
    assert verdict.outcome == "inconclusive"
    assert "wall time says faster, CPU time says slower" in verdict.reason


def starts(make_timings: Any, ratios: list[float], rounds: int = ROUNDS_PER_START) -> PairedTimings:
    generator = np.random.default_rng(1)
    each = np.repeat(ratios, rounds)
    candidate = 1e6 * generator.lognormal(0, 0.02, len(each))
    baseline = each * candidate
    timings = make_timings(baseline, candidate, baseline, candidate)
    attempts = np.repeat(np.arange(len(ratios)), rounds)
    changed: PairedTimings = dataclasses.replace(timings, attempt=attempts)
    return changed


@pytest.mark.parametrize(("ratio", "outcome"), [(1.5, "fail"), (3.0, "pass")])
def test_nine_starts_that_agree_decide_on_several_threads(
    make_timings: Any, ratio: float, outcome: str
) -> None:
    timings = starts(make_timings, [ratio] * 9)
    verdict = judge_speed(timings, TWICE, budget_spent=False, threads=2)
    assert verdict.outcome == outcome
    assert "by wall time of 9 pairs of processes" in verdict.reason
    assert verdict.details["channels"]["starts"]["units"] == 9
    assert speed_decided(timings, TWICE, threads=2)
    assert not speed_decided(starts(make_timings, [ratio] * 8), TWICE, threads=2)


def test_one_lasting_difference_between_two_processes_is_one_sign(make_timings: Any) -> None:
    # Identical models whose processes differ by a third for as long as they live.
    generator = np.random.default_rng(4)
    equal = Threshold(1.0, "at_least")
    wrong = {"one pair": 0, "starts": 0}
    for _ in range(60):
        ratios = generator.choice([0.7, 1 / 0.7], 12).tolist()
        timings = starts(make_timings, ratios)
        verdict = judge_speed(timings, equal, budget_spent=True, threads=2)
        wrong["starts"] += verdict.outcome != "inconclusive"
        first = starts(make_timings, ratios[:1], 60)
        wrong["one pair"] += judge_speed(first, equal, budget_spent=True).outcome != "inconclusive"
    assert wrong["one pair"] == 60
    assert wrong["starts"] <= 2


def test_an_incomplete_start_is_left_out(make_timings: Any) -> None:
    timings = starts(make_timings, [1.5, 3.0], 10)
    assert start_ratios(timings.between(0, 19), 10) == pytest.approx([1.5])
    assert len(start_ratios(timings.between(0, 9), 10)) == 0
    verdict = judge_speed(timings.between(0, 9), TWICE, budget_spent=True, threads=2)
    assert (verdict.outcome, verdict.observed) == ("inconclusive", None)
    assert "at least 90 rounds are needed" in verdict.reason
