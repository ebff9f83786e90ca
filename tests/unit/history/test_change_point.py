"""The change-point test: exact where it can be counted, and its errors by simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.history.change_point import ALPHA, MINIMUM_VALUES, latest_change


def exact_p_value(values: list[float]) -> float:
    """Return the p-value of Pettitt's statistic over all choices of a high and a low level.

    Of a series of two values only their places count, so that all orders can be listed.
    """
    high = max(values)
    n, k = len(values), sum(value == high for value in values)

    def statistic(places: tuple[int, ...]) -> float:
        signs = np.full(n, -k / n)
        signs[list(places)] += 1
        return round(float(np.abs(np.cumsum(signs)[:-1]).max()), 9)

    observed = statistic(tuple(i for i, value in enumerate(values) if value == high))
    every = [statistic(places) for places in itertools.combinations(range(n), k)]
    return sum(each >= observed for each in every) / len(every)


@pytest.mark.parametrize(("low", "high"), [(5, 5), (6, 5), (5, 7), (8, 4), (4, 9)])
def test_the_p_value_is_the_exact_one(low: int, high: int) -> None:
    series = [1.0] * low + [2.0] * high
    exact = exact_p_value(series)
    found = latest_change(series)
    assert found is not None
    assert (found.index, found.before, found.after) == (low, 1.0, 2.0)
    # A proportion of 1999 draws lies within 4 standard errors, and the observed order counts once.
    error = 4 * math.sqrt(exact * (1 - exact) / 1999) + 1 / 2000
    assert found.p_value == pytest.approx(exact, abs=error)


def test_a_stationary_series_shows_a_change_with_the_probability_of_the_level() -> None:
    generator = np.random.default_rng(1)
    for noise in (generator.normal, generator.standard_cauchy):
        found = sum(latest_change(list(noise(size=30))) is not None for _ in range(400))
        # P(X > 11) for a binomial of 400 and 1% is 0.08%.
        assert found <= 11
    assert ALPHA == 0.01


def test_a_shift_of_three_standard_deviations_is_found_where_it_is() -> None:
    generator = np.random.default_rng(2)
    shift = np.repeat([0.0, 3.0], [20, 10])
    hits = [latest_change(list(generator.normal(size=30) + shift)) for _ in range(200)]
    assert sum(hit is not None for hit in hits) >= 198
    assert np.median([abs(hit.index - 20) for hit in hits if hit]) <= 1


def test_the_latest_of_several_changes_counts() -> None:
    generator = np.random.default_rng(3)
    levels = np.repeat([1.0, 2.0, 3.0], 12)
    found = latest_change(list(levels + 0.01 * generator.normal(size=36)))
    assert found is not None
    assert found.index == 24
    assert found.before == pytest.approx(2.0, abs=0.05)
    assert found.after == pytest.approx(3.0, abs=0.05)


def test_one_outlier_is_no_change() -> None:
    generator = np.random.default_rng(4)
    values = generator.normal(size=40)
    values[-1] = 1e9
    assert latest_change(list(values)) is None


def test_too_few_values_and_equal_values_show_nothing() -> None:
    assert latest_change([]) is None
    assert latest_change([1.0] * 4 + [9.0] * (MINIMUM_VALUES - 5)) is None
    assert latest_change([0.99] * 50) is None


@given(st.lists(st.floats(-1e300, 1e300), max_size=25))
def test_any_series_has_an_answer_that_is_repeatable_and_blind_to_scale(
    values: list[float],
) -> None:
    found = latest_change(values)
    assert latest_change(values) == found
    doubled = latest_change([value / 4 for value in values])
    ties = len(set(values)) != len({value / 4 for value in values})
    if not ties:
        assert (doubled and (doubled.index, doubled.p_value)) == (
            found and (found.index, found.p_value)
        )
    if found is not None:
        assert 0 < found.index < len(values)
        assert 0 < found.p_value <= ALPHA


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        latest_change([1.0, value])
