"""How long timing two models in turns takes, from the times of their calls alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pytest_edgeai.measure.latency import (
    PAUSE_BETWEEN_ATTEMPTS_S,
    ROUNDS_PER_ATTEMPT,
    WARM_UP_CALLS,
    WARM_UP_SHARE,
)
from pytest_edgeai.measure.lead_in import lead_in_calls
from pytest_edgeai.measure.warmup import FEWEST_CALLS, WINDOW_CALLS, WINDOW_NS

REQUEST_NS = 300_000
"""What asking a worker for a turn costs beside the calls, measured on a shared machine."""

START_S = 0.5
"""Assumed for starting a worker and loading a small model into it: an allowance, not measured."""

_WINDOWS = 2


def rounds_seconds(
    rounds: int, calls_ns: Sequence[float], *, budget_s: float, per_start: int = 0
) -> float:
    """Return the seconds that :func:`~pytest_edgeai.measure.latency.interleave` takes.

    The models are warmed up, two windows of calls each where they settle at once; then every round
    gives each its turn, the calls that lead in and the one that is judged. Attempts are a pause and
    a few calls apart. Waiting for other processes is not in it.

    Args:
        rounds: rounds in all.
        calls_ns: time of one call of each model, in nanoseconds.
        budget_s: budget of the measurement, a share of which bounds the warm-up.
        per_start: rounds of one pair of processes; 0 where one pair takes all.
    """
    if per_start:
        starts = math.ceil(rounds / per_start)
        one_s = rounds_seconds(per_start, calls_ns, budget_s=budget_s)
        return starts * (one_s + len(calls_ns) * START_S)
    further = max(0, math.ceil(rounds / ROUNDS_PER_ATTEMPT) - 1)
    total_ns = 0.0
    for call_ns in calls_ns:
        calls = rounds * (lead_in_calls(call_ns) + 1) + further * WARM_UP_CALLS
        total_ns += (_warm_up_calls(call_ns, budget_s) + calls) * call_ns + rounds * REQUEST_NS
    return total_ns / 1e9 + further * PAUSE_BETWEEN_ATTEMPTS_S


def turns_seconds(
    turns: int, kept: Sequence[int], calls_ns: Sequence[float], *, budget_s: float
) -> float:
    """Return the seconds that :func:`~pytest_edgeai.measure.stability.take_turns` takes.

    Args:
        turns: turns in all.
        kept: judged calls in a turn of each model.
        calls_ns: time of one call of each model, in nanoseconds.
        budget_s: budget of the measurement, a share of which bounds the warm-up.
    """
    total_ns = 0.0
    for call_ns, count in zip(calls_ns, kept, strict=True):
        calls = turns * (lead_in_calls(call_ns) + count)
        # Each turn is followed by a question for the memory.
        total_ns += (_warm_up_calls(call_ns, budget_s) + calls) * call_ns + 2 * turns * REQUEST_NS
    return total_ns / 1e9


def _warm_up_calls(call_ns: float, budget_s: float) -> int:
    window_ns = min(WINDOW_NS, WARM_UP_SHARE * budget_s * 1e9 / 3)
    return _WINDOWS * max(FEWEST_CALLS, min(WINDOW_CALLS, int(window_ns / max(call_ns, 1.0))))
