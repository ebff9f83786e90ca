"""The latency distributions of a baseline and a candidate, one above the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pytest_edgeai.report.page_content import QUANTILES, Latencies, quantile_rows
from pytest_edgeai.report.plots import STAND_INS, Plot, add_axes, draw, ruler
from pytest_edgeai.report.quantities import format_quantity

_BINS = 40
_LOGARITHMIC_FROM = 3.0
"""Ratio of the longest to the shortest call from which the axis is logarithmic."""
_STYLES: Any = ("-", (0, (4, 2)), (0, (1, 1.5)))


def _ns(value: float) -> str:
    return format_quantity(value, "ns")


def latency_plot(key: str, latencies: Latencies) -> Plot:
    """Return the shapes of both distributions on one time axis, each to its own height.

    Every call is shown: where a few are far out, the axis is logarithmic.
    """
    rows = {name: (one, other) for name, one, other in quantile_rows(latencies)}
    description = (
        f"Half of the baseline's {rows['calls'][0]} calls took less than {rows['p50'][0]}, and "
        f"99% less than {rows['p99'][0]}. Half of the candidate's {rows['calls'][1]} took less "
        f"than {rows['p50'][1]}, and 99% less than {rows['p99'][1]}."
    )
    return draw(
        key,
        "Latency of both models",
        description,
        205,
        lambda figure: _paint(figure, latencies),
    )


def _paint(figure: Figure, latencies: Latencies) -> None:
    axes = add_axes(figure, 24, 44, 24, 8)
    both = np.concatenate([latencies.baseline_ns, latencies.candidate_ns]).astype(np.float64)
    low, high = float(both.min()), float(both.max())
    if high <= low:
        low, high = 0.9 * low, 1.1 * high
    logarithmic = high / low > _LOGARITHMIC_FROM
    if logarithmic:
        edges = np.geomspace(low * 0.97, high * 1.03, _BINS + 1)
        axes.set_xscale("log")
    else:
        margin = 0.02 * (high - low)
        edges = np.linspace(low - margin, high + margin, _BINS + 1)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(-1.45, 1.45)
    _side(axes, latencies.baseline_ns, edges, 1.0, "baseline")
    _side(axes, latencies.candidate_ns, edges, -1.0, "candidate")
    axes.axhline(0, color=STAND_INS["muted"], linewidth=0.8)
    ticks = time_ticks(edges[0], edges[-1], logarithmic)
    scale = " (logarithmic)" if logarithmic else ""
    label = f"time of one call{scale}; lines: p50, p95, p99"
    ruler(axes, "x", ticks, [_ns(tick) for tick in ticks], label, has_grid=False)


def _side(
    axes: Axes, samples: NDArray[np.int64], edges: NDArray[np.float64], sign: float, role: str
) -> None:
    counts, _ = np.histogram(samples, edges)
    heights = sign * counts / max(1, counts.max())
    color = STAND_INS[role]
    axes.stairs(heights, edges, fill=True, color=color, alpha=0.35, linewidth=0)
    axes.stairs(heights, edges, color=color, linewidth=1.2)
    places = [float(place) for place in np.quantile(samples, QUANTILES)]
    axes.vlines(places, 0, sign * 1.12, color=color, linewidth=1.4, linestyles=_STYLES)
    median = places[0]
    middle = axes.get_xlim()
    if axes.get_xscale() == "log":
        share = math.log(median / middle[0]) / math.log(middle[1] / middle[0])
    else:
        share = (median - middle[0]) / (middle[1] - middle[0])
    axes.text(
        min(max(share, 0.0), 1.0),
        0.5 + sign * 0.4,
        f"{role} {_ns(median)}",
        transform=axes.transAxes,
        color=color,
        fontweight="bold",
        ha="left" if share < 0.3 else "right" if share > 0.7 else "center",
        va="bottom" if sign > 0 else "top",
    )


def time_ticks(low: float, high: float, logarithmic: bool, most: int = 5) -> Sequence[float]:
    """Return round places between two times, at most ``most`` and at least one where it can be."""
    if not logarithmic:
        step = 10.0 ** math.floor(math.log10((high - low) / most))
        for factor in (1, 2, 5, 10):
            first = math.ceil(low / (factor * step))
            last = math.floor(high / (factor * step))
            if last - first < most:
                return [n * factor * step for n in range(first, last + 1)]
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [d * 10.0**n for n in decades for d in digits if low <= d * 10.0**n <= high]
        if len(ticks) <= most:
            return ticks
    return ticks[:: -(-len(ticks) // most)]
