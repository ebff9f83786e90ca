"""The gates of stability: what shows only in a longer run, all from one measurement."""

from __future__ import annotations

from collections.abc import Callable

from pytest_edgeai.judge.drift import judge_latency_drift
from pytest_edgeai.judge.memory_growth import judge_memory_growth
from pytest_edgeai.judge.tail import judge_latency_tail
from pytest_edgeai.judge.turns import is_settled
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.records import StabilitySamples, Threshold, Verdict
from pytest_edgeai.stability_measurements import stability
from pytest_edgeai.workbench import Workbench


def decide_latency_tail(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold
) -> Verdict:
    """Calls that take more than twice the median, counted on both sides."""
    return _decide(bench, candidate, lambda turns: judge_latency_tail(turns, threshold))


def decide_latency_drift(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold
) -> Verdict:
    """The last third of the turns against the first, by the ratio to the baseline."""
    return _decide(bench, candidate, lambda turns: judge_latency_drift(turns, threshold))


def decide_memory_growth(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold
) -> Verdict:
    """What the process holds between the turns, once its beginning is over."""
    return _decide(bench, candidate, lambda turns: judge_memory_growth(turns, threshold))


def _decide(
    bench: Workbench, candidate: PlannedCandidate, judge: Callable[[StabilitySamples], Verdict]
) -> Verdict:
    return judge(stability(bench, candidate, lambda turns: is_settled(judge(turns), turns.turns)))
