"""Statistical procedures for paired latencies, quantiles and losses; arrays in, plain numbers out.

Sources: Ville (1939) for evidence that stays valid at any stopping time; Howard, Ramdas, McAuliffe
and Sekhon (2021), "Time-uniform, nonparametric, nonasymptotic confidence sequences", for the
mixture over the alternative; Clopper and Pearson (1934) and the MLPerf LoadGen early-stopping rule
for quantiles; Fieller (1954) for the interval of a ratio of means; Efron and Tibshirani (1993) for
the bootstrap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

FloatArray: TypeAlias = NDArray[np.float64]
Decision: TypeAlias = Literal["pass", "fail", "undecided"]

_MAXIMUM_FORECAST_UNITS = 1_000_000
_BOOTSTRAP_CHUNK_ELEMENTS = 2_000_000


@dataclass(frozen=True)
class Channel:
    """What one sequence of signs says about the ratio.

    Attributes:
        decision: ``pass`` (ratio above the threshold), ``fail`` (below) or ``undecided``.
        units: number of signs seen (blocks of rounds, or single rounds).
        above: how many of them lay above the threshold.
        decided_at: number of signs at the first crossing; ``None`` while undecided.
        effective_share: effective sample size of the signs divided by ``units``; 1 if independent.
    """

    decision: Decision
    units: int
    above: int
    decided_at: int | None
    effective_share: float


@dataclass(frozen=True)
class QuantileBound:
    """What the calls over a limit say about a latency quantile.

    Attributes:
        decision: ``pass`` if the quantile lies at or under the limit, ``fail`` if over it.
        samples: number of calls.
        over: number of calls over the limit.
        samples_needed: calls at which ``over`` calls over the limit would pass.
    """

    decision: Decision
    samples: int
    over: int
    samples_needed: int


@dataclass(frozen=True)
class MeanMargin:
    """One-sample t-test of a mean against zero.

    Attributes:
        decision: ``pass`` if the mean is above zero, ``fail`` if below.
        mean: mean of the units.
        t: Student's t; infinite where the units do not vary and their mean is not zero.
        units: number of units (groups, where groups were given).
    """

    decision: Decision
    mean: float
    t: float
    units: int


def sign_log_evidence(above: NDArray[Any] | float, units: NDArray[Any] | float) -> FloatArray:
    """Log evidence that more than half of all signs lie above, from ``above`` of ``units``.

    The likelihood of Bernoulli(p), mixed over p uniform on (1/2, 1), against p = 1/2:
    ``betaln(k+1, n-k+1) + (n+1) ln 2 + ln(1 - I_(1/2)(k+1, n-k+1))``. By Ville's inequality its
    exponential exceeds 1/alpha with a probability of at most alpha, whatever rule stops the
    sampling. Evidence for *less* than half is that of ``units - above``.

    Args:
        above: signs above, any shape.
        units: signs in all, broadcastable with ``above``.

    Returns:
        float64 of the broadcast shape, natural logarithms.
    """
    k = np.asarray(above, dtype=np.float64)
    n = np.asarray(units, dtype=np.float64)
    # 1 - I_x(a, b) = I_(1-x)(b, a): keeps its digits where 1 - I would cancel to zero.
    upper_half = special.betainc(n - k + 1, k + 1, 0.5)
    with np.errstate(divide="ignore"):
        log_evidence = special.betaln(k + 1, n - k + 1) + (n + 1) * math.log(2) + np.log(upper_half)
    return np.asarray(log_evidence, dtype=np.float64)


@lru_cache(maxsize=64)
def _crossing_counts(alpha: float, size: int) -> NDArray[np.int64]:
    """For 1..size signs, the fewest signs above at which the evidence reaches 1/alpha.

    ``n + 1`` stands where not even all of ``n`` suffice. A table, because the sampler asks after
    every round and the incomplete beta function costs far more than a comparison.
    """
    n = np.arange(1, size + 1, dtype=np.int64)
    low = np.zeros(size, dtype=np.int64)
    high = n + 1
    while np.any(open_ := low < high):
        middle = (low + high) // 2
        reached = sign_log_evidence(np.minimum(middle, n), n) >= -math.log(alpha)
        high = np.where(open_ & reached, middle, high)
        low = np.where(open_ & ~reached, middle + 1, low)
    return np.asarray(high, dtype=np.int64)


def crossing_counts(alpha: float, units: int) -> NDArray[np.int64]:
    """Return, for 1 to ``units`` signs, the signs above that decide at level ``alpha``.

    Returns:
        int64, shape ``(units,)``; ``n + 1`` where even ``n`` of ``n`` signs do not decide.
    """
    size = 1 << max(6, (units - 1).bit_length())
    return _crossing_counts(alpha, size)[:units]


def sign_channel(above: NDArray[np.bool_], alpha: float) -> Channel:
    """Decide a sequence of signs at its first crossing of 1/alpha, in either direction.

    Args:
        above: bool, shape ``(units,)``, in the order of measuring.
        alpha: bound on the probability of each wrong decision.
    """
    units = len(above)
    if units == 0:
        return Channel("undecided", 0, 0, None, 1.0)
    counts = np.cumsum(above)
    needed = crossing_counts(alpha, units)
    n = np.arange(1, units + 1)
    passes = counts >= needed
    fails = n - counts >= needed
    first_pass = int(np.argmax(passes)) if passes[np.argmax(passes)] else units
    first_fail = int(np.argmax(fails)) if fails[np.argmax(fails)] else units
    decision: Decision = "undecided"
    decided_at = None
    if first_pass != first_fail:
        decision = "pass" if first_pass < first_fail else "fail"
        decided_at = min(first_pass, first_fail) + 1
    return Channel(decision, units, int(counts[-1]), decided_at, effective_share(above))


def block_minima(values: NDArray[Any], block: int) -> NDArray[Any]:
    """Return the minimum of each complete block of ``block`` consecutive values.

    The minimum discards the additive delays of preemption. Shape ``(len(values) // block,)``.
    """
    blocks = len(values) // block
    minima: NDArray[Any] = values[: blocks * block].reshape(blocks, block).min(axis=1)
    return minima


def effective_share(signs: NDArray[np.bool_]) -> float:
    """Effective sample size of ``signs`` as a share of their number: (1 - r) / (1 + r).

    r is the autocorrelation at lag 1, taken as 0 where it is negative or where the signs do not
    vary (first-order autoregressive approximation, Bayley and Hammersley 1946).
    """
    if len(signs) < 3:
        return 1.0
    centered = signs.astype(np.float64) - signs.mean()
    variance = float(centered @ centered)
    if variance == 0:
        return 1.0
    correlation = max(0.0, float(centered[1:] @ centered[:-1]) / variance)
    return (1 - correlation) / (1 + correlation)


def units_to_decide(channel: Channel, alpha: float) -> int | None:
    """Forecast how many further signs a channel needs if the share above stays as it is.

    Returns:
        0 where the channel has decided; ``None`` where a million signs would not decide.
    """
    if channel.decision != "undecided":
        return 0
    share = (channel.above + 0.5) / (channel.units + 1)
    share = max(share, 1 - share)
    above = max(channel.above, channel.units - channel.above)
    further = np.unique(np.geomspace(1, _MAXIMUM_FORECAST_UNITS, 121).astype(np.int64))
    reached = sign_log_evidence(above + share * further, channel.units + further)
    enough = reached >= -math.log(alpha)
    return int(further[np.argmax(enough)]) if enough.any() else None


def median_interval(
    values: FloatArray, confidence: float
) -> tuple[float, float | None, float | None]:
    """Median and its distribution-free interval from order statistics (Conover 1999, 3.2).

    Returns:
        median, lower and upper bound; a bound is ``None`` where there are too few values for it.
    """
    n = len(values)
    # P(at most k of n values lie below the median); as scipy.stats.quantile_test, without the half
    # second that importing scipy.stats takes.
    below = special.bdtr(np.arange(n + 1, dtype=np.float64), n, 0.5)
    tail = (1 - confidence) / 2
    low = int(np.searchsorted(below, tail)) - 1
    high = int(np.argmax(1 - below <= tail))
    ordered = np.sort(values)
    return (
        float(np.median(values)),
        float(ordered[low]) if low >= 0 else None,
        float(ordered[high]) if high < n else None,
    )


def bootstrap_quantile_ratio(
    numerator: FloatArray,
    denominator: FloatArray,
    *,
    quantile: float,
    confidence: float,
    resamples: int,
    seed: int,
) -> tuple[float, float, float]:
    """Ratio of two quantiles of paired samples, with a percentile bootstrap interval.

    Rounds are resampled as pairs, so what hit both in one round stays together.

    Args:
        numerator: float64, shape ``(rounds,)``, positive.
        denominator: the same.
        quantile: for example 0.95.
        confidence: two-sided confidence of the interval.
        resamples: number of bootstrap resamples.
        seed: makes the interval reproducible.

    Returns:
        ratio, lower bound, upper bound.
    """
    rounds = len(numerator)
    generator = np.random.default_rng(seed)
    chunk = max(1, _BOOTSTRAP_CHUNK_ELEMENTS // rounds)
    ratios = []
    for start in range(0, resamples, chunk):
        shape = (min(chunk, resamples - start), rounds)
        index = generator.integers(0, rounds, size=shape)
        above = np.quantile(numerator[index], quantile, axis=1)
        ratios.append(above / np.quantile(denominator[index], quantile, axis=1))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(ratios), [tail, 1 - tail])
    ratio = float(np.quantile(numerator, quantile) / np.quantile(denominator, quantile))
    # With few rounds the percentile interval can lie beside the estimate that is reported.
    return ratio, min(float(low), ratio), max(float(high), ratio)


def binomial_at_most(
    count: NDArray[Any] | int, trials: NDArray[Any] | int, probability: NDArray[Any] | float
) -> FloatArray:
    """P(Binomial(trials, probability) <= count) for integers of any float or integer dtype.

    By the incomplete beta function, ``I_(1-p)(n - k, k + 1)``; arguments are broadcast.
    """
    k = np.asarray(count, dtype=np.float64)
    n = np.asarray(trials, dtype=np.float64)
    inner = special.betainc(np.maximum(n - k, 1), np.maximum(k + 1, 1), 1 - probability)
    return np.asarray(np.where(k >= n, 1.0, np.where(k < 0, 0.0, inner)), dtype=np.float64)


def binomial_more_than(
    count: NDArray[Any] | int, trials: NDArray[Any] | int, probability: NDArray[Any] | float
) -> FloatArray:
    """P(Binomial(trials, probability) > count), the complement of `binomial_at_most`."""
    k = np.asarray(count, dtype=np.float64)
    n = np.asarray(trials, dtype=np.float64)
    inner = special.betainc(np.maximum(k + 1, 1), np.maximum(n - k, 1), probability)
    return np.asarray(np.where(k >= n, 0.0, np.where(k < 0, 1.0, inner)), dtype=np.float64)


def quantile_samples_needed(quantile: float, confidence: float, over: int = 0) -> int:
    """Fewest calls at which ``over`` calls over a limit still prove the quantile to be under it.

    The smallest n with ``P(Binomial(n, 1 - quantile) <= over) <= 1 - confidence``; MLPerf LoadGen's
    early stopping. 299 for p99 at 95% with none over the limit, 459 at 99%.
    """
    alpha = 1 - confidence
    low, high = over, max(1, over + 1)
    while binomial_at_most(over, high, 1 - quantile) > alpha:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if binomial_at_most(over, middle, 1 - quantile) > alpha:
            low = middle
        else:
            high = middle
    return high


def quantile_bound(
    values: NDArray[Any], limit: float, *, quantile: float, confidence: float
) -> QuantileBound:
    """Decide whether a quantile lies at or under ``limit``, by the exact binomial distribution.

    Passes if a system whose quantile is over the limit would show so few calls over it with a
    probability of at most ``1 - confidence``; fails in mirror image (Clopper and Pearson 1934).

    Args:
        values: shape ``(samples,)``.
        limit: in the unit of ``values``.
        quantile: for example 0.99.
        confidence: one-sided, of each decision.
    """
    n = len(values)
    over = int(np.count_nonzero(np.asarray(values) > limit))
    alpha = 1 - confidence
    decision: Decision = "undecided"
    if n and binomial_at_most(over, n, 1 - quantile) <= alpha:
        decision = "pass"
    elif over and binomial_more_than(over - 1, n, 1 - quantile) <= alpha:
        decision = "fail"
    return QuantileBound(decision, n, over, quantile_samples_needed(quantile, confidence, over))


def mean_margin(
    margins: FloatArray, *, alpha: float, groups: NDArray[Any] | None = None
) -> MeanMargin:
    """Decide whether the mean of ``margins`` lies above or below zero, by Student's t-test.

    Args:
        margins: float64, shape ``(samples,)``; positive where the candidate does well enough.
        alpha: one-sided level of each decision.
        groups: shape ``(samples,)``; samples of one group (tokens of one document) are averaged
            first, since they are not independent.

    Raises:
        ValueError: for fewer than two units.
    """
    units = np.asarray(margins, dtype=np.float64)
    if groups is not None:
        _, index = np.unique(groups, return_inverse=True)
        units = np.bincount(index, weights=units) / np.bincount(index)
    n = len(units)
    if n < 2:
        raise ValueError(f"a mean margin needs at least 2 units, got {n}")
    mean = float(units.mean())
    error = float(units.std(ddof=1)) / math.sqrt(n)
    t = mean / error if error > 0 else math.copysign(math.inf, mean) if mean else 0.0
    critical = -float(special.stdtrit(n - 1, alpha))
    decision: Decision = "pass" if t > critical else "fail" if t < -critical else "undecided"
    return MeanMargin(decision, mean, t, n)


def mean_ratio_interval(
    numerator: FloatArray, denominator: FloatArray, *, confidence: float
) -> tuple[float, float | None]:
    """Interval for mean(numerator) / mean(denominator) of paired samples (Fieller 1954).

    The set of all ratios q for which the paired t-test of ``numerator - q * denominator`` does not
    reject, so it agrees with `mean_margin` at every threshold. Where neither mean can be told from
    zero, nothing is known about their ratio, and the interval is ``(0, None)``.

    Args:
        numerator: float64, shape ``(samples,)``, non-negative, at least two samples.
        denominator: the same.
        confidence: two-sided.

    Returns:
        lower and upper bound; the upper one is ``None`` where the ratio has no upper bound.
    """
    n = len(numerator)
    t = -float(special.stdtrit(n - 1, (1 - confidence) / 2))
    (s_aa, s_ab), (_, s_bb) = (np.cov(numerator, denominator) * (t * t / n)).tolist()
    a, b = float(numerator.mean()), float(denominator.mean())
    quadratic, linear, constant = b * b - s_bb, -2 * (a * b - s_ab), a * a - s_aa
    discriminant = max(0.0, linear * linear - 4 * quadratic * constant)
    if quadratic <= 0:
        # The denominator may be zero: only the lower side of the set, if any, is bounded.
        root = -linear + math.sqrt(discriminant)
        low = 2 * constant / root if constant > 0 and root > 0 else 0.0
        return max(0.0, low), None
    root = math.sqrt(discriminant)
    return max(0.0, (-linear - root) / (2 * quadratic)), (-linear + root) / (2 * quadratic)
