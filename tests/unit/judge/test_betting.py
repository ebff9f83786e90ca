from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy import special

from pytest_edgeai.judge.betting import (
    decide_mean,
    log_capital,
    mean_bounds,
    values_to_decide,
)

PAGE = Path(__file__).parents[3] / "docs" / "production-shadow.md"
LIMIT, ALPHA = 0.95, 0.05
LOOKS = (64, 96, 144, 216, 324, 486, 729, 1093, 1640, 2460)
TRIALS = 400


def drawn(mean: float, seed: int) -> list[np.ndarray[tuple[int], np.dtype[np.float64]]]:
    generator = np.random.default_rng(seed)
    return [(generator.random(LOOKS[-1]) < mean).astype(np.float64) for _ in range(TRIALS)]


def first_decision(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> str:
    for look in LOOKS:
        decision = decide_mean(values[:look], LIMIT, ALPHA)
        if decision != "undecided":
            return decision
    return "undecided"


@cache
def shares(mean: float, seed: int) -> dict[str, float]:
    found = [first_decision(values) for values in drawn(mean, seed)]
    return {name: found.count(name) / TRIALS for name in ("pass", "fail", "undecided")}


def promised(table: str) -> list[list[float]]:
    """Return the rows of a table of the page."""
    text = PAGE.read_text(encoding="utf-8")
    rows = text.partition(f"<!-- table: {table} -->\n")[2].partition("\n\n")[0].splitlines()[2:]
    return [[float(cell) for cell in row.strip("|").split("|")] for row in rows]


def test_the_page_states_what_is_simulated() -> None:
    rows = promised("shadow")
    assert [row[0] for row in rows] == [0.90, 0.95, 0.98]
    for (mean, *stated), seed in zip(rows, (3, 1, 2), strict=True):
        found = shares(mean, seed)
        assert list(found.values()) == pytest.approx(stated, abs=0.015)


@pytest.mark.parametrize(("limit", "count"), [(0.90, 43), (0.95, 88), (0.99, 449)])
def test_the_page_states_how_many_requests_it_takes(limit: float, count: int) -> None:
    assert decide_mean(np.ones(count), limit, ALPHA) == "pass"
    assert decide_mean(np.ones(count - 1), limit, ALPHA) == "undecided"
    assert f"| {limit:.2f} | {count} |" in PAGE.read_text(encoding="utf-8")


def test_at_the_limit_each_error_stays_below_its_rate_over_all_looks() -> None:
    found = shares(LIMIT, 1)
    assert found["pass"] <= ALPHA
    assert found["fail"] <= ALPHA


def test_away_from_the_limit_it_decides() -> None:
    assert shares(0.98, 2)["pass"] >= 0.95
    assert shares(0.90, 3)["fail"] >= 0.95


def test_a_fixed_test_that_looks_as_often_would_err_more() -> None:
    """What the simulation would show if looking again and again were not paid for."""

    def naive(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> bool:
        return any(
            special.bdtrc(values[:look].sum() - 1, look, LIMIT) <= ALPHA
            if values[:look].sum()
            else False
            for look in LOOKS
        )

    assert sum(map(naive, drawn(LIMIT, 1))) / TRIALS > 2 * ALPHA


def test_the_capital_of_zeros_and_ones_is_that_of_the_uniform_mixture() -> None:
    """Against the incomplete beta function: the average of q^k (1-q)^(n-k) over all q above."""
    n, k = 300, 294
    values = np.repeat([1.0, 0.0], [k, n - k])
    tail = special.betaln(k + 1, n - k + 1) + math.log(1 - special.betainc(k + 1, n - k + 1, LIMIT))
    expected = tail - math.log(1 - LIMIT) - k * math.log(LIMIT) - (n - k) * math.log(1 - LIMIT)
    assert log_capital(values, LIMIT, "above") == pytest.approx(expected, abs=0.01)


def test_shares_between_zero_and_one_carry_more_than_their_rounding() -> None:
    close = np.full(40, 0.97)
    assert decide_mean(close, 0.80, ALPHA) == "pass"
    assert decide_mean(close, 0.80, ALPHA) == decide_mean(close[::-1], 0.80, ALPHA)
    assert decide_mean(np.full(40, 0.60), 0.80, ALPHA) == "fail"


def test_the_interval_is_what_is_not_rejected() -> None:
    values = np.repeat([1.0, 0.0], [470, 30])
    low, high = mean_bounds(values, ALPHA)
    assert low < values.mean() < high
    assert decide_mean(values, low - 1e-3, ALPHA) == "pass"
    assert decide_mean(values, low + 1e-3, ALPHA) == "undecided"
    assert decide_mean(values, high + 1e-3, ALPHA) == "fail"
    assert mean_bounds(np.ones(20), ALPHA)[1] == 1.0
    assert mean_bounds(np.zeros(20), ALPHA)[0] == 0.0


def test_the_forecast_is_what_decides() -> None:
    seen = np.ones(40)
    needed = values_to_decide(seen, LIMIT, ALPHA)
    assert needed is not None
    assert decide_mean(np.ones(40 + needed), LIMIT, ALPHA) == "pass"
    assert decide_mean(np.ones(40 + needed - 2), LIMIT, ALPHA) == "undecided"
    at_the_limit = np.repeat([1.0, 0.0], [95, 5])
    assert values_to_decide(at_the_limit, LIMIT, ALPHA) is None
    assert values_to_decide(np.zeros(0), LIMIT, ALPHA) is None
