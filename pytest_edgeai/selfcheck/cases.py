"""The planted cases: what is done, and what is true of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from pytest_edgeai.judge.latency import MINIMUM_ROUNDS
from pytest_edgeai.records import Threshold
from pytest_edgeai.selfcheck.planted import PlantedModel
from pytest_edgeai.selfcheck.rates import Truth

STEPS = 20
"""Repetitions of a planted model are a multiple of this, so that 5% more work is a whole number."""

Load: TypeAlias = Literal["none", "one-core", "all-cores"]
StabilityGate: TypeAlias = Literal["latency_tail", "latency_drift", "memory_growth"]
Check: TypeAlias = Literal[
    "accuracy", "outputs", "unmeasurable", "precision", "artifacts", "memory"
]


@dataclass(frozen=True)
class Question:
    """What a gate is asked about a pair of models.

    Attributes:
        gate: ``speedup`` or ``latency_consistency``.
        limit: the threshold.
        truth: whether the pair meets it.
        rounds: rounds after which ``latency_consistency`` is asked; it takes one look.
    """

    gate: Literal["speedup", "latency_consistency"]
    limit: float
    truth: Truth
    rounds: int = MINIMUM_ROUNDS

    @property
    def threshold(self) -> Threshold:
        """The threshold as the judges take it."""
        relation: Literal["at_least", "at_most"] = (
            "at_least" if self.gate == "speedup" else "at_most"
        )
        return Threshold(self.limit, relation, "self-check")

    @property
    def asked(self) -> str:
        """The question in a few words."""
        return f"{self.gate} {self.threshold.relation.replace('_', ' ')} {self.limit:g}"


@dataclass(frozen=True)
class TimedCase:
    """A pair of planted models that is timed.

    Attributes:
        name: id of the case.
        truth: the truth in words.
        questions: what is asked about it.
        work: work of the candidate, in parts of :data:`STEPS` of the baseline's.
        baseline: what is special about the baseline.
        candidate: what is special about the candidate.
        load: busy processes beside it.
        weight: share of the time, relative to the other cases.
    """

    name: str
    truth: str
    questions: tuple[Question, ...]
    work: int = STEPS
    baseline: PlantedModel = field(default_factory=PlantedModel)
    candidate: PlantedModel = field(default_factory=PlantedModel)
    load: Load = "none"
    weight: float = 1.0

    @property
    def group(self) -> str:
        """What its answers are counted with."""
        return "speed" if self.load == "none" else "contended"

    def models(self, repetitions: int) -> tuple[PlantedModel, PlantedModel]:
        """Return baseline and candidate; ``repetitions`` is the baseline's work.

        Raises:
            ValueError: if the candidate's share of them is no whole number.
        """
        work, rest = divmod(repetitions * self.work, STEPS)
        if rest:
            raise ValueError(f"{repetitions} repetitions are no multiple of {STEPS}")
        return (
            replace(self.baseline, repetitions=repetitions),
            replace(self.candidate, repetitions=work),
        )


@dataclass(frozen=True)
class CheckedCase:
    """A case that is not timed.

    Attributes:
        name: id of the case.
        truth: the truth in words.
        check: which check runs it.
        weight: share of the time where it takes what it gets; 0 where it takes what it needs.
    """

    name: str
    truth: str
    check: Check
    weight: float = 0.0

    @property
    def group(self) -> str:
        """What its answers are counted with."""
        return "accuracy" if self.check == "accuracy" else "artifacts"


@dataclass(frozen=True)
class WatchedCase:
    """A candidate that is watched over many turns, beside the same model without the fault.

    Every gate of stability is asked about it: one has to see the fault, the others must not see
    one.

    Attributes:
        name: id of the case.
        truth: the fault in words.
        missed: the gate whose requirement it misses.
        candidate: what is special about the candidate.
        weight: share of the time, relative to the other cases.
    """

    name: str
    truth: str
    missed: StabilityGate
    candidate: PlantedModel
    weight: float = 1.0

    group = "stability"

    def models(self, repetitions: int) -> tuple[PlantedModel, PlantedModel]:
        """Return baseline and candidate; ``repetitions`` is the work of a call of either."""
        return (
            PlantedModel(repetitions=repetitions),
            replace(self.candidate, repetitions=repetitions),
        )


@dataclass(frozen=True)
class UncoveredCase:
    """A fault that no gate judges; it is reported as such and never counted.

    Attributes:
        name: id of the case.
        truth: the fault in words.
        reason: why no gate can see it.
    """

    name: str
    truth: str
    reason: str

    group = "uncovered"
    weight = 0.0


Case: TypeAlias = TimedCase | CheckedCase | WatchedCase | UncoveredCase

_SAME = (
    Question("speedup", 1.05, "missed"),
    Question("speedup", 2.0, "missed"),
    Question("speedup", 0.95, "met"),
)
_TWICE = (Question("speedup", 1.5, "met"), Question("speedup", 2.5, "missed"))

CASES: tuple[Case, ...] = (
    CheckedCase(
        "precision",
        "float32 models that call themselves INT8, by name or by fake quantization, and a real one",
        "precision",
    ),
    CheckedCase(
        "artifacts",
        "a wrong artifact under a known name, an artifact that changed after measuring",
        "artifacts",
    ),
    CheckedCase(
        "outputs",
        "constants, NaN, the labels' mode, the last call's output, one dead class; and a right one",
        "outputs",
    ),
    CheckedCase(
        "unmeasurable",
        "metrics that cannot be computed, a baseline that cannot run",
        "unmeasurable",
    ),
    CheckedCase("memory", "a quarter of the memory; the same, leaking 1 MiB a call", "memory"),
    CheckedCase(
        "accuracy", "losses of 1%, 3%, 6% and 10% at n = 50 to 10,000", "accuracy", weight=1.0
    ),
    TimedCase(
        "same-model",
        "the same model twice",
        (*_SAME, Question("latency_consistency", 1.10, "met")),
        weight=3.0,
    ),
    TimedCase(
        "slower-5",
        "5% more work",
        (Question("speedup", 1.0, "missed"), Question("speedup", 0.9, "met")),
        work=21,
    ),
    TimedCase(
        "slower-15",
        "15% more work",
        (Question("speedup", 1.0, "missed"), Question("speedup", 0.95, "missed")),
        work=23,
    ),
    TimedCase(
        "slower-50",
        "50% more work",
        (Question("speedup", 1.0, "missed"), Question("speedup", 0.95, "missed")),
        work=30,
    ),
    TimedCase(
        "int8-slower",
        'an "INT8" model that is 1.3 times slower than its baseline',
        (Question("speedup", 1.0, "missed"), Question("speedup", 2.0, "missed")),
        work=26,
    ),
    TimedCase("twice-as-fast", "half the work", _TWICE, work=10),
    TimedCase(
        "slow-start",
        "the candidate's first 50 calls take 3 times as long, then it is the baseline's equal",
        (Question("speedup", 1.05, "missed"), Question("speedup", 0.95, "met")),
        candidate=PlantedModel(slow_calls=50, slow_factor=3),
    ),
    TimedCase(
        "slow-baseline",
        "the baseline's first 50 calls take 3 times as long, then it is the candidate's equal",
        (Question("speedup", 1.05, "missed"),),
        baseline=PlantedModel(slow_calls=50, slow_factor=3),
    ),
    TimedCase(
        "long-tail",
        "one call in 10 takes 4 times as long",
        (Question("latency_consistency", 1.10, "missed", rounds=2 * MINIMUM_ROUNDS),),
        candidate=PlantedModel(tail_every=10, tail_factor=4),
    ),
    TimedCase("busy-core-same", "the same model twice, bursts on one core", _SAME, load="one-core"),
    TimedCase(
        "busy-core-twice", "half the work, bursts on one core", _TWICE, work=10, load="one-core"
    ),
    TimedCase(
        "busy-machine-same", "the same model twice, bursts on all cores", _SAME, load="all-cores"
    ),
    TimedCase(
        "busy-machine-twice",
        "half the work, bursts on all cores",
        _TWICE,
        work=10,
        load="all-cores",
    ),
    WatchedCase(
        "slow-leak",
        "leaks 4 KiB with every call",
        "memory_growth",
        PlantedModel(leak_bytes=4096),
    ),
    WatchedCase(
        "drift",
        "gets slower: by half in 1,600 calls",
        "latency_drift",
        PlantedModel(drift_calls=1600),
    ),
    WatchedCase(
        "rare-tail",
        "takes 4 times as long in every 200th call",
        "latency_tail",
        PlantedModel(tail_every=200, tail_factor=4, tail_regular=True),
    ),
    UncoveredCase(
        "late-fault",
        "leaks or gets slower only after an hour",
        "the gates of stability watch some thousand calls, for as long as --edge-budget allows; "
        "none watches for hours",
    ),
)


def shares(cases: Iterable[Case]) -> Mapping[str, float]:
    """Return name to weight, in the order of the cases."""
    return {case.name: case.weight for case in cases}


def share_of_time(weights: Mapping[str, float], name: str, remaining_s: float) -> float:
    """Return the seconds that a case may take, so that those after it get theirs.

    Time that earlier cases left unused is shared by the later ones.

    Args:
        weights: of this case and of those that are still to come.
        name: the case.
        remaining_s: seconds that are left for all of them.
    """
    total = sum(weights.values())
    return max(0.0, remaining_s) * weights[name] / total if total else 0.0
