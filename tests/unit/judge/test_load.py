from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pytest_edgeai.judge.load import (
    EVIDENCE,
    failed_calls,
    judge_load,
    rate_decision,
    sustained_per_second,
)
from pytest_edgeai.judge.load_queue import waits
from pytest_edgeai.load_records import LoadBounds, LoadPlan, LoadRun, LoadSamples
from pytest_edgeai.records import Threshold

MS = 1_000_000
BOUNDS = LoadBounds(99.0, 50.0 * MS, None, None, 1e10, "50 ms as stated")
PLAN = LoadPlan(1.0, None, 100.0, 50.0 * MS, None, None, 1, 0, 45.0, False)
AT_LEAST = Threshold(1.0, "at_least")


def run_at(
    rate: float, call_ms: float = 5.0, *, seed: int = 0, queries: int = 1000, quiet_ms: float = 0
) -> LoadRun:
    """Return a run with calls of one length; ``quiet_ms`` is their length undisturbed."""
    generator = np.random.default_rng(seed)
    scheduled = np.cumsum(generator.exponential(1e9 / rate, queries)).astype(np.int64)
    service = np.full(queries, int(call_ms * MS), dtype=np.int64)
    waited = waits(scheduled, service).astype(np.int64)
    return LoadRun(
        "Server",
        rate,
        queries / rate,
        True,
        1,
        np.zeros(queries, dtype=np.int64),
        scheduled,
        waited,
        waited + service,
        service,
        np.full(queries, int((quiet_ms or call_ms) * MS), dtype=np.int64),
        np.zeros(queries, dtype=np.bool_),
    )


def samples(*candidate: LoadRun, **changes: object) -> LoadSamples:
    made = LoadSamples(PLAN, BOUNDS, 100.0, "stated", (), candidate, {}, "", 0.0, 20.0, "6.0.17")
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_rate_that_is_kept_passes() -> None:
    verdict = judge_load(samples(run_at(100), run_at(150)), AT_LEAST)
    assert verdict.outcome == "pass"
    assert verdict.observed == pytest.approx(1.5)
    assert verdict.interval == (1.5, None)
    assert verdict.details["error_rate"] == pytest.approx(0.01)
    assert "sustains 150/s" in verdict.reason


def test_a_rate_that_is_too_high_fails_and_what_was_sustained_is_observed() -> None:
    slow = [run_at(100, 12.0, seed=seed) for seed in range(3)]
    verdict = judge_load(samples(*slow, run_at(30, 12.0)), AT_LEAST)
    assert verdict.outcome == "fail"
    assert verdict.observed == pytest.approx(0.3)
    assert verdict.interval == (0.3, 1.0)
    assert "queries were late" in verdict.reason


def test_what_other_processes_did_is_not_failed() -> None:
    slow = [run_at(100, 12.0, seed=seed, quiet_ms=3.0) for seed in range(3)]
    verdict = judge_load(samples(*slow), AT_LEAST)
    assert verdict.outcome == "inconclusive"
    assert "other processes held the machine" in verdict.reason
    assert verdict.advice


def test_nothing_is_failed_where_the_baseline_misses_the_same_arrivals() -> None:
    slow = [run_at(100, 12.0, seed=seed) for seed in range(3)]
    beside = {index: index for index in range(3)}
    verdict = judge_load(samples(*slow, baseline=tuple(slow), paired=beside), AT_LEAST)
    assert verdict.outcome == "inconclusive"
    assert "the baseline, with the same arrivals, missed it as well" in verdict.reason


def test_a_call_that_raises_fails_whatever_the_rate() -> None:
    broken = run_at(100)
    broken.failed[3] = True
    object.__setattr__(broken, "messages", {"ValueError: no": 1})
    verdict = judge_load(samples(broken), AT_LEAST)
    assert verdict.outcome == "fail"
    assert "1 of 1,000 calls raised (ValueError: no)" in verdict.reason


def test_a_call_that_takes_for_ever_is_a_time_out() -> None:
    slow = run_at(100)
    slow.service_ns[5] = 20_000 * MS
    assert failed_calls([slow], BOUNDS) == "1 of 1,000 calls timed out (over 10 s)"


def test_a_process_that_ended_fails() -> None:
    verdict = judge_load(samples(hang="no answer within 9 s (Server)"), AT_LEAST)
    assert verdict.outcome == "fail"
    assert "did not survive the load: no answer within 9 s" in verdict.reason
    assert verdict.observed is None


def test_without_a_run_the_budget_says_what_it_takes() -> None:
    verdict = judge_load(samples(run_at(10), needed_s=91.4), AT_LEAST)
    assert verdict.outcome == "inconclusive"
    assert "one more run takes 91.4 s, the budget of 45 s held 20 s of runs" in verdict.reason


def test_a_baseline_that_sustained_nothing_decides_nothing() -> None:
    made = samples(
        run_at(100), expected_per_second=None, expected_source="the baseline sustained no rate"
    )
    verdict = judge_load(made, AT_LEAST)
    assert verdict.outcome == "inconclusive"
    assert verdict.observed is None


def test_a_threshold_of_another_kind_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="at_least"):
        judge_load(samples(run_at(100)), Threshold(1.0, "at_most"))


def test_a_threshold_that_is_no_number_is_an_error() -> None:
    assert judge_load(samples(run_at(100)), Threshold(float("nan"), "at_least")).outcome == "error"


def test_runs_at_one_rate_add_up() -> None:
    short = [run_at(100, queries=300, seed=seed) for seed in range(2)]
    assert rate_decision(short[:1], BOUNDS, 100.0) == "undecided"
    assert rate_decision(short, BOUNDS, 100.0) == "pass"


def test_the_highest_rate_that_was_proved_and_the_lowest_above_that_was_not() -> None:
    runs = [run_at(100), run_at(150), run_at(220), run_at(210)]
    assert sustained_per_second(runs, BOUNDS) == (150, 210)
    assert sustained_per_second(runs[2:], BOUNDS) == (0.0, 210)


def test_error_rates_at_the_limit() -> None:
    """Calls of which exactly 1% are late: neither decision errs more often than it states.

    Three runs of 700 queries that wait for none, each late with a probability of 1%.
    """
    generator = np.random.default_rng(5)
    outcomes = []
    for _ in range(400):
        runs = []
        for _ in range(3):
            run = run_at(1.0, queries=700)
            run.latency_ns[generator.random(700) < 0.0101] = 60 * MS
            runs.append(run)
        outcomes.append(rate_decision(runs, BOUNDS, 1.0))
    passes, fails = outcomes.count("pass") / 400, outcomes.count("fail") / 400
    assert passes <= 0.04 + 0.02, "three runs and their sum, 1% each"
    assert fails <= 1 / EVIDENCE + 0.01
    assert fails <= 0.01
