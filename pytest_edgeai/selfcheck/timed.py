"""Time one planted pair as a real pair is timed, and ask the gates about it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from pytest_edgeai.judge.latency import judge_latency_consistency
from pytest_edgeai.judge.speed import judge_speed, speed_decided
from pytest_edgeai.judge.timings import is_contended
from pytest_edgeai.measure.latency import interleave
from pytest_edgeai.measure.rounds import Rounds
from pytest_edgeai.records import PairedTimings, Verdict
from pytest_edgeai.selfcheck.cases import Question, TimedCase
from pytest_edgeai.selfcheck.disturbance import bursts
from pytest_edgeai.selfcheck.noise import cores
from pytest_edgeai.selfcheck.rates import Answer
from pytest_edgeai.selfcheck.workload import Workshop

SEED = 0


@dataclass(frozen=True, eq=False)
class Trial:
    """One measurement of one planted pair in fresh processes.

    Attributes:
        answers: what the gates said, in the order of the questions.
        verdicts: the verdicts behind them.
        timings: every round.
        seconds: how long the rounds took, the start of the processes excluded.
    """

    answers: tuple[Answer, ...]
    verdicts: tuple[Verdict, ...]
    timings: PairedTimings
    seconds: float


def run_trial(
    case: TimedCase,
    workshop: Workshop,
    *,
    budget_s: float,
    generator: random.Random,
    progress: Callable[[str, float], None],
) -> Trial:
    """Measure a pair until every question is decided or the budget is spent.

    The caller holds the measurement lock of the machine (`measure.exclusive`).

    Args:
        case: the pair and the questions.
        workshop: where its models are made.
        budget_s: longest time of the rounds.
        generator: source of the random order.
        progress: called with what is being done and the share of the budget that is spent.

    Raises:
        EdgeAIError: a worker failed.
    """
    disturbing = {"none": 0, "one-core": 1, "all-cores": cores()}[case.load]
    models = case.models(workshop.repetitions())
    with (
        workshop.loaded(*models) as (baseline, candidate),
        bursts(disturbing),
    ):
        begin = time.monotonic()
        timings, spent = interleave(
            baseline,
            candidate,
            Rounds.of(2),
            decided=lambda rounds: all(decided(question, rounds) for question in case.questions),
            is_contended=is_contended,
            budget_s=budget_s,
            generator=generator,
            progress=lambda rounds, seconds: progress(
                f"{case.truth}, {rounds} rounds", min(1.0, seconds / budget_s)
            ),
        )
        seconds = time.monotonic() - begin
    verdicts = tuple(judge(question, timings, spent) for question in case.questions)
    answers = tuple(
        Answer(question.gate, question.asked, question.truth, verdict.outcome, verdict.reason)
        for question, verdict in zip(case.questions, verdicts, strict=True)
    )
    return Trial(answers, verdicts, timings, seconds)


def decided(question: Question, timings: PairedTimings) -> bool:
    """Return whether further rounds would not change the answer, or are not waited for."""
    if question.gate == "latency_consistency":
        return timings.rounds >= question.rounds
    return speed_decided(timings, question.threshold)


def judge(question: Question, timings: PairedTimings, spent: bool) -> Verdict:
    """Ask the gate, with the defaults that real candidates are judged with."""
    if question.gate == "latency_consistency":
        return judge_latency_consistency(
            timings, question.threshold, absolute_limits_ns={}, budget_spent=spent, seed=SEED
        )
    return judge_speed(timings, question.threshold, budget_spent=spent)
