from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from pytest_edgeai.judge.load_queue import waits
from pytest_edgeai.load_records import LoadBounds, LoadRun
from pytest_edgeai.production.load_rates import MOST_DISTURBED, MOST_PER_SECOND, RESOLUTION, Search

MS = 1_000_000
BOUNDS = LoadBounds(99.0, 50.0 * MS, None, None, 1e10, "")
NOBODY: Any = None


def run_at(rate: float, quiet_ms: float = 5.0, call_ms: float = 5.0) -> LoadRun:
    scheduled = np.cumsum(np.random.default_rng(0).exponential(1e9 / rate, 1000)).astype(np.int64)
    service = np.full(1000, int(call_ms * MS))
    waited = waits(scheduled, service).astype(np.int64)
    return LoadRun(
        "Server",
        rate,
        1.0,
        True,
        1,
        np.zeros(1000, dtype=np.int64),
        scheduled,
        waited,
        waited + service,
        service,
        np.full(1000, int(quiet_ms * MS)),
        np.zeros(1000, dtype=np.bool_),
    )


def test_a_search_begins_below_the_prediction_and_closes_in() -> None:
    search = Search(NOBODY, mean_ns=5e6, predicted=150.0)
    assert 0.9 * 150 < search.next_rate() < 150
    search.note(run_at(100), BOUNDS)
    assert (search.low, search.high) == (100, math.inf)
    assert search.next_rate() == pytest.approx(100 * RESOLUTION)
    search.note(run_at(195), BOUNDS)
    assert search.high == 195
    assert search.next_rate() == pytest.approx(math.sqrt(100 * 195))
    assert not search.is_done
    search.high = 110
    assert search.is_done


def test_after_an_overload_it_tries_what_was_answered() -> None:
    search = Search(NOBODY, mean_ns=5e6, predicted=1000.0)
    search.note(run_at(1000), BOUNDS)
    assert search.next_rate() == pytest.approx(0.85 * 200, rel=0.02)


def test_a_disturbed_run_is_taken_again_but_not_for_ever() -> None:
    search = Search(NOBODY, mean_ns=5e6, predicted=110.0)
    for _ in range(MOST_DISTURBED):
        search.note(run_at(90, quiet_ms=3.0, call_ms=10.5), BOUNDS)
        assert search.high == math.inf
    search.note(run_at(90, quiet_ms=3.0, call_ms=10.5), BOUNDS)
    assert search.high == 90


def test_more_than_python_can_pass_on_is_not_tried() -> None:
    search = Search(NOBODY, mean_ns=1e3, predicted=900_000.0)
    assert search.next_rate() == MOST_PER_SECOND
    search.low = MOST_PER_SECOND
    assert search.is_done
