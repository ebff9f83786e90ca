"""Answers of gates against a known truth, as counts and as rates with their intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from scipy import special

from pytest_edgeai.records import JSON, Outcome

Truth: TypeAlias = Literal["met", "missed"]
Judgment: TypeAlias = Literal["right", "false_pass", "false_fail", "inconclusive"]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Answer:
    """What a gate said about a planted case.

    Attributes:
        gate: name of the gate.
        asked: the question in a few words, e.g. ``speedup at least 2``.
        truth: whether the requirement is ``met``.
        outcome: what the gate said.
        reason: why.
    """

    gate: str
    asked: str
    truth: Truth
    outcome: Outcome
    reason: str = ""

    @property
    def judgment(self) -> Judgment:
        """Whether the gate was right."""
        return judge_answer(self.truth, self.outcome)


def judge_answer(truth: Truth, outcome: Outcome) -> Judgment:
    """Compare an outcome with the truth.

    ``pass`` and ``not_applicable`` let a candidate ship, ``fail`` and ``error`` say that it must
    not; ``inconclusive`` and ``proxy`` say neither.
    """
    if outcome in ("inconclusive", "proxy"):
        return "inconclusive"
    ships = outcome in ("pass", "not_applicable")
    if ships == (truth == "met"):
        return "right"
    return "false_pass" if ships else "false_fail"


@dataclass(frozen=True)
class Rate:
    """A share with its Clopper-Pearson interval.

    Attributes:
        count: how often it happened.
        trials: of how many.
        low: lower bound.
        high: upper bound.
    """

    count: int
    trials: int
    low: float
    high: float


def rate(count: int, trials: int, confidence: float = CONFIDENCE) -> Rate:
    """Return a share with its two-sided exact interval (Clopper and Pearson 1934, Biometrika 26).

    Nothing is known without trials: the interval is then from 0 to 1.

    Raises:
        ValueError: for a count outside of 0 to ``trials``.
    """
    if not 0 <= count <= trials:
        raise ValueError(f"{count} of {trials} is no share")
    tail = (1 - confidence) / 2
    low = special.betaincinv(count, trials - count + 1, tail) if count else 0.0
    high = special.betaincinv(count + 1, trials - count, 1 - tail) if count < trials else 1.0
    return Rate(count, trials, float(low), float(high))


@dataclass(frozen=True)
class Tally:
    """Counts of answers.

    Attributes:
        met: answers about requirements that are met.
        missed: answers about requirements that are missed.
        false_passes: of ``missed``.
        false_fails: of ``met``.
        undecided: of all.
    """

    met: int = 0
    missed: int = 0
    false_passes: int = 0
    false_fails: int = 0
    undecided: int = 0

    def __add__(self, other: Tally) -> Tally:
        """Return the counts of both."""
        return Tally(
            self.met + other.met,
            self.missed + other.missed,
            self.false_passes + other.false_passes,
            self.false_fails + other.false_fails,
            self.undecided + other.undecided,
        )

    @property
    def answers(self) -> int:
        """Number of answers."""
        return self.met + self.missed

    @property
    def false_pass(self) -> Rate:
        """Share of passes where the requirement is missed."""
        return rate(self.false_passes, self.missed)

    @property
    def false_fail(self) -> Rate:
        """Share of failures where the requirement is met."""
        return rate(self.false_fails, self.met)

    @property
    def inconclusive(self) -> Rate:
        """Share of all answers that decide nothing."""
        return rate(self.undecided, self.answers)


def tally(answers: Iterable[Answer]) -> Tally:
    """Count answers."""
    total = Tally()
    for answer in answers:
        judgment = answer.judgment
        total += Tally(
            met=answer.truth == "met",
            missed=answer.truth == "missed",
            false_passes=judgment == "false_pass",
            false_fails=judgment == "false_fail",
            undecided=judgment == "inconclusive",
        )
    return total


@dataclass(frozen=True)
class CaseResult:
    """One planted case, run.

    Attributes:
        name: name of the case.
        group: what it is counted with: ``speed``, ``contended`` ...
        truth: the known truth, in words.
        counts: its answers, counted.
        falsehoods: what its gates said and must not say, or say more often than they promise.
        details: figures for the report, as plain JSON values.
        not_run: why it was not run; empty where it was.
        error: why it could not be measured; empty where it was.
        seconds: how long it took.
    """

    name: str
    group: str
    truth: str
    counts: Tally = field(default_factory=Tally)
    falsehoods: tuple[str, ...] = ()
    details: Mapping[str, JSON] = field(default_factory=dict)
    not_run: str = ""
    error: str = ""
    seconds: float = 0.0

    @property
    def is_wrong(self) -> bool:
        """Whether a verdict was false."""
        return bool(self.falsehoods)

    @property
    def is_undecided(self) -> bool:
        """Whether it ran and no gate decided anything."""
        return self.counts.answers > 0 and self.counts.undecided == self.counts.answers


def falsehoods(answers: Iterable[Answer]) -> tuple[str, ...]:
    """Return the false ones of some answers, in words."""
    words = {"false_pass": "passed", "false_fail": "failed"}
    return tuple(
        f"{answer.asked} is {answer.truth} and {words[answer.judgment]}: {answer.reason}"
        for answer in answers
        if answer.judgment in words
    )


def breaks_promise(counts: Tally, promised_ratio: float) -> bool:
    """Return whether false verdicts are more frequent than promised, beyond chance.

    With a promise of 0, one is enough; otherwise the lower bound of a rate must exceed it.
    """
    if promised_ratio == 0:
        return counts.false_passes + counts.false_fails > 0
    return max(counts.false_pass.low, counts.false_fail.low) > promised_ratio
