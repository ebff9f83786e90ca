"""What each stage on the way to a candidate changed, as a waterfall of latencies."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from pytest_edgeai.records import Stage
from pytest_edgeai.report.plots import STAND_INS, Plot, add_axes, draw, ruler
from pytest_edgeai.report.plots_latency import time_ticks
from pytest_edgeai.report.quantities import format_quantity

_ROW_PT = 27.0


def stages_plot(key: str, stages: Sequence[Stage], validation: str, *, ships: bool) -> Plot | None:
    """Return the waterfall; ``None`` for fewer than two stages.

    Args:
        key: see :class:`~pytest_edgeai.report.plots.Plot`.
        stages: in their order, the baseline first.
        validation: what the gates said of the last one, in a few words.
        ships: whether nothing blocks it.
    """
    times = [stage.latency.p50_ns for stage in stages]
    if len(stages) < 2 or min(times) <= 0:
        return None
    told = ", ".join(
        f"{stage.name} {format_quantity(stage.latency.p50_ns, 'ns')}" for stage in stages
    )
    return draw(
        key,
        "Median latency, stage by stage",
        f"{told}; validation: {validation}.",
        _ROW_PT * (len(stages) + 1) + 44,
        lambda figure: _paint(figure, stages, times, validation, ships),
    )


def _paint(
    figure: Figure, stages: Sequence[Stage], times: list[float], validation: str, ships: bool
) -> None:
    axes = add_axes(figure, 76, 40, 8, 4)
    widest = max(times)
    # Room for the words beside the longest bar.
    axes.set_xlim(0, widest * 1.6)
    rows = len(stages)
    axes.set_ylim(rows + 0.5, -0.5)
    before = 0.0
    for row, now in enumerate(times):
        # The last bar is whole, and stands for the way from the baseline.
        slower = row > 0 and now > (times[0] if row == rows - 1 else before)
        role = "baseline" if row == 0 else "bad" if slower else "candidate"
        start = 0.0 if row in (0, rows - 1) else min(before, now)
        end = now if row in (0, rows - 1) else max(before, now)
        axes.barh(
            row,
            end - start,
            left=start,
            height=0.62,
            color=STAND_INS[role],
            alpha=0.85 if row in (0, rows - 1) else 0.45,
            linewidth=0,
        )
        axes.plot([now, now], [row - 0.31, row + 0.31], color=STAND_INS[role], linewidth=2)
        if row + 1 < rows:
            axes.plot([now, now], [row + 0.31, row + 0.69], color=STAND_INS["muted"], linewidth=0.9)
        change = "" if row == 0 else f" ({now / times[0] - 1:+.0%})".replace("-", "\u2212")
        axes.text(
            max(end, now) + 0.02 * widest,
            row,
            f"{format_quantity(now, 'ns')}{change}",
            va="center",
            parse_math=False,
        )
        before = now
    axes.text(
        0.02 * widest,
        rows,
        validation,
        va="center",
        color=STAND_INS["good" if ships else "bad"],
        fontweight="bold",
        parse_math=False,
    )
    axes.axhline(rows - 0.5, color=STAND_INS["rule"], linewidth=0.8)
    words = [*(stage.name for stage in stages), "validation"]
    ruler(axes, "y", range(rows + 1), words, has_line=False, has_grid=False)
    ticks = [tick for tick in time_ticks(0.0, widest * 1.35, False, 4) if tick >= 0]
    times_shown = [format_quantity(tick, "ns") if tick else "0" for tick in ticks]
    ruler(axes, "x", ticks, times_shown, "median latency; change against the baseline")
