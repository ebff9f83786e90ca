"""When a model is warm: a rule that looks at its calls, instead of a number of calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pytest_edgeai.records import Int64Array

WINDOW_CALLS = 50
"""Calls of a window; with two windows at least, 50 slow calls at the start are always seen."""

WINDOW_NS = 750_000_000
"""A window of long calls ends here: 50 calls that take 3 times as long at first are then seen for
models of up to 9 ms a call."""

FEWEST_CALLS = 5
"""Calls of a window, however long they take; a median of fewer follows a single call."""

SETTLED_RATIO = 1.05
"""A window counts as no faster than the one before within this ratio of their medians: windows of
equal calls differ by up to 3% on a shared machine."""

MOST_CALLS = 5000
MOST_NS = 10_000_000_000
"""Warming up ends here in any case, and the model counts as not settled."""


@dataclass(frozen=True)
class WarmUp:
    """How one model was warmed up.

    Attributes:
        calls: calls that were made and count for nothing.
        settled: whether the last calls were no faster than those before them.
        call_ns: shortest wall time of a call of the last window.
    """

    calls: int
    settled: bool
    call_ns: float


def settle(
    time_calls: Callable[[int], tuple[Int64Array, Int64Array | None]], *, limit_ns: float = MOST_NS
) -> WarmUp:
    """Run a model until a window of calls is no faster than the window before it.

    A window is 50 calls, or as many as fit into 0.75 s (a third of the limit, where that is less),
    5 at least. Compared are the medians of CPU time, which no neighbor lengthens, and of wall time
    where there is no CPU time or its clock stands still. Only getting faster counts: a window that
    is slower shows a disturbance and not a model that is still warming up. A disturbed window makes
    the next one look faster, which costs one more window.

    Args:
        time_calls: runs a number of calls and returns the wall time and, where it is valid, the CPU
            time of each in ns, int64, shape ``(calls,)``.
        limit_ns: longest time of all calls, of which two windows are made in any case.
    """
    window_ns = min(WINDOW_NS, limit_ns / 3)
    calls, spent_ns = 0, 0.0
    before: tuple[float, float] | None = None
    while True:
        wall_ns, cpu_ns = _window(time_calls, window_ns)
        calls += len(wall_ns)
        spent_ns += float(wall_ns.sum())
        medians = float(np.median(wall_ns)), 0.0 if cpu_ns is None else float(np.median(cpu_ns))
        settled = before is not None and _is_no_faster(medians, before)
        if settled or (before is not None and (calls >= MOST_CALLS or spent_ns >= limit_ns)):
            return WarmUp(calls, settled, float(wall_ns.min()))
        before = medians


def _is_no_faster(now: tuple[float, float], before: tuple[float, float]) -> bool:
    """Compare medians of wall and CPU time; a CPU time of 0 says nothing."""
    clock = 1 if now[1] > 0 and before[1] > 0 else 0
    return before[clock] <= SETTLED_RATIO * now[clock]


def _window(
    time_calls: Callable[[int], tuple[Int64Array, Int64Array | None]], window_ns: float
) -> tuple[Int64Array, Int64Array | None]:
    """Return the wall and CPU times of one window."""
    parts = [time_calls(FEWEST_CALLS)]
    calls = FEWEST_CALLS
    spent_ns = float(parts[0][0].sum())
    while calls < WINDOW_CALLS and spent_ns < window_ns:
        last_ns = max(1.0, float(parts[-1][0].mean()))
        count = max(1, min(WINDOW_CALLS - calls, int((window_ns - spent_ns) / last_ns)))
        parts.append(time_calls(count))
        calls += count
        spent_ns += float(parts[-1][0].sum())
    cpu = [cpu_ns for _, cpu_ns in parts if cpu_ns is not None]
    return (
        np.concatenate([wall_ns for wall_ns, _ in parts]),
        np.concatenate(cpu) if cpu else None,
    )
