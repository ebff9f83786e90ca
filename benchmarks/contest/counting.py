"""Trials as counts against the known truth, with their exact intervals."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.contest.cases import CASES, Case, cell_truth
from benchmarks.contest.contestants import Contestant
from benchmarks.contest.trials import Record, Trial
from pytest_edgeai.selfcheck.rates import Rate, Truth, judge_answer, rate

_BLOCKING = ("error", "crash", "timeout")


@dataclass(frozen=True)
class Counts:
    """What a contestant said of requirements with one truth.

    Attributes:
        right: rightly passed or blocked.
        wrong: false alarms where the requirement is met, misses where it is not.
        undecided: neither.
    """

    right: int = 0
    wrong: int = 0
    undecided: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Return the counts of both."""
        return Counts(
            self.right + other.right,
            self.wrong + other.wrong,
            self.undecided + other.undecided,
        )

    @property
    def trials(self) -> int:
        """Number of trials."""
        return self.right + self.wrong + self.undecided

    @property
    def wrong_rate(self) -> Rate:
        """Share of the trials that are wrong."""
        return rate(self.wrong, self.trials)

    @property
    def held_back_rate(self) -> Rate:
        """Share of the trials that let nothing ship that misses its requirement."""
        return rate(self.right + self.undecided, self.trials)

    @property
    def right_rate(self) -> Rate:
        """Share of the trials that are right."""
        return rate(self.right, self.trials)


def count(truth: Truth, outcomes: Iterable[tuple[str, int]]) -> Counts:
    """Count outcomes; what ends without a verdict blocks a release, as a failure does."""
    total = Counts()
    for outcome, number in outcomes:
        said = "error" if outcome in _BLOCKING else outcome
        if said not in ("pass", "fail", "error", "inconclusive"):
            raise ValueError(f"unknown outcome {outcome!r}")
        judgment = judge_answer(truth, said)  # type: ignore[arg-type]
        total += Counts(
            right=number * (judgment == "right"),
            wrong=number * judgment.startswith("false"),
            undecided=number * (judgment == "inconclusive"),
        )
    return total


def count_trials(case: Case, trials: Iterable[Trial]) -> Counts:
    """Count the trials of a case that is not drawn."""
    return count(case.truth, ((trial.outcome, 1) for trial in trials))


def count_draws(
    trials: Iterable[Trial], *, threshold: float, loss: float, samples: int
) -> tuple[Counts, float]:
    """Count the drawn pairs of one kind; return them with the seconds that a verdict took."""
    total, seconds = Counts(), 0.0
    wanted = (threshold, loss, samples)
    for trial in trials:
        for cell in trial.cells:
            if (cell.threshold, cell.loss, cell.samples) == wanted:
                total += count(cell_truth(loss, threshold), cell.outcomes.items())
                seconds += cell.seconds
    return total, seconds / total.trials if total.trials else 0.0


def count_cases(
    record: Record, contestant: Contestant, variant: str, cases: Iterable[Case]
) -> Counts:
    """Count several cases together."""
    total = Counts()
    for case in cases:
        total += count_trials(case, record.of(contestant.name, case.name, variant))
    return total


def verdict_seconds(record: Record, contestant: Contestant, variant: str) -> list[float]:
    """Return the seconds of every verdict on speed, start of processes included."""
    names = [case.name for case in CASES if case.kind == "speed" and case.name != "broken-baseline"]
    return [trial.seconds for name in names for trial in record.of(contestant.name, name, variant)]


def speed_accuracy(record: Record, contestant: Contestant, variant: str) -> float | None:
    """Return the share of right verdicts on speed, every case weighing the same."""
    shares = []
    for case in CASES:
        if case.kind == "speed" and case.name != "broken-baseline":
            counts = count_trials(case, record.of(contestant.name, case.name, variant))
            if counts.trials:
                shares.append(counts.right / counts.trials)
    return statistics.fmean(shares) if shares else None
