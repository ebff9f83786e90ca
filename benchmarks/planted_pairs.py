"""Pairs of planted models with a known ratio, measured and judged as real pairs are."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field

import numpy as np

from pytest_edgeai.judge.speed import judge_speed, speed_decided
from pytest_edgeai.judge.timings import is_contended
from pytest_edgeai.measure.latency import interleave
from pytest_edgeai.measure.rounds import Rounds
from pytest_edgeai.records import Threshold, Verdict
from pytest_edgeai.selfcheck.planted import PlantedModel
from pytest_edgeai.selfcheck.rates import Rate, rate
from pytest_edgeai.selfcheck.workload import Workshop, repetitions_for

TRIAL_REPETITIONS = 2000


def repetition_ns(workshop: Workshop) -> float:
    """Return what one repetition of a planted model takes here, about, in undisturbed calls."""
    with workshop.loaded(PlantedModel(repetitions=TRIAL_REPETITIONS)) as (model,):
        model.time_calls(100)
        return float(np.quantile(model.time_calls(100).cpu_ns, 0.1)) / TRIAL_REPETITIONS


def planted(call_ns: float, one_ns: float) -> PlantedModel:
    """Return a planted model whose call takes ``call_ns``, about."""
    return PlantedModel(repetitions=repetitions_for(call_ns, one_ns))


def is_wrong(outcome: str, relative: float) -> bool:
    """Whether an outcome contradicts a true ratio of ``relative`` times the threshold."""
    return outcome == ("pass" if relative < 1 else "fail")


@dataclass
class Tally:
    """Verdicts about one case.

    Attributes:
        relative: true ratio / threshold.
        verdicts: in the order of the trials.
        seconds: what each took, warming up included, starting the processes excluded.
    """

    relative: float
    verdicts: list[Verdict] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def wrong(self) -> Rate:
        """Verdicts that contradict the truth."""
        count = sum(is_wrong(verdict.outcome, self.relative) for verdict in self.verdicts)
        return rate(count, len(self.verdicts))

    @property
    def inconclusive(self) -> Rate:
        """Verdicts that say neither."""
        count = sum(verdict.outcome == "inconclusive" for verdict in self.verdicts)
        return rate(count, len(self.verdicts))

    def cells(self) -> list[str]:
        """Return cells of a table: wrong, inconclusive, rounds, seconds, waits."""
        waits = [len(verdict.details["waits"]) for verdict in self.verdicts]
        rounds = [verdict.samples for verdict in self.verdicts]
        return [
            share_text(self.wrong),
            share_text(self.inconclusive),
            f"{np.median(rounds):.0f}",
            f"{np.median(self.seconds):.1f} ({max(self.seconds):.1f})",
            f"{np.mean(waits):.1f}",
        ]


CELLS = ("wrong", "inconclusive", "rounds", "s (longest)", "waits")


def share_text(share: Rate) -> str:
    """Format a share with its interval: ``1 of 40 (0.1% to 13.2%)``."""
    return f"{share.count} of {share.trials} ({share.low:.1%} to {share.high:.1%})"


def judge_pair(
    workshop: Workshop,
    baseline: PlantedModel,
    candidate: PlantedModel,
    threshold: Threshold,
    budget_s: float,
) -> tuple[Verdict, float]:
    """Measure a pair in fresh processes with the product's defaults; return verdict and seconds."""
    with workshop.loaded(baseline, candidate) as (first, second):
        begin = time.perf_counter()
        timings, spent = interleave(
            first,
            second,
            Rounds.of(2),
            decided=lambda timings: speed_decided(timings, threshold),
            is_contended=is_contended,
            budget_s=budget_s,
            generator=random.Random(),
            progress=lambda rounds, seconds: None,
        )
        seconds = time.perf_counter() - begin
    return judge_speed(timings, threshold, budget_spent=spent), seconds
