"""One trial of a search: what is cheap first, and no further once a threshold is surely missed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from pytest_edgeai import measurements, timing
from pytest_edgeai.deciding import decide_precision_proof, tail_limit
from pytest_edgeai.errors import EdgeAIError, MeasurementError
from pytest_edgeai.judge.artifact import judge_artifact_size
from pytest_edgeai.judge.memory import MINIMUM_BASELINE_BYTES, MINIMUM_REPEATS, judge_memory
from pytest_edgeai.judge.quality import judge_accuracy
from pytest_edgeai.judge.speed import judge_speed
from pytest_edgeai.measurements import sample_quality
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.records import PairedTimings, Threshold, Verdict
from pytest_edgeai.search_records import Figure, Trial, TrialState
from pytest_edgeai.searching_study import Measured
from pytest_edgeai.workbench import Workbench, title

SAMPLE = 256
"""Selection samples that a trial is looked at with first, where there are many more."""
SAMPLE_IS_SMALL = 4
"""Times the sample that the selection data has to have for a first look to spare anything."""
SAMPLE_SEED = 0
ROUNDS_OF_CONTENDERS = 160
"""Rounds of the trials that may go on: their intervals are half as wide."""
ROUNDS = 40
"""Rounds of the paired timing: the interval of a median over 40 rounds is some percent wide."""
FIRST_LOOK_ROUNDS = 15
TIMING_S = 20.0
"""Longest paired timing of one trial."""
SMALLEST_VIOLATION = 1e-6
GATES = ("artifact_size", "precision_proof", "accuracy_retained", "speedup", "memory_cut")
"""Gates whose thresholds are the constraints of a search, in the order of what they cost."""


@dataclass(frozen=True)
class Constraint:
    """The threshold of one gate.

    Attributes:
        threshold: its limit; with no value it constrains nothing.
        on: whether the gate is switched on.
    """

    threshold: Threshold
    on: bool


@dataclass
class Findings:
    """What a trial gathers on its way.

    Attributes:
        figures: objective name to figure.
        misses: gate to how sure its threshold is missed.
        violations: gate to how far, as a share; above 0 where it is surely missed.
        size_bytes: of the artifact.
        reason: what the last verdict said, or why the trial ended.
    """

    figures: dict[str, Figure] = field(default_factory=dict)
    misses: dict[str, Literal["likely", "surely"]] = field(default_factory=dict)
    violations: dict[str, float] = field(default_factory=dict)
    size_bytes: int = 0
    reason: str = ""


class _ScreenedOut(Exception):
    """A threshold is surely missed; nothing dearer is measured."""


def measure_trial(
    bench: Workbench,
    candidate: PlannedCandidate,
    constraints: Mapping[str, Constraint],
    stage: Callable[[str], None],
) -> Measured:
    """Make and measure one candidate on the selection data.

    The steps, from the cheapest to the dearest: the artifact with its size and precision; a small
    sample of the selection data, where there is a lot of it; a short timing in turns with the
    baseline; all of the selection data; memory in fresh processes. Each is judged by the rule of
    its gate.

    Args:
        bench: a workbench whose evaluation data are the selection data.
        candidate: the candidate.
        constraints: gate to its threshold.
        stage: told the step.
    """
    began = time.monotonic()
    found = Findings()
    state: TrialState = "measured"
    try:
        for step in (_artifact, _sample, _speed, _accuracy, _memory):
            step(bench, candidate, constraints, found, stage)
        found.reason = found.reason or "its figures reach every threshold"
    except _ScreenedOut:
        state = "screened-out"
    except EdgeAIError as error:
        state, found.reason = "failed", str(error)
        found.violations["made"] = 1.0
    trial = Trial(
        number=0,
        recipe=candidate.recipe,
        runtime=candidate.runtime or bench.runtime(candidate.recipe.framework),
        state=state,
        figures=found.figures,
        seconds=time.monotonic() - began,
        reason=found.reason,
        size_bytes=found.size_bytes,
        misses=found.misses,
        batch=candidate.batch,
    )
    return Measured(trial, found.violations)


def _artifact(
    bench: Workbench,
    candidate: PlannedCandidate,
    constraints: Mapping[str, Constraint],
    found: Findings,
    stage: Callable[[str], None],
) -> None:
    """Make the artifact; its size and what it holds decide at once."""
    stage("making the artifact")
    artifact = bench.artifact(candidate)
    found.size_bytes = artifact.size_bytes
    size = constraints["artifact_size"]
    cut = constraints["memory_cut"].threshold
    baseline_bytes = bench.model(candidate.model.name).facts.size_bytes
    too_small = _baseline_is_small(bench, candidate)
    if too_small:
        share = 1 - artifact.size_bytes / baseline_bytes
        found.figures["memory_cut"] = Figure(share, share, share)
    if size.on:
        stands_in = too_small and constraints["memory_cut"].on
        _take(
            found,
            judge_artifact_size(
                artifact.size_bytes,
                baseline_bytes,
                size.threshold,
                memory_verdict_is_not_applicable=stands_in,
                memory_cut=cut,
            ),
        )
    if constraints["precision_proof"].on:
        stage("reading its precision")
        threshold = constraints["precision_proof"].threshold
        _take(found, decide_precision_proof(bench, candidate, threshold))


def _sample(
    bench: Workbench,
    candidate: PlannedCandidate,
    constraints: Mapping[str, Constraint],
    found: Findings,
    stage: Callable[[str], None],
) -> None:
    """Look at a sample of a lot of selection data: most of what is useless shows there."""
    model = bench.model(candidate.model.name)
    count = model.evaluation.samples
    accuracy = constraints["accuracy_retained"]
    if not accuracy.on or model.metric_kind not in ("proportion", "loss"):
        return
    if count < SAMPLE_IS_SMALL * SAMPLE:
        return
    stage(f"evaluating a sample of {SAMPLE}")
    rows = np.sort(np.random.default_rng(SAMPLE_SEED).permutation(count)[:SAMPLE])
    verdict = judge_accuracy(sample_quality(bench, candidate, rows), accuracy.threshold)
    if verdict.outcome == "fail":
        _take(found, verdict, "accuracy_retained")


def _speed(
    bench: Workbench,
    candidate: PlannedCandidate,
    constraints: Mapping[str, Constraint],
    found: Findings,
    stage: Callable[[str], None],
) -> None:
    """Time it in turns with the baseline; what is surely too slow is told after a few rounds."""
    stage("timing it in turns with the baseline")
    speed = constraints["speedup"]

    def decided(rounds: PairedTimings) -> bool:
        if rounds.rounds >= ROUNDS:
            return True
        is_looked_at = speed.on and rounds.rounds >= FIRST_LOOK_ROUNDS
        return is_looked_at and _judge_speed(bench, candidate, speed, rounds).outcome == "fail"

    rounds, _ = timing.timings(bench, candidate, decided)
    verdict = _judge_speed(bench, candidate, speed, rounds)
    _take(found, verdict, "speedup", binding=speed.on)


def _judge_speed(
    bench: Workbench, candidate: PlannedCandidate, speed: Constraint, rounds: PairedTimings
) -> Verdict:
    return judge_speed(
        rounds,
        speed.threshold,
        budget_spent=True,
        mode=bench.session.settings.clock,
        threads=candidate.threads(bench.session.settings.threads),
    )


def time_longer(
    bench: Workbench, candidate: PlannedCandidate, constraints: Mapping[str, Constraint]
) -> Figure | None:
    """Add rounds to the timing of a trial, and return its speed-up; ``None`` where there is none.

    Raises:
        EdgeAIError: a model could not be run.
    """
    rounds, _ = timing.timings(
        bench, candidate, lambda rounds: rounds.rounds >= ROUNDS_OF_CONTENDERS
    )
    verdict = _judge_speed(bench, candidate, constraints["speedup"], rounds)
    if verdict.observed is None:
        return None
    return Figure(verdict.observed, *(verdict.interval or (None, None)))


def _accuracy(
    bench: Workbench,
    candidate: PlannedCandidate,
    constraints: Mapping[str, Constraint],
    found: Findings,
    stage: Callable[[str], None],
) -> None:
    """Evaluate it on all of the selection data."""
    stage("evaluating it on the selection data")
    accuracy = constraints["accuracy_retained"]
    scores, _ = measurements.quality(bench, candidate)
    verdict = judge_accuracy(scores, accuracy.threshold, tail_limit=tail_limit(bench, candidate))
    _take(found, verdict, "accuracy_retained", binding=accuracy.on)


def _memory(
    bench: Workbench,
    candidate: PlannedCandidate,
    constraints: Mapping[str, Constraint],
    found: Findings,
    stage: Callable[[str], None],
) -> None:
    """Measure its memory in fresh processes, the baseline's once for all trials."""
    if "memory_cut" in found.figures:
        return
    stage("measuring its memory")
    runnable = bench.candidate_runnable(candidate)
    with bench.heavy(title(candidate)):
        answers = [
            measurements.memory_of(bench, candidate, runnable) for _ in range(MINIMUM_REPEATS)
        ]
    memory = constraints["memory_cut"]
    samples = measurements.memory_samples(
        (_baseline_memory(bench, candidate), answers), (None, None)
    )
    _take(found, judge_memory(samples, memory.threshold), "memory_cut", binding=memory.on)


