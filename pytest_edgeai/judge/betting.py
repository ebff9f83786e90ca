"""A test of a bounded mean that may look at any time: bets against the limit, averaged.

I. Waudby-Smith, A. Ramdas, "Estimating means of bounded random variables by betting", Journal of
the Royal Statistical Society B 86, 2024; J. Ville, *Étude critique de la notion de collectif*,
1939. If the mean of values in [0, 1] is at most m, then ``prod(1 + b (x - m))`` with a constant
bet 0 <= b < 1/m is a non-negative supermartingale, and so is the average over several bets.
The probability that it ever reaches 1/alpha is at most alpha, whatever rule stops the sampling.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import numpy as np

from pytest_edgeai.judge.statistics import Decision, FloatArray

Side: TypeAlias = Literal["above", "below"]

BETS = 200
"""Bets that are averaged, at equal distances: for values of 0 and 1 that is the uniform mixture
over all means beyond the limit (H. Robbins, Annals of Mathematical Statistics 41, 1970)."""
MOST_NEEDED = 10_000_000
_STEPS = 40


def log_capital(values: FloatArray, limit: float, side: Side) -> float:
    """Return the log of what betting on a mean beyond ``limit`` has made of 1.

    Args:
        values: float64 in [0, 1], any number.
        limit: the mean that is bet against, above 0 and below 1.
        side: whether the bet is that the mean lies above or below.
    """
    return float(_average(_log_bets(values, limit, side)))


def _log_bets(values: FloatArray, limit: float, side: Side) -> FloatArray:
    """Return the log capital of each bet, shape ``(BETS,)``."""
    shares = (np.arange(BETS) + 0.5) / BETS
    bets = shares / limit if side == "above" else -shares / (1 - limit)
    different, counts = np.unique(values, return_counts=True)
    gains = np.log1p(bets[:, np.newaxis] * (different - limit))
    return np.asarray(gains @ counts, dtype=np.float64)


def _average(logs: FloatArray) -> float:
    """Return the log of the mean of exponentials."""
    top = float(logs.max(initial=-math.inf))
    return top + math.log(float(np.exp(logs - top).mean()))


def decide_mean(values: FloatArray, limit: float, alpha: float) -> Decision:
    """Decide whether the mean lies above ``limit`` (``pass``) or below it (``fail``).

    Args:
        values: float64 in [0, 1], in the order of drawing; the one who draws stops once it decides.
        limit: above 0 and below 1.
        alpha: bound on the probability of each wrong decision, over all looks together.
    """
    enough = -math.log(alpha)
    if log_capital(values, limit, "above") >= enough:
        return "pass"
    if log_capital(values, limit, "below") >= enough:
        return "fail"
    return "undecided"


def mean_bounds(values: FloatArray, alpha: float) -> tuple[float, float]:
    """Return the interval of all means that `decide_mean` does not reject, at any time.

    Args:
        values: float64 in [0, 1], at least one.
        alpha: one-sided error; the interval has the confidence ``1 - 2 alpha``.
    """
    mean = float(values.mean())
    return _bound(values, mean, alpha, "above"), _bound(values, mean, alpha, "below")


def _bound(values: FloatArray, mean: float, alpha: float, side: Side) -> float:
    """Return the limit next to the mean that a bet on ``side`` has just not refuted."""
    end = 0.0 if side == "above" else 1.0
    outside, inside = end, mean
    if inside == outside:
        return end
    for _ in range(_STEPS):
        middle = (outside + inside) / 2
        if log_capital(values, middle, side) >= -math.log(alpha):
            outside = middle
        else:
            inside = middle
    return outside


def values_to_decide(values: FloatArray, limit: float, alpha: float) -> int | None:
    """Return how many further values would decide, were they as those that were seen.

    Returns:
        ``None`` where ten million would not, or nothing was seen.
    """
    if len(values) == 0:
        return None
    enough = -math.log(alpha)
    side: Side = "above" if float(values.mean()) > limit else "below"
    logs = _log_bets(values, limit, side)
    low, high = 1.0, MOST_NEEDED / len(values)
    if _average(logs * high) < enough:
        return None
    for _ in range(_STEPS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if _average(logs * middle) >= enough else (middle, high)
    return max(1, math.ceil(len(values) * (high - 1)))
