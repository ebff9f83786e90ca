from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

from pytest_edgeai.judge.statistics import (
    block_minima,
    bootstrap_quantile_ratio,
    crossing_counts,
    effective_share,
    mean_margin,
    mean_ratio_interval,
    median_interval,
    quantile_bound,
    quantile_samples_needed,
    sign_channel,
    sign_log_evidence,
    units_to_decide,
)


@pytest.mark.parametrize(("above", "units"), [(0, 0), (0, 7), (7, 7), (5, 9), (40, 60), (31, 60)])
def test_evidence_is_the_mixture_of_likelihood_ratios(above: int, units: int) -> None:
    def ratio(p: float) -> float:
        return float(2 * p**above * (1 - p) ** (units - above) * 2**units)

    mixed, _ = integrate.quad(ratio, 0.5, 1)
    assert float(sign_log_evidence(above, units)) == pytest.approx(math.log(mixed), abs=1e-7)


@pytest.mark.parametrize("units", [1, 5, 12])
def test_evidence_is_a_martingale_under_the_hypothesis(units: int) -> None:
    # E[evidence after one more fair sign | k of n] equals the evidence for k of n, the property
    # that Ville's inequality rests on; for the mixture over p it holds in expectation over k.
    def expectation(n: int) -> float:
        k = np.arange(n + 1)
        return float((stats.binom.pmf(k, n, 0.5) * np.exp(sign_log_evidence(k, n))).sum())

    assert expectation(units) == pytest.approx(1.0)
    for k in range(units + 1):
        now = math.exp(float(sign_log_evidence(k, units)))
        then = np.exp(sign_log_evidence(np.array([k, k + 1]), units + 1)).mean()
        assert then == pytest.approx(now)


def test_evidence_keeps_its_digits_in_the_far_tail() -> None:
    # All of 900 below: ln of the integral of 2 * 2^900 (1-p)^900 over (1/2, 1) is -ln(901).
    assert float(sign_log_evidence(0, 900)) == pytest.approx(-math.log(901))


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_crossing_counts_are_where_the_evidence_reaches_its_bound(alpha: float) -> None:
    counts = crossing_counts(alpha, 150)
    assert counts.shape == (150,)
    for n in range(1, 151):
        enough = np.nonzero(sign_log_evidence(np.arange(n + 1), n) >= math.log(1 / alpha))[0]
        assert counts[n - 1] == (enough[0] if len(enough) else n + 1)


@given(st.lists(st.booleans(), max_size=120))
def test_channel_decides_at_the_first_crossing(signs: list[bool]) -> None:
    channel = sign_channel(np.array(signs, dtype=bool), 0.05)
    expected, at, k = "undecided", None, 0
    for n, sign in enumerate(signs, start=1):
        k += sign
        base = special.betaln(k + 1, n - k + 1) + (n + 1) * math.log(2)
        half = special.betainc(k + 1, n - k + 1, 0.5)
        if base + math.log1p(-half) >= math.log(20):
            expected, at = "pass", n
        elif half > 0 and base + math.log(half) >= math.log(20):
            expected, at = "fail", n
        if at is not None:
            break
    assert (channel.decision, channel.decided_at) == (expected, at)
    mirrored = sign_channel(~np.array(signs, dtype=bool), 0.05)
    swap = {"pass": "fail", "fail": "pass", "undecided": "undecided"}
    assert mirrored.decision == swap[channel.decision]


@settings(max_examples=30)
@given(st.integers(6, 60), st.integers(0, 60))
def test_forecast_decides_if_the_share_stays(units: int, above: int) -> None:
    above = min(above, units)
    signs = np.array([True] * above + [False] * (units - above))
    channel = sign_channel(np.random.default_rng(0).permutation(signs), 0.01)
    further = units_to_decide(channel, 0.01)
    if channel.decision != "undecided":
        assert further == 0
    elif further is not None:
        share = max(above + 0.5, units - above + 0.5) / (units + 1)
        reached = max(above, units - above) + share * further
        assert float(sign_log_evidence(reached, units + further)) >= math.log(100)


def test_forecast_gives_up_on_a_ratio_at_the_threshold() -> None:
    channel = sign_channel(np.arange(400) % 2 == 0, 0.01)
    assert units_to_decide(channel, 0.01) is None


def test_block_minima_drop_the_incomplete_block() -> None:
    assert block_minima(np.array([5, 3, 9, 7, 8, 1, 0]), 3).tolist() == [3, 1]
    assert block_minima(np.array([1, 2]), 3).shape == (0,)


def test_effective_share_of_independent_and_dependent_signs() -> None:
    generator = np.random.default_rng(5)
    assert effective_share(generator.random(4000) < 0.5) > 0.9
    sticky = np.cumsum(generator.random(4000) < 0.3) % 2 == 0  # lag-1 correlation 0.4
    assert effective_share(sticky) == pytest.approx(0.6 / 1.4, abs=0.05)
    assert effective_share(np.ones(50, dtype=bool)) == 1
    assert effective_share(np.arange(50) % 2 == 0) == 1


def test_median_interval_uses_binomial_order_statistics() -> None:
    values = np.arange(1.0, 101.0)
    median, low, high = median_interval(values, 0.95)
    assert (median, low, high) == (50.5, 40.0, 61.0)  # Conover 1999, table for n = 100
    assert median_interval(np.array([2.0]), 0.95) == (2.0, None, None)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_median_interval_is_that_of_scipy(confidence: float) -> None:
    for n in (1, 5, 8, 30, 101, 900):
        values = np.random.default_rng(n).normal(size=n)
        median, low, high = median_interval(values, confidence)
        test: Any = stats.quantile_test(values, q=median, p=0.5)
        expected = test.confidence_interval(confidence)
        np.testing.assert_equal(low, expected.low if np.isfinite(expected.low) else None)
        np.testing.assert_equal(high, expected.high if np.isfinite(expected.high) else None)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(20, 200))
