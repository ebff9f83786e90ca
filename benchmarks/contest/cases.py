"""The planted cases of the contest: what each contestant is given, is asked, and what is true."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from benchmarks.contest.planted.planted_session import Faults
from benchmarks.contest.subjects import Subject
from pytest_edgeai.selfcheck.cases import Load
from pytest_edgeai.selfcheck.rates import Truth

Kind: TypeAlias = Literal["speed", "stability", "outputs", "metric", "artifact", "draws"]

ALLOWED_SLOWER = 0.10
CLOSE_SLOWER = 0.025
RETAINED = 0.95
FLOOR = 0.5
"""Least accuracy of a baseline, for those who can ask for one and advise to."""

LOSSES = (0.01, 0.03, 0.06, 0.10)
DRAWN_SAMPLES = (50, 200, 1_000, 10_000)
THRESHOLDS = (0.95, 0.98)


@dataclass(frozen=True)
class Case:
    """One planted pair and the question about it.

    Attributes:
        name: id of the case.
        what: what is planted, in words.
        kind: what is asked: ``speed`` (no slower by more than ``slower``), ``stability`` (the same,
            no longer tail, no drift and no leak), ``outputs`` (keeps more than 95% of the accuracy
            and answers sensibly), ``metric`` (the same of a metric that says nothing), ``artifact``
            (is what it claims to be), ``draws`` (keeps a share of the accuracy, on drawn pairs).
        truth: whether the requirement is met.
        candidate: the candidate.
        baseline: the baseline.
        slower: the allowed slowdown.
        load: busy processes beside it.
        weight: trials, relative to the other cases.
        most_trials: trials after which nothing new would be learned; 0 for no end.
        detail: which variety of its kind.
    """

    name: str
    what: str
    kind: Kind
    truth: Truth
    candidate: Subject = field(default_factory=Subject)
    baseline: Subject = field(default_factory=Subject)
    slower: float = ALLOWED_SLOWER
    load: Load = "none"
    weight: float = 1.0
    most_trials: int = 0
    detail: str = ""

    @property
    def is_timed(self) -> bool:
        """Whether time is measured."""
        return self.kind in ("speed", "stability")


def _outputs(name: str, what: str, candidate: Subject, truth: Truth = "missed") -> Case:
    return Case(name, what, "outputs", truth, candidate, Subject(work=0), most_trials=3)


def _metric(detail: str, what: str) -> Case:
    return Case(
        f"metric-{detail}",
        what,
        "metric",
        "missed",
        Subject(work=0, name="candidate"),
        Subject(work=0),
        most_trials=3,
        detail=detail,
    )


def _artifact(detail: str, what: str, truth: Truth = "missed") -> Case:
    return Case(detail, what, "artifact", truth, most_trials=3, detail=detail)


_SLOWER_15 = Subject(work=23)

CASES: tuple[Case, ...] = (
    Case("same", "the same model twice", "speed", "met", weight=6.0),
    Case(
        "same-busy-core",
        "the same model twice, bursts on one core",
        "speed",
        "met",
        load="one-core",
        weight=3.0,
    ),
    Case(
        "same-busy-machine",
        "the same model twice, bursts on all cores",
        "speed",
        "met",
        load="all-cores",
        weight=3.0,
    ),
    Case("slower-5", "5% more work, 10% allowed", "speed", "met", Subject(work=21)),
    Case("slower-15", "15% more work", "speed", "missed", _SLOWER_15, weight=4.0),
    Case(
        "slower-15-busy-core",
        "15% more work, bursts on one core",
        "speed",
        "missed",
        _SLOWER_15,
        load="one-core",
    ),
    Case("slower-50", "50% more work", "speed", "missed", Subject(work=30)),
    Case(
        "int8-slower",
        'an "INT8" model with 30% more work',
        "speed",
        "missed",
        Subject(work=26, name="model-int8"),
    ),
    Case(
        "slow-start",
        "the candidate's first 50 calls take 3 times as long, then it is the baseline's equal",
        "speed",
        "met",
        Subject(faults=Faults(slow_calls=50, slow_factor=3)),
    ),
    Case(
        "slow-baseline",
        "the baseline's first 50 calls take 3 times as long, and the candidate has 15% more work",
        "speed",
        "missed",
        _SLOWER_15,
        Subject(faults=Faults(slow_calls=50, slow_factor=3)),
    ),
    Case(
        "same-close",
        "the same model twice, 2.5% allowed",
        "speed",
        "met",
        slower=CLOSE_SLOWER,
        weight=0.5,
    ),
    Case(
        "slower-5-close",
        "5% more work, 2.5% allowed",
        "speed",
        "missed",
        Subject(work=21),
        slower=CLOSE_SLOWER,
        weight=0.5,
    ),
    Case("steady", "the same model twice, asked for tail, drift and leak too", "stability", "met"),
    Case(
        "rare-tail",
        "one call in 200 takes 4 times as long",
        "stability",
        "missed",
        Subject(faults=Faults(tail_every=200, tail_factor=4)),
        detail="tail",
    ),
    Case(
        "drift",
        "gets slower with every call, to twice the time after 2,000 calls",
        "stability",
        "missed",
        Subject(faults=Faults(drift_calls=2000)),
        detail="drift",
    ),
    Case(
        "leak",
        "leaks 120 KiB with every call",
        "stability",
        "missed",
        Subject(faults=Faults(leak_bytes=120 << 10)),
        detail="leak",
    ),
    _outputs("right", "the baseline's own answers", Subject(work=0, name="candidate"), "met"),
    _outputs("constant", "the same answer to everything", Subject(0, "constant")),
    _outputs("nan", "NaN", Subject(0, "nan")),
    _outputs("mode", "always the most frequent class", Subject(0, "mode")),
    _outputs(
        "last-call",
        "what the call before should have returned",
        Subject(0, faults=Faults(last_call=True)),
    ),
    _outputs("dead-class", "never the rare class (2% of the samples)", Subject(0, "dead-class")),
    Case(
        "broken-baseline",
        "a baseline that cannot run",
        "speed",
        "missed",
        baseline=Subject(loads=False),
        most_trials=3,
    ),
    _metric("raises", "a metric that cannot be computed"),
    _metric("nan", "a metric that is NaN"),
    _metric("never-right", "a metric that is 0 for both models"),
    _artifact("fp32-by-name", "float32 weights under an INT8 name"),
    _artifact("fake-int8", "float32 weights behind fake quantization"),
    _artifact("real-int8", "INT8 weights", "met"),
    _artifact("wrong-artifact", "another content under a known name"),
    _artifact("changed-artifact", "an artifact that changed after it was measured"),
    _artifact("whole-artifact", "an artifact that is what was measured", "met"),
    Case(
        "draws",
        "losses of accuracy of 1%, 3%, 6% and 10% at n = 50, 200, 1,000 and 10,000",
        "draws",
        "missed",
        most_trials=20,
    ),
)

BY_NAME: Mapping[str, Case] = {case.name: case for case in CASES}


def cell_truth(loss: float, threshold: float) -> Truth:
    """Return whether a candidate with this loss keeps more than ``threshold``."""
    return "met" if 1 - loss > threshold else "missed"


_TIMED_FAULTS = ("int8-slower", "broken-baseline", "slow-baseline", "rare-tail", "drift", "leak")


def fault_cases() -> list[Case]:
    """Return the faults that may never pass: cases 4 to 8 of those that docs/contest.md lists."""
    others = ("outputs", "metric", "artifact")
    return [
        case
        for case in CASES
        if case.truth == "missed" and (case.name in _TIMED_FAULTS or case.kind in others)
    ]
