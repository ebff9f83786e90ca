"""The product's gates on what a few calls do not show: the tail, drift and growth of memory."""

from __future__ import annotations

import random
from collections.abc import Sequence

from pytest_edgeai.judge.turns import is_settled
from pytest_edgeai.measure.bench import LoadedRunnable
from pytest_edgeai.measure.stability import Turns, take_turns
from pytest_edgeai.records import Verdict
from pytest_edgeai.selfcheck.watched import judge


def judge_stability(models: Sequence[LoadedRunnable], budget_s: float) -> list[Verdict]:
    """Run baseline and candidate in turns, and ask ``latency_tail``, ``_drift``, ``memory_growth``.

    Args:
        models: the baseline and the candidate, loaded in fresh processes.
        budget_s: longest time of the turns.

    Raises:
        EdgeAIError: a worker failed.
    """
    baseline, candidate = models
    samples, _ = take_turns(
        baseline,
        candidate,
        Turns(),
        decided=lambda turns: all(is_settled(verdict, turns.turns) for verdict in judge(turns)),
        budget_s=budget_s,
        generator=random.Random(),
        progress=lambda turns, seconds: None,
    )
    return list(judge(samples))
