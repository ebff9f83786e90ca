from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pytest_edgeai.judge.retention import (
    PairedCounts,
    accuracy_samples_needed,
    can_ever_decide,
    decide_retention,
    retention_interval,
    retention_p_value,
    retention_score,
    samples_to_decide,
    samples_to_ever_decide,
)

counts_strategy = st.builds(
    PairedCounts,
    both=st.integers(0, 150),
    lost=st.integers(0, 30),
    gained=st.integers(0, 30),
    neither=st.integers(0, 40),
).filter(lambda counts: counts.both + counts.lost > 0)


def reference_score(n11: int, n10: int, n01: int, n00: int, theta: float) -> float:
    """Nam and Blackwelder's statistic as printed, with all samples in the formula."""
    n = n11 + n10 + n01 + n00
    m = n11 + n10 + n01
    a = -theta * (1 + theta) * m
    b = -(1 - theta**2) * n11 + theta**2 * n10 + (2 * theta**2 - 1) * n01
    c = n01 * theta * (1 - theta)
    r = (-b - math.sqrt(max(b * b - 4 * a * c, 0))) / (2 * a)
    s = 1 - n00 / n
    q01 = s * r
    q10 = (1 - theta) * s + theta * q01
    variance = n * theta * (q01 + q10)
    if variance < 1e-12:
        return 0.0
    return ((n11 + n01) - theta * (n11 + n10)) / math.sqrt(variance)


@given(counts_strategy, st.floats(0.5, 1.3))
def test_score_is_the_published_one(counts: PairedCounts, theta: float) -> None:
    expected = reference_score(counts.both, counts.lost, counts.gained, counts.neither, theta)
    assert retention_score(counts, theta) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(counts_strategy, st.sampled_from([0.8, 0.95, 0.99, 1.0]))
@settings(max_examples=60, deadline=None)
def test_decision_never_goes_beyond_the_score_test(counts: PairedCounts, theta: float) -> None:
    z = reference_score(counts.both, counts.lost, counts.gained, counts.neither, theta)
    reference = "pass" if z > 1.6448537 else "fail" if z < -1.6448537 else "undecided"
    assert decide_retention(counts, theta, 0.05) in (reference, "undecided")


def test_decision_is_the_score_test_where_samples_are_many() -> None:
    generator = np.random.default_rng(3)
    differing = 0
    for retained in (0.93, 0.95, 0.97):
        for _ in range(15):
            gained = 0.01
            both = retained * 0.9 - gained
            n11, n10, n01, n00 = generator.multinomial(
                1500, [both, 0.9 - both, gained, 0.09]
            ).tolist()
            z = reference_score(n11, n10, n01, n00, 0.95)
            reference = "pass" if z > 1.6448537 else "fail" if z < -1.6448537 else "undecided"
            decision = decide_retention(PairedCounts(n11, n10, n01, n00), 0.95, 0.05)
            assert decision in (reference, "undecided")
            differing += decision != reference
    assert differing <= 2


