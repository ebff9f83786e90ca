"""Where an interval lies against its threshold, on a scale of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_edgeai.records import Relation, Verdict

THRESHOLD_AT = 0.5
"""Where every threshold lies on its scale from 0 to 1."""
_MARGIN = 1.15


@dataclass(frozen=True)
class Bar:
    """An estimate with its interval; places on a scale from 0 to 1, better further right.

    Attributes:
        observed: place of the estimate; ``None`` where only the interval is known.
        low: place of the worse end; ``None`` where that side is open, or there is no interval.
        high: place of the better end; likewise.
        has_interval: whether there is an interval at all.
    """

    observed: float | None
    low: float | None
    high: float | None
    has_interval: bool


def bar_of(
    observed: float | None,
    interval: tuple[float | None, float | None] | None,
    threshold: float | None,
    relation: Relation,
    reach: float = 0.0,
) -> Bar | None:
    """Return where the figures lie, in a linear scale; ``None`` where there is nothing to draw.

    Args:
        observed: point estimate.
        interval: its bounds; an open side is ``None``.
        threshold: the limit.
        relation: how the estimate must stand to it; decides which way is better.
        reach: how far the scale reaches at least to both sides of the limit, for bars that are
            compared with each other.
    """
    if threshold is None or not math.isfinite(threshold):
        return None
    low, high = (_finite(bound) for bound in interval or (None, None))
    estimate = _finite(observed)
    known = [value for value in (estimate, low, high) if value is not None]
    if not known:
        return None
    reach = max(reach, *(abs(value - threshold) for value in known)) * _MARGIN
    if not math.isfinite(reach):
        return None
    sign = -1.0 if relation == "at_most" else 1.0

    def place(value: float | None) -> float | None:
        if value is None:
            return None
        return THRESHOLD_AT + (sign * (value - threshold) / (2 * reach) if reach else 0.0)

    ends = (place(low), place(high))
    worse, better = ends[::-1] if relation == "at_most" else ends
    return Bar(place(estimate), worse, better, interval is not None and (low, high) != (None, None))


def verdict_bar(verdict: Verdict) -> Bar | None:
    """Return where the figures of a verdict lie."""
    return bar_of(verdict.observed, verdict.interval, verdict.threshold, verdict.relation)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
