"""Which of several measured points are worth choosing, and which one to recommend.

Pure: figures with their intervals in, ids out. More is better for every objective that is not in
``LESS_IS_BETTER``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_edgeai.search_records import Figure

LESS_IS_BETTER = frozenset({"energy_retained"})
"""Objectives that are to be small."""
ACCURACY_UNIT = 0.05
"""Loss of accuracy that weighs as much as half the speed or twice the memory: what the gate
``accuracy_retained`` allows by default, as a doubled speed and a halved memory are what its
neighbors ask for by default."""
UNKNOWN = Figure(math.nan, None, None)


@dataclass(frozen=True)
class Point:
    """One candidate as it is compared.

    Attributes:
        id: its name, unique among the points.
        figures: objective name to what was measured.
        size_bytes: size of its artifact.
    """

    id: str
    figures: Mapping[str, Figure]
    size_bytes: int


def dominates(a: Mapping[str, Figure], b: Mapping[str, Figure]) -> bool:
    """Return whether the intervals say that nothing speaks for ``b`` beside ``a``.

    ``a`` has to be surely better in one objective, its interval wholly above that of ``b``, and no
    worse in all others: its estimate not below the interval of ``b``, and its lower bound at most
    the width of that interval below it. The latter keeps a figure that was hardly measured, whose
    wide interval overlaps with everything, from passing for as good. An objective that was not
    measured of ``b`` speaks for neither; one that was not measured of ``a`` alone speaks for ``b``.
    """
    names = sorted({*a, *b})
    return _surpasses(_row(a, names), _row(b, names))


def front(points: Sequence[Point]) -> tuple[Point, ...]:
    """Return the points that no other one dominates, in their order; empty for none given.

    Intervals that overlap make domination no order: three points can dominate each other in a
    circle. Points of such a circle stand or fall together, so that the front is never empty (the
    set of Schwartz, "The Logic of Collective Choice", 1986).
    """
    names = sorted({name for point in points for name in point.figures})
    rows = [_row(point.figures, names) for point in points]
    # For each point a set of those that it beats, in the bits of a number.
    beats = [
        sum(1 << place for place, other in enumerate(rows) if _surpasses(row, other))
        for row in rows
    ]
    for middle in range(len(points)):
        for start, beaten in enumerate(beats):
            if beaten >> middle & 1:
                beats[start] |= beats[middle]
    return tuple(
        point
        for place, point in enumerate(points)
        if all(
            beats[place] >> other & 1 for other, beaten in enumerate(beats) if beaten >> place & 1
        )
    )


def utility(name: str, value: float) -> float:
    """Return what a figure of an objective is worth, in steps that weigh alike.

    A step is a doubled speed, a halved memory, a halved energy, or ``ACCURACY_UNIT`` of accuracy;
    0 is the baseline. An objective of another name counts as it is.
    """
    if name == "speedup":
        return _log2(value)
    if name == "energy_retained":
        return -_log2(value)
    if name == "memory_cut":
        return -_log2(1.0 - value)
    return (value - 1.0) / ACCURACY_UNIT if name == "accuracy_retained" else value


def score(figures: Mapping[str, Figure], weights: Mapping[str, float]) -> Figure:
    """Return the weighted mean of the utilities with its interval.

    The half-widths are added as those of independent figures are, by their squares. Where one side
    of an interval is open, the other side's half-width stands for it.
    """
    total = math.fsum(weights[name] for name in weights if name in figures)
    middle = below = above = 0.0
    for name, weight in weights.items():
        figure = figures.get(name)
        if figure is None or weight <= 0.0:
            continue
        share = weight / total
        down, up = _half_widths(name, figure)
        middle += share * utility(name, figure.observed)
        below, above = math.hypot(below, share * down), math.hypot(above, share * up)
    return Figure(middle, middle - below, middle + above)


def advantage(
    a: Mapping[str, Figure], b: Mapping[str, Figure], weights: Mapping[str, float]
) -> float:
    """Return how much better ``a`` serves the weights than ``b``, below 0 where it serves worse.

    The weighted mean of the differences of their utilities, in which an objective counts only where
    their intervals lie apart: what cannot be told apart is equal, so that the noise of one
    objective cannot hide a clear difference in another.
    """
    total = math.fsum(weight for weight in weights.values() if weight > 0.0)
    gains = []
    for name, weight in weights.items():
        one, other = a.get(name), b.get(name)
        if one is None or other is None or weight <= 0.0:
            continue
        if _low(one) > _high(other) or _low(other) > _high(one):
            gains.append(weight * (utility(name, one.observed) - utility(name, other.observed)))
    return math.fsum(gains) / total if total else 0.0


def recommend(points: Sequence[Point], weights: Mapping[str, float]) -> Point | None:
    """Return the point that serves the weights best; ``None`` where there is none to compare.

    Only the front is chosen from. Points that no other one has an `advantage` over are tied, and of
    these the one with the smallest artifact is taken, then the first by id: measuring again moves
    the figures of points that cannot be told apart, and not the choice. Where advantages run in a
    circle, the points with the most of them, less those of others over them, are tied.

    Args:
        points: what may be chosen.
        weights: objective name to what it counts for, none negative. An objective that no point
            has does not count; a point that lacks one that another has is not chosen.
    """
    counted = {
        name: weight
        for name, weight in weights.items()
        if weight > 0.0 and any(_measured(point, name) for point in points)
    }
    able = [
        point for point in front(points) if all(_measured(point, name) for name in counted)
    ] or [point for point in points if all(_measured(point, name) for name in counted)]
    if not able:
        return None
    gains = [[advantage(one.figures, other.figures, counted) for other in able] for one in able]
    losses = [sum(row[place] > 0.0 for row in gains) for place in range(len(able))]
    balance = [
        sum(gain > 0.0 for gain in row) - lost for row, lost in zip(gains, losses, strict=True)
    ]
    tied = [point for point, lost in zip(able, losses, strict=True) if not lost] or [
        point for point, each in zip(able, balance, strict=True) if each == max(balance)
    ]
    return min(tied, key=lambda point: (point.size_bytes, point.id))


def _measured(point: Point, name: str) -> bool:
    figure = point.figures.get(name)
    return figure is not None and math.isfinite(utility(name, figure.observed))


def _half_widths(name: str, figure: Figure) -> tuple[float, float]:
    """Return how far the utility of a figure may lie below and above, both at least 0."""
    if name in LESS_IS_BETTER:
        low, high = figure.high, figure.low
    else:
        low, high = figure.low, figure.high
    middle = utility(name, figure.observed)
    down = None if low is None else middle - utility(name, low)
    up = None if high is None else utility(name, high) - middle
    known = [side for side in (down, up) if side is not None and math.isfinite(side)]
    if not known:
        return 0.0, 0.0
    return tuple(  # type: ignore[return-value]
        max(side if side is not None and math.isfinite(side) else known[0], 0.0)
        for side in (down, up)
    )


def _row(figures: Mapping[str, Figure], names: Sequence[str]) -> list[Figure]:
    return [_upward(name, figures.get(name)) for name in names]


def _surpasses(a: Sequence[Figure], b: Sequence[Figure]) -> bool:
    """Return what `dominates` says of figures of which more is better, in one order."""
    better = False
    for one, other in zip(a, b, strict=True):
        if not _no_worse(one, other):
            return False
        better = better or _low(one) > _high(other)
    return better


def _log2(value: float) -> float:
    """Return the binary logarithm, minus infinity where there is none."""
    return math.log2(value) if value > 0.0 else -math.inf


def _upward(name: str, figure: Figure | None) -> Figure:
    """Return a figure of which more is better."""
    if figure is None or math.isnan(figure.observed):
        return UNKNOWN
    if name not in LESS_IS_BETTER:
        return figure
    return Figure(
        -figure.observed,
        None if figure.high is None else -figure.high,
        None if figure.low is None else -figure.low,
    )


def _low(figure: Figure) -> float:
    return -math.inf if figure.low is None else figure.low


def _high(figure: Figure) -> float:
    return math.inf if figure.high is None else figure.high


def _no_worse(one: Figure, other: Figure) -> bool:
    floor = _low(other)
    if floor == -math.inf:
        return True
    width = _high(other) - floor
    slack = width if math.isfinite(width) else 0.0
    return one.observed >= floor and _low(one) >= floor - slack
