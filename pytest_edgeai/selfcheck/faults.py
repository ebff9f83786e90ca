"""Planted faults of outputs, of metrics and of memory, through workers and judges."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import EdgeAIError, ModelError
from pytest_edgeai.judge.memory import MINIMUM_REPEATS, judge_memory
from pytest_edgeai.judge.outputs import judge_output_sanity
from pytest_edgeai.judge.quality import judge_accuracy
from pytest_edgeai.judge.verdict import worst
from pytest_edgeai.measure.bench import measure_memory
from pytest_edgeai.measure.quality import Metric, Outputs, output_sanity, paired_quality
from pytest_edgeai.records import MemorySamples, Outcome, Threshold, Verdict
from pytest_edgeai.selfcheck.planted import Answers, PlantedModel
from pytest_edgeai.selfcheck.rates import Answer, Truth
from pytest_edgeai.selfcheck.workload import TIME_LIMIT_S, Workshop

Say = Callable[[str], None]

RETAINED = Threshold(0.95, "more_than", "self-check")
CUT = Threshold(0.5, "at_least", "self-check")
_MIB = 1 << 20
_BASELINE_MEMORY = PlantedModel(ballast_bytes=32 * _MIB)
_SMALLER = PlantedModel(ballast_bytes=8 * _MIB)
_LEAKING = PlantedModel(ballast_bytes=8 * _MIB, leak_bytes=_MIB)

ANSWERS: tuple[tuple[Answers, Truth, str], ...] = (
    ("right", "met", "the baseline's own answers"),
    ("constant", "missed", "the same answer to everything"),
    ("nan", "missed", "NaN"),
    ("mode", "missed", "always the most frequent class"),
    ("last-call", "missed", "what the call before should have returned"),
    ("dead-class", "missed", "never the rare class"),
)


def accuracy(outputs: Outputs, labels: NDArray[Any]) -> NDArray[np.float64]:
    """Return 1 where the class with the highest score is the label, else 0."""
    return np.asarray(outputs["scores"].argmax(axis=1) == labels, dtype=np.float64)


def check_outputs(workshop: Workshop, say: Say) -> tuple[Answer, ...]:
    """Run candidates with planted answers and ask whether they may ship.

    The answer is the worst of ``accuracy_retained`` and ``output_sanity``: a candidate ships only
    if no gate objects. A class of 2% of the samples, say, hardly moves the accuracy.
    """
    say("the baseline's answers")
    baseline = _evaluate(workshop, PlantedModel(), "baseline")
    labels = workshop.evaluation().labels
    answers = []
    for kind, truth, what in ANSWERS:
        say(what)
        candidate = _evaluate(workshop, PlantedModel(answers=kind), kind)
        outcome, reason = _ships(baseline, candidate, labels)
        answers.append(Answer("accuracy and outputs", what, truth, outcome, reason))
    return tuple(answers)


def check_unmeasurable(workshop: Workshop, say: Say) -> tuple[Answer, ...]:
    """Ask for verdicts where there is nothing to measure: none may pass."""
    say("metrics that cannot be computed")
    outputs = _evaluate(workshop, PlantedModel(), "only")
    labels = workshop.evaluation().labels
    metrics: tuple[tuple[str, Metric], ...] = (
        ("a metric that raises", _raises),
        ("a metric that is NaN", lambda given, wanted: np.full(len(wanted), np.nan)),
        ("a metric that is never right", lambda given, wanted: np.zeros(len(wanted))),
    )
    answers = []
    for what, metric in metrics:
        outcome, reason = _attempt(partial(_retention, metric, outputs, labels))
        answers.append(Answer("accuracy_retained", what, "missed", outcome, reason))
    say("a baseline that cannot run")

    def against_nothing() -> list[Verdict]:
        baseline = _evaluate(workshop, PlantedModel(loads=False), "broken")
        return [
            judge_accuracy(
                paired_quality(accuracy, "accuracy", "proportion", baseline, outputs, labels),
                RETAINED,
            )
        ]

    outcome, reason = _attempt(against_nothing)
    answers.append(Answer("accuracy_retained", "no baseline", "missed", outcome, reason))
    return tuple(answers)


def check_memory(workshop: Workshop, say: Say) -> tuple[Answer, ...]:
    """Ask ``memory_cut`` about a quarter of the memory, and about the same with a leak."""
    baseline = _memory(workshop, _BASELINE_MEMORY, "the baseline's memory", say)
    answers = []
    cases: tuple[tuple[PlantedModel, Truth, str], ...] = (
        (_SMALLER, "met", "a quarter of the baseline's memory"),
        (_LEAKING, "missed", "a quarter at first, and 1 MiB more with every call"),
    )
    for model, truth, what in cases:
        candidate = _memory(workshop, model, what, say)
        samples = MemorySamples(
            definition=baseline[0]["definition"],
            baseline_bytes=tuple(repeat["model_bytes"] for repeat in baseline),
            candidate_bytes=tuple(repeat["model_bytes"] for repeat in candidate),
            baseline_footprint_bytes=tuple(repeat["footprint_bytes"] for repeat in baseline),
            candidate_footprint_bytes=tuple(repeat["footprint_bytes"] for repeat in candidate),
        )
        verdict = judge_memory(samples, CUT)
        answers.append(Answer(verdict.gate, what, truth, verdict.outcome, verdict.reason))
    return tuple(answers)


def _memory(workshop: Workshop, model: PlantedModel, what: str, say: Say) -> list[dict[str, Any]]:
    runnable = workshop.runnable(model)
    repeats = []
    for number in range(MINIMUM_REPEATS):
        say(f"{what}, {number + 1} of {MINIMUM_REPEATS}")
        measured = measure_memory(
            runnable, workshop.evaluation().samples, time_limit_s=TIME_LIMIT_S
        )
        repeats.append(dict(measured))
    return repeats


def _evaluate(workshop: Workshop, model: PlantedModel, name: str) -> dict[str, NDArray[Any]]:
    place: Path = workshop.folder / f"outputs-{name}"
    with workshop.loaded(model) as (loaded,):
        outputs, _ = loaded.evaluate(place, lambda what, fraction: None)
    return outputs


def _ships(baseline: Outputs, candidate: Outputs, labels: NDArray[Any]) -> tuple[Outcome, str]:
    def verdicts() -> list[Verdict]:
        quality = paired_quality(accuracy, "accuracy", "proportion", baseline, candidate, labels)
        sanity = judge_output_sanity(output_sanity(baseline, candidate, quality))
        return [sanity, judge_accuracy(quality, RETAINED)]

    return _attempt(verdicts)


def _retention(metric: Metric, outputs: Outputs, labels: NDArray[Any]) -> list[Verdict]:
    quality = paired_quality(metric, "planted", "proportion", outputs, outputs, labels)
    return [judge_accuracy(quality, RETAINED)]


def _raises(outputs: Outputs, labels: NDArray[Any]) -> NDArray[np.float64]:
    raise ModelError("planted: there is no such score")


def _attempt(verdicts: Callable[[], list[Verdict]]) -> tuple[Outcome, str]:
    """Return the worst verdict and its reason; what cannot be measured is an error."""
    try:
        reached = verdicts()
    except EdgeAIError as error:
        return "error", str(error)
    outcome = worst(verdict.outcome for verdict in reached)
    return outcome, next(verdict.reason for verdict in reached if verdict.outcome == outcome)