def test_bootstrap_interval_contains_the_ratio_and_scales(seed: int, rounds: int) -> None:
    generator = np.random.default_rng(seed)
    a, b = generator.lognormal(size=rounds), generator.lognormal(size=rounds)

    def ratio(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
        return bootstrap_quantile_ratio(
            x, y, quantile=0.95, confidence=0.95, resamples=100, seed=seed
        )

    observed, low, high = ratio(a, b)
    assert low <= observed <= high
    assert observed == pytest.approx(np.percentile(a, 95) / np.percentile(b, 95))
    assert ratio(2 * a, b) == pytest.approx((2 * observed, 2 * low, 2 * high))


def test_bootstrap_interval_covers_the_true_ratio() -> None:
    generator = np.random.default_rng(11)
    covered = 0
    for seed in range(100):
        a, b = 1.3 * generator.lognormal(0, 0.2, 200), generator.lognormal(0, 0.2, 200)
        _, low, high = bootstrap_quantile_ratio(
            a, b, quantile=0.95, confidence=0.95, resamples=300, seed=seed
        )
        covered += low <= 1.3 <= high
    assert covered >= 88


def test_samples_for_a_quantile_match_loadgen_and_its_definition() -> None:
    assert quantile_samples_needed(0.99, 0.95) == 299
    assert quantile_samples_needed(0.99, 0.99) == 459
    assert quantile_samples_needed(0.99, 0.99, over=1) == 662  # MLPerf LoadGen, p99 minimum
    n = quantile_samples_needed(0.95, 0.95, over=4)
    assert stats.binom.cdf(4, n, 0.05) <= 0.05 < stats.binom.cdf(4, n - 1, 0.05)


@given(st.integers(0, 800), st.integers(0, 60), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_quantile_bound_follows_the_binomial(n: int, over: int, quantile: float) -> None:
    over = min(over, n)
    values = np.array([2.0] * over + [1.0] * (n - over))
    bound = quantile_bound(values, 1.0, quantile=quantile, confidence=0.95)
    p, alpha = 1 - quantile, 1 - 0.95
    expected = "undecided"
    if n and stats.binom.cdf(over, n, p) <= alpha:
        expected = "pass"
    elif over and stats.binom.sf(over - 1, n, p) <= alpha:
        expected = "fail"
    assert (bound.decision, bound.over, bound.samples) == (expected, over, n)
    assert (bound.samples_needed <= n) == (expected == "pass")


@pytest.mark.parametrize("quantile", [0.9, 0.99])
@pytest.mark.parametrize("n", [100, 299, 500, 1000])
def test_quantile_bound_errs_at_most_as_promised(quantile: float, n: int) -> None:
    # Exactly at the limit, over the whole distribution of the number of calls over it.
    over = np.arange(n + 1)
    probability = stats.binom.pmf(over, n, 1 - quantile)
    decisions = []
    for k in over[probability > 1e-12]:
        values = np.array([2.0] * k + [1.0] * (n - k))
        decisions.append(quantile_bound(values, 1.0, quantile=quantile, confidence=0.95).decision)
    kept = probability[probability > 1e-12]
    assert kept[[d == "pass" for d in decisions]].sum() <= 0.05
    assert kept[[d == "fail" for d in decisions]].sum() <= 0.05


def test_mean_margin_is_the_t_test_and_averages_groups() -> None:
    generator = np.random.default_rng(2)
    margins = generator.normal(0.2, 1, 80)
    result = mean_margin(margins, alpha=0.05)
    assert result.t == pytest.approx(stats.ttest_1samp(margins, 0.0).statistic)
    assert result.decision == (
        "pass"
        if stats.ttest_1samp(margins, 0.0, alternative="greater").pvalue < 0.05
        else "undecided"
    )
    documents = np.repeat([f"d{i}" for i in range(8)], 10)
    grouped = mean_margin(margins, alpha=0.05, groups=documents)
    assert grouped.units == 8
    assert grouped.t == pytest.approx(
        stats.ttest_1samp(margins.reshape(8, 10).mean(axis=1), 0.0).statistic
    )


def test_mean_margin_without_variance() -> None:
    assert mean_margin(np.full(5, 0.1), alpha=0.05).decision == "pass"
    assert mean_margin(np.full(5, -0.1), alpha=0.05).decision == "fail"
    assert mean_margin(np.zeros(5), alpha=0.05).decision == "undecided"
    with pytest.raises(ValueError, match="at least 2 units"):
        mean_margin(np.array([1.0]), alpha=0.05)


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(3, 60), st.floats(0.3, 3.0))
def test_mean_ratio_interval_is_the_inverted_t_test(seed: int, n: int, theta: float) -> None:
    generator = np.random.default_rng(seed)
    base, candidate = generator.exponential(size=n), generator.exponential(size=n)
    low, high = mean_ratio_interval(base, candidate, confidence=0.9)
    ratio = base.mean() / candidate.mean()
    assert low <= ratio
    assert high is None or ratio <= high
    if (low, high) == (0.0, None):
        return  # neither mean is distinguishable from zero: nothing is known about their ratio
    decision = mean_margin(base / theta - candidate, alpha=0.05).decision
    assert (decision == "pass") == (theta < low)
    assert (decision == "fail") == (high is not None and theta > high)
