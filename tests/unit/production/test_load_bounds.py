from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pytest_edgeai.load_records import LoadPlan, LoadRun
from pytest_edgeai.production.load_bounds import affordable_percentile, make_bounds

MS = 1_000_000
PLAN = LoadPlan(1.0, None, None, None, None, None, 1, 0, 45.0, False)


def alone(call_ms: float, token_ms: tuple[float, ...] = ()) -> LoadRun:
    service = np.full(100, int(call_ms * MS), dtype=np.int64)
    zeros = np.zeros(100, dtype=np.int64)
    tokens = np.tile(np.asarray(token_ms) * MS, (100, 1)) if token_ms else None
    return LoadRun(
        "SingleStream",
        0.0,
        1.0,
        True,
        1,
        zeros,
        np.cumsum(service),
        zeros,
        service,
        service,
        service,
        np.zeros(100, dtype=np.bool_),
        tokens,
    )


def test_the_bound_follows_from_the_baseline_and_says_so() -> None:
    bounds = make_bounds(PLAN, 99.0, alone(5))
    assert bounds.latency_ns == 50 * MS
    assert bounds.source == (
        "50 ms, the most of 10 times the baseline's median call of 5 ms, 3 times its p99 of 5 ms "
        "and 20 ms"
    )
    assert bounds.timeout_ns == 10e9
    assert make_bounds(PLAN, 99.0, alone(0.05)).latency_ns == 20 * MS
    tailed = alone(5)
    tailed.service_ns[::10] = 40 * MS
    assert make_bounds(PLAN, 95.0, tailed).latency_ns == 120 * MS
    assert make_bounds(PLAN, 99.0, alone(500)).timeout_ns == 500e9


def test_what_is_stated_stands() -> None:
    bounds = make_bounds(replace(PLAN, latency_ns=7.0 * MS), 99.0, alone(5))
    assert (bounds.latency_ns, bounds.source) == (7 * MS, "7 ms as stated")
    assert make_bounds(replace(PLAN, latency_ns=7.0 * MS), 99.0, None) == bounds


def test_language_models_are_bound_by_their_tokens() -> None:
    plan = replace(PLAN, output_tokens=3, streams=2)
    bounds = make_bounds(plan, 99.0, alone(60, (40, 10, 10)))
    assert bounds.latency_ns is None
    assert bounds.first_token_ns == 400 * MS
    assert bounds.interval_ns == 60 * MS
    assert "400 ms to the first token" in bounds.source
    assert "60 ms between tokens" in bounds.source
    stated = replace(plan, first_token_ns=5.0 * MS, interval_ns=1.0 * MS)
    bounds = make_bounds(stated, 99.0, None)
    assert (bounds.first_token_ns, bounds.interval_ns) == (5 * MS, MS)


@pytest.mark.parametrize(
    ("call_ms", "budget_s", "percentile"),
    [
        (0.05, 45, 99),
        (5, 45, 99),
        (15, 45, 97),
        (25, 45, 95),
        (40, 45, 90),
        (400, 45, 90),
        (40, 600, 99),
    ],
)
def test_the_percentile_is_the_highest_that_fits(
    call_ms: float, budget_s: float, percentile: float
) -> None:
    assert affordable_percentile([call_ms / 1e3] * 2, budget_s) == percentile
