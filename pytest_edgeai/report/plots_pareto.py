"""The trade between speed and what it costs, with the front marked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeGuard

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from pytest_edgeai.records import Relation
from pytest_edgeai.report.plots import STAND_INS, Plot, add_axes, draw, round_places, ruler
from pytest_edgeai.report.plots_latency import time_ticks
from pytest_edgeai.search_records import Figure

Standing: TypeAlias = Literal["recommended", "front", "dominated", "blocked"]
SPEED = "speedup"
OTHERS = ("accuracy_retained", "memory_cut", "energy_retained")
LABELS = {
    SPEED: "speedup",
    "accuracy_retained": "accuracy retained",
    "memory_cut": "memory saved",
    "energy_retained": "energy per inference (less is better)",
}
MOST_LABELS = 14
"""Labels of one panel; where there are more points, only those of the front have one."""
_CROWD = 40
"""Points from which on the crosses of what is not on the front are faint."""

_PANEL_PT = 190.0
_LEGEND_PT = 34.0
_MARKS: Mapping[Standing, tuple[str, str, float, bool]] = {
    "recommended": ("*", "good", 15.0, True),
    "front": ("o", "good", 8.0, True),
    "dominated": ("o", "muted", 7.0, False),
    "blocked": ("X", "bad", 8.0, True),
}
_WORDS: Mapping[Standing, str] = {
    "recommended": "recommended",
    "front": "on the front",
    "dominated": "dominated",
    "blocked": "may not ship",
}
_TRIAL: dict[str, Any] = {
    "marker": ".",
    "markersize": 4.0,
    "color": STAND_INS["muted"],
    "alpha": 0.8,
}
_LOGARITHMIC_FROM = 8.0
_LARGEST = 1e12
"""Figures beyond are no ratios that anybody could read off an axis."""
_OFFSETS = ((7, 6), (-7, 6), (7, -14), (-7, -14), (0, 12), (0, -20))


@dataclass(frozen=True)
class Candidate:
    """One candidate of the plot.

    Attributes:
        number: what it is called in the plot and in the table beside it.
        figures: objective name to what was measured.
        standing: where it stands.
    """

    number: int
    figures: Mapping[str, Figure]
    standing: Standing


@dataclass(frozen=True)
class Limit:
    """What a gate asks for.

    Attributes:
        value: the limit.
        relation: how a figure must stand to it.
    """

    value: float
    relation: Relation


def pareto_plot(
    key: str,
    candidates: Sequence[Candidate],
    limits: Mapping[str, Limit],
    trials: Sequence[Mapping[str, Figure]] = (),
) -> Plot | None:
    """Return one panel per objective that speed is traded against; ``None`` without any.

    Args:
        key: see :class:`~pytest_edgeai.report.plots.Plot`.
        candidates: with their figures; those without a figure for a panel are not in it.
        limits: objective name to what its gate asks for.
        trials: figures of a search's trials, on its selection data.
    """
    panels = [name for name in OTHERS if any(_is_drawn(each.figures, name) for each in candidates)]
    if not panels:
        return None
    shown = [each for each in candidates if any(_is_drawn(each.figures, n) for n in panels)]
    counts = {standing: sum(each.standing == standing for each in shown) for standing in _MARKS}
    told = ", ".join(f"{count} {_WORDS[s]}" for s, count in counts.items() if count)
    best = next((each for each in shown if each.standing == "recommended"), None)
    description = (
        f"{len(shown)} candidates with their intervals: {told}"
        + (f"; number {best.number} is recommended" if best else "")
        + ". The shaded part meets the thresholds of both gates."
    )
    return draw(
        key,
        "Speed against what it costs",
        description,
        _PANEL_PT * len(panels) + _LEGEND_PT + 8,
        lambda canvas: _paint(canvas, shown, panels, limits, trials),
    )


def _paint(
    canvas: Canvas,
    candidates: Sequence[Candidate],
    panels: Sequence[str],
    limits: Mapping[str, Limit],
    trials: Sequence[Mapping[str, Figure]],
) -> None:
    count = len(panels)
    for row, name in enumerate(panels):
        below = _LEGEND_PT + (count - 1 - row) * _PANEL_PT
        axes = add_axes(canvas, 62, below + 38, 10, 6 + row * _PANEL_PT)
        _panel(axes, candidates, name, limits, trials)
    handles = [
        Line2D([], [], linestyle="none", **_look(standing))
        for standing in _MARKS
        if any(each.standing == standing for each in candidates)
    ]
    words = [
        _WORDS[standing]
        for standing in _MARKS
        if any(each.standing == standing for each in candidates)
    ]
    if trials:
        handles.append(Line2D([], [], linestyle="none", **_TRIAL))
        words.append("trial of the search")
    canvas.legend(
        handles,
        words,
        loc="lower center",
        ncols=3,
        frameon=False,
        fontsize=10,
        handletextpad=0.2,
        columnspacing=1.0,
        borderaxespad=0.1,
        labelspacing=0.3,
    )


def _look(standing: Standing) -> dict[str, Any]:
    marker, role, size, filled = _MARKS[standing]
    return {
        "marker": marker,
        "markersize": size,
        "markerfacecolor": STAND_INS[role] if filled else "none",
        "markeredgecolor": STAND_INS[role],
        "markeredgewidth": 1.4 if not filled else 0.5,
        "color": STAND_INS[role],
    }


def _panel(
    axes: Axes,
    candidates: Sequence[Candidate],
    name: str,
    limits: Mapping[str, Limit],
    trials: Sequence[Mapping[str, Figure]],
) -> None:
    here = [each for each in candidates if _is_drawn(each.figures, name)]
    points = [each.figures for each in here]
    tried = [figures for figures in trials if _is_drawn(figures, name)]
    wide = _reach([*points, *tried], SPEED, limits)
    high = _reach([*points, *tried], name, limits)
    if wide[0] > 0 and wide[1] / wide[0] > _LOGARITHMIC_FROM:
        axes.set_xscale("log")
        axes.set_xlim(wide[0] / 1.15, wide[1] * 1.15)
    else:
        axes.set_xlim(*_padded(*wide))
    axes.set_ylim(*_padded(*high))
    _threshold(axes, limits.get(SPEED), limits.get(name))
    if tried:
        speeds = [each[SPEED].observed for each in tried]
        axes.plot(speeds, [each[name].observed for each in tried], linestyle="none", **_TRIAL)
    for standing in ("blocked", "dominated", "front", "recommended"):
        group = [each for each in here if each.standing == standing]
        if group:
            faint = len(here) > _CROWD and standing in ("blocked", "dominated")
            _points(axes, group, name, standing, 0.2 if faint else 0.65)
    _labels(axes, here, name)
    left, right = axes.get_xlim()
    places = (
        time_ticks(left, right, True) if axes.get_xscale() == "log" else round_places(left, right)
    )
    ruler(axes, "x", places, [f"{at:g}×" for at in places], LABELS[SPEED])
    places = round_places(*axes.get_ylim())
    ruler(axes, "y", places, [f"{100 * at:.5g}%" for at in places], LABELS[name], away_pt=52)


def _is_drawn(figures: Mapping[str, Figure], name: str) -> bool:
    return all(key in figures and _is_small(figures[key].observed) for key in (SPEED, name))


def _is_small(value: float | None) -> TypeGuard[float]:
    return value is not None and abs(value) <= _LARGEST


def _values(figure: Figure) -> Iterator[float]:
    yield from filter(_is_small, (figure.observed, figure.low, figure.high))


def _reach(
    points: Iterable[Mapping[str, Figure]], name: str, limits: Mapping[str, Limit]
) -> tuple[float, float]:
    values = [value for point in points for value in _values(point[name])]
    if name in limits:
        values.append(limits[name].value)
    return min(values), max(values)


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = 0.09 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _threshold(axes: Axes, speed: Limit | None, other: Limit | None) -> None:
    """Shade what meets both limits, and draw each limit as a line."""
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    if speed is not None:
        axes.axvline(speed.value, color=STAND_INS["ink"], linewidth=1, linestyle=(0, (4, 3)))
        left = max(left, speed.value)
    if other is not None:
        axes.axhline(other.value, color=STAND_INS["ink"], linewidth=1, linestyle=(0, (4, 3)))
        if other.relation == "at_most":
            top = min(top, other.value)
        else:
            bottom = max(bottom, other.value)
    if speed is not None or other is not None:
        axes.fill_between([left, right], bottom, top, color=STAND_INS["shade"], linewidth=0,
                          zorder=0.4)  # fmt: skip


def _points(
    axes: Axes, group: Sequence[Candidate], name: str, standing: Standing, alpha: float
) -> None:
    """Draw crosses of intervals, which reach to the edge where a side is open, and marks."""
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    role = _MARKS[standing][1]
    speeds = [each.figures[SPEED] for each in group]
    others = [each.figures[name] for each in group]
    x = [figure.observed for figure in speeds]
    y = [figure.observed for figure in others]
    spans = [_span(figure, left, right) for figure in speeds]
    axes.hlines(y, [s[0] for s in spans], [s[1] for s in spans],
                color=STAND_INS[role], linewidth=1.1, alpha=alpha)  # fmt: skip
    spans = [_span(figure, bottom, top) for figure in others]
    axes.vlines(x, [s[0] for s in spans], [s[1] for s in spans],
                color=STAND_INS[role], linewidth=1.1, alpha=alpha)  # fmt: skip
    axes.plot(x, y, linestyle="none", **_look(standing))


def _span(figure: Figure, first: float, last: float) -> tuple[float, float]:
    """Return the interval as it is drawn; nothing where there is none."""
    if figure.low is None and figure.high is None:
        return figure.observed, figure.observed
    low, high = figure.low, figure.high
    return low if _is_small(low) else first, high if _is_small(high) else last


def _labels(axes: Axes, candidates: Sequence[Candidate], name: str) -> None:
    """Number the points, each where its number touches no earlier one."""
    order: tuple[Standing, ...] = ("recommended", "front", "dominated", "blocked")
    first = sorted(candidates, key=lambda each: (order.index(each.standing), each.number))
    if len(first) > MOST_LABELS:
        first = [each for each in first if each.standing in ("recommended", "front")]
    taken: list[tuple[float, float]] = [
        tuple(axes.transData.transform((e.figures[SPEED].observed, e.figures[name].observed)))
        for e in candidates
    ]
    for each in first[:MOST_LABELS]:
        at = (each.figures[SPEED].observed, each.figures[name].observed)
        x, y = axes.transData.transform(at)
        best = max(
            _OFFSETS,
            key=lambda off: min(
                (math.hypot(x + off[0] - a, 1.3 * (y + off[1] + 4 - b)) for a, b in taken),
                default=0.0,
            ),
        )
        taken.append((x + best[0], y + best[1] + 4))
        axes.annotate(
            str(each.number),
            at,
            best,
            textcoords="offset points",
            ha="left" if best[0] > 0 else "right" if best[0] < 0 else "center",
            fontsize=10,
            fontweight="bold" if each.standing == "recommended" else "normal",
        )
