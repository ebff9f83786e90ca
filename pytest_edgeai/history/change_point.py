"""Where a series of measurements changed its level, by a rank test with a fixed seed.

The statistic is that of A. N. Pettitt, "A Non-Parametric Approach to the Change-Point Problem",
Applied Statistics 28 (1979), 126-135: the largest cumulative sum of centered ranks. Ranks make it
blind to outliers and to the scale, and need no distribution. Its p-value is that of a permutation
test (Monte Carlo, with the observed order among the permutations, so that it is never 0): exact in
level for series whose values could have come in any order, ties included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.01
"""Level of the test. A series of fewer than 10 values cannot reach it, whatever they are."""
MINIMUM_VALUES = 10
PERMUTATIONS = 1999
SEED = 0


@dataclass(frozen=True)
class ChangePoint:
    """A change of level.

    Attributes:
        index: the first value of the new level.
        before: median of the old level, as far back as the change before it.
        after: median of the new level.
        p_value: of the permutation test.
    """

    index: int
    before: float
    after: float
    p_value: float


def latest_change(values: Sequence[float]) -> ChangePoint | None:
    """Return the latest change of level; ``None`` where none is found.

    The whole series is tested first, then what follows each change that is found, so that a series
    of one level reports a change with probability ``ALPHA`` at most. A change that is undone again
    can go unseen, and one shows after four to six values of the new level.

    Args:
        values: in order of time, all finite.

    Raises:
        ValueError: a value is not finite.
    """
    series = np.asarray(values, dtype=np.float64)
    if not np.isfinite(series).all():
        raise ValueError("a value is not finite")
    start = 0
    found: ChangePoint | None = None
    while True:
        split = _split(series[start:])
        if split is None:
            return found
        length, p_value = split
        found = ChangePoint(
            start + length,
            float(np.median(series[start : start + length])),
            float(np.median(series[start + length :])),
            p_value,
        )
        start += length


def _split(series: NDArray[np.float64]) -> tuple[int, float] | None:
    """Return the length of the first level and the p-value, where it is significant."""
    count = len(series)
    if count < MINIMUM_VALUES:
        return None
    centered = _ranks(series) - (count + 1) / 2
    # Cumulative sums of half-integers are exact, so that equal statistics compare equal.
    sums = np.abs(np.cumsum(centered)[:-1])
    observed = sums.max()
    shuffled = np.random.default_rng(SEED).permuted(
        np.broadcast_to(centered, (PERMUTATIONS, count)), axis=1
    )
    reached = np.abs(np.cumsum(shuffled, axis=1)[:, :-1]).max(axis=1) >= observed
    p_value = (1 + int(np.count_nonzero(reached))) / (1 + PERMUTATIONS)
    if observed == 0 or p_value > ALPHA:
        return None
    return int(np.argmax(sums)) + 1, p_value


def _ranks(series: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ranks from 1; equal values share the mean of theirs."""
    _, index, counts = np.unique(series, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2)[index]
    return ranks
