"""Watch one planted pair as a real pair is watched, and ask the gates of stability about it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pytest_edgeai.judge.drift import judge_latency_drift
from pytest_edgeai.judge.limits import (
    LATENCY_DRIFT_RATIO,
    LATENCY_TAIL_RATIO,
    MEMORY_GROWTH_BYTES,
)
from pytest_edgeai.judge.memory_growth import judge_memory_growth
from pytest_edgeai.judge.tail import judge_latency_tail
from pytest_edgeai.judge.turns import is_settled
from pytest_edgeai.judge.verdict import count_text
from pytest_edgeai.measure.stability import Turns, take_turns
from pytest_edgeai.records import StabilitySamples, Threshold, Verdict
from pytest_edgeai.selfcheck.cases import StabilityGate, WatchedCase
from pytest_edgeai.selfcheck.rates import Answer
from pytest_edgeai.selfcheck.workload import Workshop

_GATES: Mapping[StabilityGate, tuple[float, Callable[[StabilitySamples, Threshold], Verdict]]] = {
    "latency_tail": (LATENCY_TAIL_RATIO, judge_latency_tail),
    "latency_drift": (LATENCY_DRIFT_RATIO, judge_latency_drift),
    "memory_growth": (float(MEMORY_GROWTH_BYTES), judge_memory_growth),
}
"""The limits that real candidates have to keep by default, and what judges them."""


@dataclass(frozen=True, eq=False)
class Watch:
    """One measurement of one planted pair in fresh processes.

    Attributes:
        answers: what the gates said.
        turns: turns that were measured.
        seconds: how long they took, the start of the processes excluded.
    """

    answers: tuple[Answer, ...]
    turns: int
    seconds: float


def watch(
    case: WatchedCase,
    workshop: Workshop,
    *,
    budget_s: float,
    generator: random.Random,
    progress: Callable[[str, float], None],
) -> Watch:
    """Measure a pair until every gate has decided or the budget is spent.

    The caller holds the measurement lock of the machine (`measure.exclusive`).

    Args:
        case: the pair.
        workshop: where its models are made.
        budget_s: longest time of the turns.
        generator: source of the random order.
        progress: called with what is being done and the share of the budget that is spent.

    Raises:
        EdgeAIError: a worker failed.
    """
    with workshop.loaded(*case.models(workshop.repetitions())) as (baseline, candidate):
        samples, seconds = take_turns(
            baseline,
            candidate,
            Turns(),
            decided=lambda turns: all(is_settled(verdict, turns.turns) for verdict in judge(turns)),
            budget_s=budget_s,
            generator=generator,
            progress=lambda turns, spent_s: progress(
                f"{case.truth}, {count_text(turns, 'turn')}", min(1.0, spent_s / budget_s)
            ),
        )
    answers = tuple(
        Answer(
            gate,
            f"{gate} at most {_GATES[gate][0]:g}",
            "missed" if gate == case.missed else "met",
            verdict.outcome,
            verdict.reason,
        )
        for gate, verdict in zip(_GATES, judge(samples), strict=True)
    )
    return Watch(answers, samples.turns, seconds)


def judge(samples: StabilitySamples) -> tuple[Verdict, ...]:
    """Ask every gate, with the defaults that real candidates are judged with."""
    return tuple(
        judged(samples, Threshold(limit, "at_most", "self-check"))
        for limit, judged in _GATES.values()
    )