def _edge(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """First integer in [low, high] for which a rising condition holds; high + 1 if none."""
    while low <= high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle - 1
        else:
            low = middle + 1
    return low


@pytest.mark.parametrize("informative", [3, 5, 20, 52, 60, 87])
def test_exact_error_rate_on_few_samples(informative: int) -> None:
    # Every table with up to 15 gains is weighed by its probability at a true ratio of exactly the
    # threshold; the rest counts as decided wrongly. The uncorrected score test reaches 0.085 here.
    theta, alpha = 0.95, 0.05
    most = min(15, informative)
    gained = np.arange(most + 1)
    passes, fails = [], []
    for k in gained.tolist():
        rest = informative - k

        def says(lost: int, wanted: str, k: int = k, rest: int = rest) -> bool:
            counts = PairedCounts(rest - lost, lost, k, 0)
            return decide_retention(counts, theta, alpha) == wanted

        passes.append(_edge(0, rest, lambda lost, says=says: not says(lost, "pass")) - 1)  # type: ignore[misc]
        fails.append(_edge(0, rest, lambda lost, says=says: says(lost, "fail")))  # type: ignore[misc]
    for rate in (0.0, 0.005, 0.01, 0.02, 0.05):
        weight = stats.binom.pmf(gained, informative, rate)
        loss = ((1 - theta) + theta * rate) / (1 - rate)
        missing = float(stats.binom.sf(most, informative, rate))
        passed = weight @ stats.binom.cdf(passes, informative - gained, loss)
        failed = weight @ stats.binom.sf(np.array(fails) - 1, informative - gained, loss)
        assert passed + missing <= alpha
        assert failed + missing <= alpha


def test_a_handful_of_right_answers_proves_nothing() -> None:
    assert decide_retention(PairedCounts(5, 0, 0, 0), 0.95, 0.05) == "undecided"
    # The score test alone passes from 52 on, where chance still does so with 0.95^52 = 0.069.
    assert decide_retention(PairedCounts(52, 0, 0, 0), 0.95, 0.05) == "undecided"
    assert decide_retention(PairedCounts(58, 0, 0, 0), 0.95, 0.05) == "undecided"
    assert decide_retention(PairedCounts(59, 0, 0, 0), 0.95, 0.05) == "pass"


@settings(max_examples=12, deadline=None)
@given(counts_strategy, st.sampled_from([0.9, 0.95, 1.0]))
def test_interval_contains_the_ratio_and_agrees_with_the_decision(
    counts: PairedCounts, theta: float
) -> None:
    low, high = retention_interval(counts, theta, 0.05)
    decision = decide_retention(counts, theta, 0.05)
    assert low <= counts.ratio
    assert high is None or high >= counts.ratio
    assert (decision == "pass") == (low >= theta)
    assert (decision == "fail") == (high is not None and high <= theta)


def test_interval_agrees_with_the_asymptotic_one_on_many_samples() -> None:
    counts = PairedCounts(6000, 120, 60, 300)
    low, high = retention_interval(counts, 0.95, 0.05)
    assert high is not None
    assert reference_score(6000, 120, 60, 300, low) == pytest.approx(1.645, abs=0.02)
    assert reference_score(6000, 120, 60, 300, high) == pytest.approx(-1.645, abs=0.02)


@settings(max_examples=40, deadline=None)
@given(counts_strategy.filter(lambda c: c.both > 0), st.sampled_from([0.9, 0.95]))
def test_losing_one_more_sample_never_helps(counts: PairedCounts, theta: float) -> None:
    worse = PairedCounts(counts.both - 1, counts.lost + 1, counts.gained, counts.neither)
    order = ["fail", "undecided", "pass"]
    before, after = (decide_retention(c, theta, 0.05) for c in (counts, worse))
    assert order.index(after) <= order.index(before)


@given(st.integers(1, 300), st.integers(0, 300))
def test_samples_that_both_get_wrong_cancel_out(both: int, neither: int) -> None:
    with_them = PairedCounts(both, 2, 1, neither)
    without = PairedCounts(both, 2, 1, 0)
    assert retention_score(with_them, 0.95) == retention_score(without, 0.95)


def test_exact_p_value_is_the_binomial_one_without_gains() -> None:
    # With no gain possible the losses are Binomial(m, 1 - theta); 0.001 is the price of the
    # restriction to the plausible nuisance parameters.
    p = retention_p_value(PairedCounts(99, 1, 0, 0), 0.95, more=True)
    assert p >= stats.binom.cdf(1, 100, 0.05) + 0.001 - 1e-9
    assert p <= stats.binom.cdf(1, 100, 0.05) + 0.03


def test_threshold_of_one_is_mcnemars_test() -> None:
    assert retention_score(PairedCounts(50, 9, 4, 3), 1.0) == pytest.approx(-5 / math.sqrt(13))
    assert retention_score(PairedCounts(50, 0, 0, 3), 1.0) == 0.0
    assert decide_retention(PairedCounts(5000, 0, 0, 0), 1.0, 0.05) == "undecided"
    assert decide_retention(PairedCounts(50, 0, 12, 0), 1.0, 0.05) == "pass"


def test_score_refuses_what_it_cannot_test() -> None:
    with pytest.raises(ValueError, match="positive ratio"):
        retention_score(PairedCounts(0, 0, 0, 9), 0.95)
    with pytest.raises(ValueError, match="positive ratio"):
        retention_score(PairedCounts(9, 0, 0, 0), 0.0)


@pytest.mark.parametrize(
    ("retention", "published"), [(0.96, 4816), (0.97, 1105), (0.98, 443), (0.99, 218), (1.0, 116)]
)
def test_planned_sample_sizes(retention: float, published: int) -> None:
    assert accuracy_samples_needed(0.95, retention) == pytest.approx(published, rel=0.03)


@pytest.mark.parametrize("retention", [0.99, 1.0])
def test_planned_sample_sizes_have_the_power(retention: float) -> None:
    n = accuracy_samples_needed(0.95, retention)
    both = retention * 0.95 - 0.005
    cells = [both, 0.95 - both, 0.005, 0.05 - 0.005]

    @cache
    def passes(n11: int, n10: int, n01: int) -> bool:
        return decide_retention(PairedCounts(n11, n10, n01, 0), 0.95, 0.05) == "pass"

    draws = np.random.default_rng(8).multinomial(n, cells, size=500)
    assert np.mean([passes(*map(int, row[:3])) for row in draws]) >= 0.87


def test_planning_refuses_the_impossible() -> None:
    with pytest.raises(ValueError, match="no number of samples"):
        accuracy_samples_needed(0.95, 0.95)
    assert (
        samples_to_decide(
            theta=0.95, retention=0.95, baseline_accuracy=1, gain_rate=0, power=0.9, alpha=0.05
        )
        is None
    )


@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.95, 0.99, 1.0, 1.02])
def test_samples_to_ever_decide_is_the_smallest_number(threshold: float) -> None:
    n = samples_to_ever_decide(threshold)
    assert can_ever_decide(n, threshold)
    assert not can_ever_decide(n - 1, threshold)
    if threshold < 1:
        assert threshold**n + 0.001 <= 0.05
    with pytest.raises(ValueError, match="positive number"):
        samples_to_ever_decide(0.0)
