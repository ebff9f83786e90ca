"""Paired score test for the ratio of two proportions: how much accuracy the candidate retains.

The statistic is the score statistic of Nam and Blackwelder (2002), "Analysis of the ratio of
marginal probabilities in a matched-pair setting", Statistics in Medicine 21, and Tang, Tang and
Chan (2003), "On tests of equivalence via non-unity relative risk", ibid. 22. Its normal
approximation is too generous on few samples (5% becomes up to 8.5%), therefore the p-value is the
larger of the normal one and the exact one. The exact one is the supremum over the nuisance
parameter, restricted to its 99.9% interval (Berger and Boos 1994, "P values maximized over a
confidence set for the nuisance parameter", JASA 89).

Samples that both models get wrong cancel out of the statistic, so everything here works on the
``informative`` samples, those that at least one of the two gets right.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from pytest_edgeai.judge.statistics import (
    Decision,
    FloatArray,
    binomial_at_most,
    binomial_more_than,
)

EXACT_UP_TO = 5000
"""Informative samples up to which the exact p-value is computed; beyond, the two agree to 0.003."""

NUISANCE_ERROR = 0.001
_NUISANCE_POINTS = 33
_SUPPORT_TAIL = 1e-9
_RATIO_TOLERANCE = 1e-5
_MAXIMUM_RATIO = 1e6
_MAXIMUM_SAMPLES = 10_000_000


@dataclass(frozen=True)
class PairedCounts:
    """How often baseline and candidate are right on the same samples.

    Attributes:
        both: both right (n11).
        lost: only the baseline right (n10).
        gained: only the candidate right (n01).
        neither: both wrong (n00).
    """

    both: int
    lost: int
    gained: int
    neither: int

    @property
    def samples(self) -> int:
        """Number of samples."""
        return self.both + self.lost + self.gained + self.neither

    @property
    def informative(self) -> int:
        """Samples that at least one of the two gets right."""
        return self.both + self.lost + self.gained

    @property
    def ratio(self) -> float:
        """Accuracy of the candidate divided by that of the baseline.

        Raises:
            ZeroDivisionError: if the baseline is never right.
        """
        return (self.both + self.gained) / (self.both + self.lost)


def score_statistic(
    informative: NDArray[Any] | int, lost: NDArray[Any], gained: NDArray[Any], theta: float
) -> FloatArray:
    """Score statistic for all of the counts (broadcast); 0 where nothing varies."""
    both = informative - lost - gained
    a = -theta * (1 + theta) * informative
    b = -(1 - theta**2) * both + theta**2 * lost + (2 * theta**2 - 1) * gained
    c = gained * theta * (1 - theta)
    # Probability of a gain among informative samples, by maximum likelihood under ratio = theta.
    gain = (-b - np.sqrt(np.maximum(b * b - 4 * a * c, 0))) / (2 * a)
    variance = theta * informative * ((1 + theta) * gain + (1 - theta))
    excess = (both + gained) - theta * (both + lost)
    return np.asarray(
        np.where(variance > 1e-12, excess / np.sqrt(np.maximum(variance, 1e-12)), 0.0)
    )


def retention_score(counts: PairedCounts, theta: float) -> float:
    """Score statistic z of "ratio = theta"; positive where the observed ratio is above theta.

    ``z = ((n11+n01) - theta(n11+n10)) / sqrt(n theta (q01+q10))`` with q01, q10 the maximum
    likelihood estimates under the hypothesis. 0 where nothing varies (theta = 1, no discordance).

    Raises:
        ValueError: if no sample is informative or theta is not positive.
    """
    if counts.informative == 0 or not theta > 0:
        raise ValueError("the score test needs a positive ratio and one sample that one model gets")
    lost, gained = np.array(float(counts.lost)), np.array(float(counts.gained))
    return float(score_statistic(counts.informative, lost, gained, theta))


def _furthest_lost(
    informative: int, gained: FloatArray, theta: float, accept: Callable[[FloatArray], NDArray[Any]]
) -> FloatArray:
    """Largest ``lost`` for each ``gained`` that is still accepted; -1 where none is.

    ``accept`` takes scores. The score falls as ``lost`` grows, so bisection finds the edge.
    """
    low = np.full(gained.shape, -1.0)
    high = informative - gained
    while np.any(low < high):
        middle = np.ceil((low + high) / 2)
        accepted = accept(score_statistic(informative, middle, gained, theta))
        low = np.where(accepted, middle, low)
        high = np.where(accepted, high, middle - 1)
    return low


def _exact_p_value(
    counts: PairedCounts, theta: float, z: float, nuisance_error: float, *, more: bool
) -> float:
    """P(score >= z), or P(score <= z), at the least favorable nuisance, plus ``nuisance_error``."""
    m = counts.informative
    # Gains per informative sample; beyond these edges some cell would have a negative probability.
    edges = max(0.0, (theta - 1) / theta), theta / (1 + theta)
    rate = np.clip(_nuisance_grid(counts, nuisance_error), *edges)[:, np.newaxis]
    # Chernoff's bound: gains outside of this support have a probability below _SUPPORT_TAIL.
    slack = -math.log(_SUPPORT_TAIL)
    first = math.floor(m * float(rate[0, 0]) - math.sqrt(2 * slack * m * float(rate[0, 0])))
    mean = m * float(rate[-1, 0])
    last = math.ceil(mean + slack / 3 + math.sqrt((slack / 3) ** 2 + 2 * slack * mean))
    gained = np.arange(max(0, first), min(m, last) + 1, dtype=np.float64)
    log_choose = (
        special.gammaln(m + 1) - special.gammaln(gained + 1) - special.gammaln(m - gained + 1)
    )
    weight = np.exp(log_choose + special.xlogy(gained, rate) + special.xlog1py(m - gained, -rate))
    loss = np.clip(((1 - theta) + theta * rate) / (1 - rate), 0.0, 1.0)
    rest = m - gained
    tie = 1e-9
    if more:
        edge = _furthest_lost(m, gained, theta, lambda score: score >= z - tie)
        tail = binomial_at_most(edge, rest, loss)
    else:
        edge = _furthest_lost(m, gained, theta, lambda score: score > z + tie)
        tail = binomial_more_than(edge, rest, loss)
    return min(1.0, float((weight * tail).sum(axis=1).max()) + nuisance_error)


def _nuisance_grid(counts: PairedCounts, error: float) -> FloatArray:
    """Rates of gains within their exact ``1 - error`` interval, denser towards zero, ascending."""
    m, gained = counts.informative, counts.gained
    tail = error / 2
    low = special.betaincinv(gained, m - gained + 1, tail) if gained else 0.0
    high = special.betaincinv(gained + 1, m - gained, 1 - tail) if gained < m else 1.0
    return np.linspace(math.sqrt(low), math.sqrt(high), _NUISANCE_POINTS) ** 2


def retention_p_value(
    counts: PairedCounts,
    theta: float,
    *,
    more: bool,
    stop_above: float = 1.0,
    nuisance_error: float = NUISANCE_ERROR,
) -> float:
    """p-value of "ratio <= theta" (``more``) or "ratio >= theta": a small one proves the opposite.

    The larger of the normal and (up to `EXACT_UP_TO` informative samples) the exact one.

    Args:
        counts: what was observed.
        theta: ratio under the hypothesis.
        more: whether the evidence is that the ratio is more than ``theta``, or less.
        stop_above: skip the exact computation where the normal p-value is already larger than this.
        nuisance_error: what is added to the exact p-value for the interval of the nuisance
            parameter; no p-value is smaller, so a stricter level needs less.

    Raises:
        ValueError: if no sample is informative or theta is not positive.
    """
    z = retention_score(counts, theta)
    p = float(special.ndtr(-z if more else z))
    if p > stop_above or counts.informative > EXACT_UP_TO:
        return p
    return max(p, _exact_p_value(counts, theta, z, nuisance_error, more=more))


def decide_retention(counts: PairedCounts, theta: float, alpha: float) -> Decision:
    """Decide whether the ratio of accuracies is above ``theta``, each way at level ``alpha``."""
    if retention_p_value(counts, theta, more=True, stop_above=alpha) <= alpha:
        return "pass"
    if retention_p_value(counts, theta, more=False, stop_above=alpha) <= alpha:
        return "fail"
    return "undecided"


def retention_interval(
    counts: PairedCounts, theta: float, alpha: float
) -> tuple[float, float | None]:
    """Two-sided ``1 - 2 alpha`` interval of the ratio, by inverting the test.

    The lower bound lies at or above ``theta`` exactly where `decide_retention` passes, the upper
    one at or below it exactly where it fails.

    Returns:
        lower and upper bound; the upper one is ``None`` where the ratio has none.
    """
    ratio = counts.ratio

    def too_low(value: float) -> bool:
        return retention_p_value(counts, value, more=True, stop_above=alpha) <= alpha

    def too_high(value: float) -> bool:
        return retention_p_value(counts, value, more=False, stop_above=alpha) <= alpha

    low = 0.0
    if ratio > 0 and too_low(theta):
        low = _edge(too_low, theta, ratio)
    elif ratio > 0:
        low = _edge(too_low, 0.0, min(ratio, theta))
    if too_high(theta):
        return low, _edge(too_high, theta, ratio)
    outside = inside = max(ratio, theta)
    while not too_high(outside):
        inside, outside = outside, 2 * outside
        if outside > _MAXIMUM_RATIO:
            return low, None
    return low, _edge(too_high, outside, inside)


def _edge(rejected: Callable[[float], bool], outside: float, inside: float) -> float:
    """Bisect between a rejected and an accepted ratio; return the rejected end of the gap."""
    while abs(inside - outside) > _RATIO_TOLERANCE * max(1.0, inside):
        middle = (inside + outside) / 2
        if rejected(middle):
            outside = middle
        else:
            inside = middle
    return outside


def samples_to_decide(
    *,
    theta: float,
    retention: float,
    baseline_accuracy: float,
    gain_rate: float,
    power: float,
    alpha: float,
) -> int | None:
    """Samples at which the score test decides with probability ``power``, in either direction.

    ``n = ((z_alpha sqrt(v0) + z_beta sqrt(v1)) / delta)^2 + 1 / (2 |delta|)`` with delta the mean
    of one sample's contribution to the score and v0, v1 its variance under the hypothesis and in
    truth. The last term is half a step of the counts (continuity correction); with it the exact
    test reaches the power, too.

    Args:
        theta: the threshold.
        retention: the true ratio.
        baseline_accuracy: share of samples that the baseline gets right.
        gain_rate: share of samples that only the candidate gets right.
        power: wanted probability of a decision.
        alpha: one-sided level.

    Returns:
        ``None`` where ten million samples would not suffice.
    """
    both = min(max(retention * baseline_accuracy - gain_rate, 0.0), baseline_accuracy)
    gained = retention * baseline_accuracy - both
    lost = baseline_accuracy - both
    delta = (both + gained) - theta * baseline_accuracy
    if delta == 0:
        return None
    a = -theta * (1 + theta) * (both + lost + gained)
    b = -(1 - theta**2) * both + theta**2 * lost + (2 * theta**2 - 1) * gained
    c = gained * theta * (1 - theta)
    share = both + lost + gained
    gain = share * (-b - math.sqrt(max(b * b - 4 * a * c, 0.0))) / (2 * a)
    v0 = max(0.0, theta * ((1 + theta) * gain + (1 - theta) * share))
    v1 = both * (1 - theta) ** 2 + lost * theta**2 + gained - delta**2
    z_alpha, z_beta = -float(special.ndtri(alpha)), float(special.ndtri(power))
    n = ((z_alpha * math.sqrt(v0) + z_beta * math.sqrt(max(0.0, v1))) / delta) ** 2
    n += 1 / (2 * abs(delta))
    return math.ceil(n) if n <= _MAXIMUM_SAMPLES else None


def accuracy_samples_needed(
    threshold: float,
    expected_retention: float = 0.99,
    baseline_accuracy: float = 0.95,
    gain_rate: float = 0.005,
    power: float = 0.9,
    alpha: float = 0.05,
) -> int:
    """Evaluation samples with which a candidate of ``expected_retention`` passes.

    Args:
        threshold: retention to be exceeded.
        expected_retention: the candidate's true retention.
        baseline_accuracy: share of samples that the baseline gets right.
        gain_rate: share of samples that only the candidate gets right.
        power: probability of the pass.
        alpha: one-sided level of the test.

    Raises:
        ValueError: if the expected retention is not above the threshold, so that no number will do.
    """
    n = None
    if expected_retention > threshold > 0:
        n = samples_to_decide(
            theta=threshold,
            retention=expected_retention,
            baseline_accuracy=baseline_accuracy,
            gain_rate=gain_rate,
            power=power,
            alpha=alpha,
        )
    if n is None:
        raise ValueError(
            f"no number of samples shows a retention of {expected_retention:g} to be above "
            f"{threshold:g}"
        )
    return max(n, samples_to_ever_decide(threshold, alpha))


def samples_to_ever_decide(threshold: float, alpha: float = 0.05) -> int:
    """Fewest evaluation samples with which the best possible candidate passes.

    Below a threshold of 1 the best is to agree with a baseline that is always right; from 1 on it
    is to be right wherever the baseline is wrong.

    Raises:
        ValueError: if the threshold is not positive.
    """
    if not 0 < threshold < math.inf:
        raise ValueError(f"a retention threshold must be a positive number, not {threshold}")

    def best(samples: int) -> PairedCounts:
        if threshold < 1:
            return PairedCounts(samples, 0, 0, 0)
        return PairedCounts(0, 0, samples, 0)

    def passes(samples: int) -> bool:
        return decide_retention(best(samples), threshold, alpha) == "pass"

    low, high = 0, 1
    while not passes(high):
        low, high = high, 2 * high
        if high > _MAXIMUM_SAMPLES:
            return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    return high


def can_ever_decide(samples: int, threshold: float, alpha: float = 0.05) -> bool:
    """Whether ``samples`` evaluation samples could show a pass, however good the candidate.

    Raises:
        ValueError: if the threshold is not positive.
    """
    return samples >= samples_to_ever_decide(threshold, alpha)
