"""The gate ``latency_drift``: whether the candidate gets slower the longer it runs."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from pytest_edgeai.judge.turns import (
    clock_text,
    error_rate_of_look,
    limit_or_verdict,
    own_times,
    turns_fault,
)
from pytest_edgeai.judge.verdict import (
    count_text,
    make_verdict,
    ratio_text,
    require_relation,
)
from pytest_edgeai.records import JSON, Outcome, StabilitySamples, Threshold, Verdict

GATE = "latency_drift"
PASS_MARGIN_RATIO = 1.25 / 1.10
"""Passing takes an upper bound within this factor of the threshold, as for the p95s of
``latency_consistency``: 1.25 for the default 1.10. A model that gets 50% slower steadily takes 1.31
times as long in its last third as in its first, beyond both."""

ERROR_RATE = 0.05
_EXACT_TURNS = 20


def judge_latency_drift(
    samples: StabilitySamples, threshold: Threshold, *, error_rate: float = ERROR_RATE
) -> Verdict:
    """Decide whether the candidate gets slower against the baseline from turn to turn.

    Of each turn the ratio of the two medians is taken, which a machine that gets slower leaves
    alone. What is judged is by how much the ratios of the last third of the turns are above those
    of the first, by the Hodges-Lehmann estimate with its distribution-free interval (Hodges and
    Lehmann 1963; Moses 1965, from the rank sums of Wilcoxon and of Mann and Whitney). It fails if
    the lower bound is above the threshold, and passes if the upper bound is within 1.25/1.10 of
    it. Nothing is extrapolated: a ratio of 1.3 was seen, and says nothing of the hour after.

    Args:
        samples: the turns.
        threshold: relation ``at_most``, unit ratio.
        error_rate: of the two-sided interval; shared out over the looks
            (:func:`~.turns.error_rate_of_look`).

    Returns:
        A verdict; ``error`` for times that are not positive or a threshold that is none,
        ``not_applicable`` without a threshold.

    Raises:
        ValueError: for a threshold of another relation.
    """
    require_relation(GATE, threshold, "at_most")
    limit = limit_or_verdict(GATE, samples, threshold, turns_fault(samples), unit="ratio")
    if isinstance(limit, Verdict):
        return limit
    alpha = error_rate_of_look(samples.turns, error_rate)
    times = [
        own_times(side, long=math.inf, least_delay_ns=0.0)
        for side in (samples.baseline, samples.candidate)
    ]
    baseline, candidate = (np.median(side.relative, axis=1) for side in times)
    logs: NDArray[np.float64] = np.log(candidate / baseline)
    third = samples.turns // 3
    shift, *bounds = shift_interval(logs[:third], logs[-third:], alpha)
    growth, low, high = math.exp(shift), math.exp(bounds[0]), math.exp(bounds[1])
    pass_limit = limit * PASS_MARGIN_RATIO
    figure = (
        f"against the baseline, the last third of {count_text(samples.turns, 'turn')} took "
        f"{ratio_text(growth)} as long as the first ({100 * (1 - alpha):.3g}% interval "
        f"{ratio_text(low)} to {ratio_text(high)}; {clock_text(*times)}); a lower bound above "
        f"{ratio_text(limit)} fails, an upper bound up to {ratio_text(pass_limit)} passes"
    )
    outcome: Outcome = "inconclusive"
    advice = "raise --edge-budget, or quiet the machine"
    if low > limit:
        outcome = "fail"
        advice = "look for what grows with every call: caches, logs, fragments; or for throttling"
    elif high <= pass_limit:
        outcome = "pass"
    details: dict[str, JSON] = {
        "turns": samples.turns,
        "clock": [side.clock for side in times],
        "error_rate": error_rate / 2,
        "ratios": np.exp(logs - np.median(logs[:third])).tolist(),
    }
    return make_verdict(
        GATE,
        outcome,
        threshold,
        unit="ratio",
        reason=figure,
        advice=advice,
        observed=growth,
        interval=(low, high),
        confidence=1 - alpha,
        samples=samples.turns,
        details=details,
    )


def shift_interval(
    before: NDArray[np.float64], after: NDArray[np.float64], alpha: float
) -> tuple[float, float, float]:
    """By how much ``after`` lies above ``before``: the estimate, and its two-sided interval.

    The estimate is the median of all differences, the bounds are the differences that stand as far
    from the ends of their order as the rank-sum test at ``alpha`` allows (Hollander, Wolfe and
    Chicken 2013, 4.3). The interval is infinite where too few values allow none.

    Args:
        before: float64, shape ``(n,)``.
        after: float64, shape ``(m,)``.
        alpha: what the interval may leave out, both sides together.
    """
    differences = np.sort(np.subtract.outer(after, before), axis=None)
    allowed = _rank_sums_below(len(before), len(after), alpha / 2)
    estimate = float(np.median(differences))
    if allowed < 1:
        return estimate, -math.inf, math.inf
    return estimate, float(differences[allowed - 1]), float(differences[-allowed])


@lru_cache(maxsize=64)
def _rank_sums_below(n: int, m: int, tail: float) -> int:
    """Return the most k with P(U < k) <= tail, for the Mann-Whitney U of n and m equal variables.

    Exact up to 20 values on a side, by the number of ways to reach each U (the coefficients of the
    Gaussian binomial); beyond by the normal approximation, which is then within a rank or two.
    """
    if max(n, m) > _EXACT_TURNS:
        deviation = math.sqrt(n * m * (n + m + 1) / 12)
        return max(0, math.floor(n * m / 2 + float(special.ndtri(tail)) * deviation))
    ways = [1]
    for i in range(1, n + 1):
        # Times 1 - q^(m + i), divided by 1 - q^i.
        product = ways + [0] * (m + i)
        for index in range(len(product) - 1, m + i - 1, -1):
            product[index] -= product[index - m - i]
        for index in range(i, len(product)):
            product[index] += product[index - i]
        ways = product[: i * m + 1]
    total, below = sum(ways), 0
    for k, count in enumerate(ways):
        below += count
        if below > tail * total:
            return k
    return len(ways)