def _baseline_memory(bench: Workbench, candidate: PlannedCandidate) -> Sequence[Mapping[str, Any]]:
    def measure() -> Sequence[Mapping[str, Any]]:
        runnable = bench.baseline_runnable(candidate)
        with bench.heavy(title(candidate)):
            return [
                measurements.memory_of(bench, candidate, runnable) for _ in range(MINIMUM_REPEATS)
            ]

    threads = candidate.threads(bench.session.settings.threads)
    batch = str(candidate.batch or "")
    key = (
        "baseline memory",
        candidate.model.name,
        candidate.baseline_framework,
        str(threads),
        batch,
    )
    return bench.once(key, measure)


def _baseline_is_small(bench: Workbench, candidate: PlannedCandidate) -> bool:
    """Return whether the baseline's memory is too small to compare, so that files stand for it."""
    held = [int(each["model_bytes"]) for each in _baseline_memory(bench, candidate)]
    return statistics.median(held) < MINIMUM_BASELINE_BYTES


def _take(found: Findings, verdict: Verdict, objective: str = "", *, binding: bool = True) -> None:
    """Keep what a verdict says of a trial.

    Raises:
        _ScreenedOut: it surely misses the threshold.
        MeasurementError: there was nothing to judge.
    """
    if verdict.outcome == "error":
        raise MeasurementError(f"{verdict.gate}: {verdict.reason}")
    if objective and verdict.observed is not None:
        low, high = verdict.interval or (None, None)
        found.figures[objective] = Figure(verdict.observed, low, high)
    if not binding or verdict.threshold is None:
        return
    short = _shortfall(verdict)
    if verdict.outcome == "fail":
        found.misses[verdict.gate] = "surely"
        found.violations[verdict.gate] = max(short, SMALLEST_VIOLATION)
        found.reason = f"{verdict.gate}: {verdict.reason}"
        raise _ScreenedOut
    found.violations[verdict.gate] = min(short, 0.0)
    if verdict.outcome == "inconclusive" and short > 0:
        found.misses[verdict.gate] = "likely"
        found.reason = f"{verdict.gate}: {verdict.reason}"


def _shortfall(verdict: Verdict) -> float:
    """Return how far an estimate misses its threshold as a share of it; negative where it holds."""
    if verdict.observed is None or verdict.threshold is None:
        return 0.0
    unit = abs(verdict.threshold) or 1.0
    short = (verdict.threshold - verdict.observed) / unit
    return -short if verdict.relation == "at_most" else short
