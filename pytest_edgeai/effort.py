"""What the gates of a model take in data and time, before anything is optimized."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.call_times import Remembered, estimated, prescribes_batch, remembered
from pytest_edgeai.deciding import CONSISTENCY_PERCENTILE, LATENCY_LIMITS
from pytest_edgeai.judge import effort as needs
from pytest_edgeai.judge.drift import GATE as DRIFT_GATE
from pytest_edgeai.judge.latency import GATE as CONSISTENCY_GATE
from pytest_edgeai.judge.memory import CUT_GATE, FOOTPRINT_GATE
from pytest_edgeai.judge.memory_growth import GATE as GROWTH_GATE
from pytest_edgeai.judge.needs import RoundNeed
from pytest_edgeai.judge.procedure import choose
from pytest_edgeai.judge.slices import GATE as SLICE_GATE
from pytest_edgeai.judge.speed import GATE as SPEED_GATE
from pytest_edgeai.judge.tail import GATE as TAIL_GATE
from pytest_edgeai.measure.bench import MEMORY_CALLS
from pytest_edgeai.measure.dataset import CLASSES, LABELS, npz_headers
from pytest_edgeai.measure.detection import OBJECT_NUMBERS
from pytest_edgeai.measure.divisions import SLICES
from pytest_edgeai.measure.duration import rounds_seconds, turns_seconds
from pytest_edgeai.measure.embedding import has_relevant
from pytest_edgeai.measure.headers import read_array
from pytest_edgeai.measure.language import PERPLEXITY
from pytest_edgeai.measure.metrics import parts_of
from pytest_edgeai.measure.stability import calls_of_a_turn
from pytest_edgeai.measure.tokens import DEFAULT_CONTEXT_TOKENS, INPUT_IDS
from pytest_edgeai.measurements import MEMORY_REPEATS
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.preparation import PreparedModel
from pytest_edgeai.records import PART_TURNS, ModelFacts, Threshold
from pytest_edgeai.report.effort import (
    CallTime,
    DataEffort,
    ModelEffort,
    ProcessEffort,
    TimeEffort,
)
from pytest_edgeai.session import Session
from pytest_edgeai.specification import TEXT_SUFFIX, ModelSpec
from pytest_edgeai.tasks import GENERATION_TASKS

STABILITY_GATES = (TAIL_GATE, DRIFT_GATE, GROWTH_GATE)
SLOWEST_RATIO = 0.5
"""Baseline time / candidate time of the slowest candidate that is planned for: a lower limit of a
speed-up is there to be met, and not to be come near to."""

_PHASES = {"prefill": "prefill", "time_to_first_token": "first_token"}


@dataclass(frozen=True)
class DataFacts:
    """What is known of the evaluation data.

    Attributes:
        kind: kind of the metric; empty where it is not known yet.
        samples: number of samples, or of blocks of text; ``None`` where it is not known yet.
        batch: samples per call; ``None`` where it is not known, or prescribed by the model.
        unknown: why something is not known; empty where all is.
        smallest: samples or objects of the smallest class or slice; ``None`` where nothing divides
            them or it is not known yet.
        parts: what classes and slices are judged by, see `measure.metrics.parts_of`.
        grouped: of an embedding with labels, the samples that have another one of their group.
    """

    kind: str
    samples: int | None
    batch: int | None
    unknown: str = ""
    smallest: int | None = None
    parts: str = ""
    grouped: int | None = None


def effort_before_run(session: Session, model: ModelSpec, facts: ModelFacts) -> ModelEffort | None:
    """Return what the gates of a model take, without running anything.

    Times are those of an earlier session, or an estimate. ``None`` where no candidate can be made.
    """
    candidates = usable(session, model.name)
    if not candidates:
        return None
    data = data_facts(session, model, facts)
    known = remembered(session, candidates[0], sha256="", batch=data.batch)
    times = known.times or estimated(session, candidates[0], facts, batch=data.batch)
    return model_effort(session, candidates, data, known, times)


def usable(session: Session, name: str) -> list[PlannedCandidate]:
    """Return the candidates of a model that can be made here."""
    return [c for c in session.candidates if c.model.name == name and not c.unavailable]


def prepared_facts(model: PreparedModel) -> DataFacts:
    """Return what is known of evaluation data that was read."""
    batch = 1 if model.language is not None else model.samples.batching.samples_per_call
    evaluation = model.evaluation
    facts = DataFacts(model.metric_kind, evaluation.samples, batch)
    return _divided(facts, model.spec.metric, evaluation.labels, evaluation.slices.values())


def data_facts(session: Session, model: ModelSpec, facts: ModelFacts) -> DataFacts:
    """Return what is known of the evaluation data from the headers of its file alone."""
    source = model.data
    generates = model.task in GENERATION_TASKS
    metric = session.catalogue.metrics.get(model.metric)
    kind = PERPLEXITY if generates else metric.kind if metric else ""
    unknown = "" if kind else f'the metric "{model.metric}" is imported when the gates run'
    batch = 1 if generates else _batch(model, facts)
    if source.path is None:
        return DataFacts(kind, None, batch, f"{source.reference} is called when the gates run")
    if source.path.suffix == TEXT_SUFFIX:
        return DataFacts(kind, None, batch, f"{source.path.name} is tokenized when the gates run")
    shapes = {name: shape for name, (shape, _) in npz_headers(source).items()}
    if generates:
        return DataFacts(kind, _blocks(model, facts, shapes.get(INPUT_IDS, ())), batch)
    inputs = [spec.name for spec in facts.inputs] or [
        name for name in shapes if name not in (LABELS, CLASSES)
    ]
    counts = [shapes[name][0] for name in inputs if shapes.get(name)]
    parts = {
        name: array
        for name in (LABELS, *(model.slices or (SLICES,)))
        if name in shapes and name not in inputs
        if (array := read_array(source.path, name)) is not None
    }
    labels = parts.pop(LABELS, None)
    known = DataFacts(kind, counts[0] if counts else None, batch, unknown)
    return _divided(known, model.metric, labels, parts.values())


def _divided(
    data: DataFacts, metric: str, labels: NDArray[Any] | None, slices: Iterable[NDArray[Any]]
) -> DataFacts:
    """Add what `judge.parts.divide` will find: labels and slices that do not fit divide nothing."""
    parts = parts_of(metric, data.kind)
    divisions = [array for array in slices if array.ndim == 1 and len(array) == data.samples]
    grouped: int | None = None
    if parts == "objects":
        if labels is None or labels.ndim != 3 or labels.shape[2] != OBJECT_NUMBERS:
            return data
        samples, objects = np.nonzero(labels[..., 4] >= 0)
        divisions = [array[samples] for array in divisions]
        divisions.append(labels[samples, objects, 4])
    elif labels is not None and labels.ndim == 1 and labels.dtype.kind in "iuUT":
        if data.kind == "embedding":
            relevant = has_relevant(labels)
            grouped = int(relevant.sum())
            divisions = [array[relevant] for array in divisions]
        elif data.kind != "loss":
            divisions.append(labels)
    if data.kind == "embedding" and grouped is None:
        divisions = []
    counts = [
        int(np.unique(array, return_counts=True)[1].min()) for array in divisions if len(array)
    ]
    smallest = min(counts, default=None)
    return replace(data, smallest=smallest, parts=parts, grouped=grouped)


def _batch(model: ModelSpec, facts: ModelFacts) -> int | None:
    return None if prescribes_batch(facts) else model.batch


def _blocks(model: ModelSpec, facts: ModelFacts, shape: tuple[int, ...]) -> int | None:
    """Return the blocks that :func:`pytest_edgeai.measure.tokens.load_blocks` will cut."""
    if not shape:
        return None
    rows, tokens = (1, shape[0]) if len(shape) == 1 else (shape[0], shape[1])
    length = model.context_length or tokens
    if model.context_length is None and len(shape) == 1:
        longest = facts.language.context_length if facts.language else None
        length = min(DEFAULT_CONTEXT_TOKENS, longest or DEFAULT_CONTEXT_TOKENS, tokens)
    return rows * (tokens // length) if length else None


def model_effort(
    session: Session,
    candidates: Sequence[PlannedCandidate],
    data: DataFacts,
    known: Remembered,
    times: Mapping[str, CallTime],
) -> ModelEffort:
    """Return what the gates of a model take, what there is and what is missing.

    Args:
        session: the session.
        candidates: those of the model that can be made.
        data: what is known of the evaluation data.
        known: what an earlier session left.
        times: phase to the time of a call of the baseline.
    """
    # A mean of other samples than these says nothing about them.
    accuracy = known.accuracy if known.scores and known.scores == data.samples else None
    gates = list(_gates(session, candidates))
    asked = {gate: threshold.value for _, gate, threshold in gates}
    samples: list[DataEffort] = []
    timed: list[TimeEffort] = []
    for candidate, gate, threshold in gates:
        need = needs.sample_need(
            gate,
            data.kind,
            threshold.value,
            baseline_accuracy=accuracy,
            parts=data.parts,
            is_grouped=data.grouped is not None,
        )
        if need is not None and threshold.value is not None:
            available = data.samples if data.grouped is None else data.grouped
            if gate == SLICE_GATE:
                available = data.smallest
            if gate == SLICE_GATE and available is None:
                continue
            missing = None
            if gate == SLICE_GATE:
                # Small classes and slices are judged together.
                missing = 0
            elif need.asked is not None and available is not None:
                missing = max(0, need.asked - available)
            samples.append(DataEffort(need, threshold.value, available, missing))
        phase = _PHASES.get(gate, "decode")
        call, budget_s = times.get(phase), session.settings.budget
        rounds = _rounds(session, candidate, gate, threshold, call)
        if rounds is not None and gate in needs.SPEED_GATES:
            ratio = max(rounds.ratio, SLOWEST_RATIO)
        else:
            ratio = max(asked.get(SPEED_GATE) or 1.0, 1.0)
        calls_ns = (call.ns, call.ns / ratio) if call else None
        if rounds is not None:
            timed.append(_time(rounds, phase, call, calls_ns, budget_s))
        elif gate in STABILITY_GATES and threshold.value is not None:
            timed.append(_turns(gate, threshold.value, call, calls_ns, budget_s))
    fresh = [gate for gate in (CUT_GATE, FOOTPRINT_GATE) if gate in asked]
    processes = [ProcessEffort(", ".join(fresh), 2 * MEMORY_REPEATS, MEMORY_CALLS)]
    return ModelEffort(
        tuple(samples), tuple(timed), tuple(processes if fresh else ()), data.unknown
    )


def _gates(
    session: Session, candidates: Sequence[PlannedCandidate]
) -> Iterator[tuple[PlannedCandidate, str, Threshold]]:
    """Yield each gate and limit once, with the first candidate that has to pass it."""
    seen = set()
    for candidate in candidates:
        for gate in session.gates_of(candidate):
            threshold, on = session.threshold(candidate, gate)
            if on and (gate, threshold.value) not in seen:
                seen.add((gate, threshold.value))
                yield candidate, gate, threshold


def _rounds(
    session: Session,
    candidate: PlannedCandidate,
    gate: str,
    threshold: Threshold,
    call: CallTime | None,
) -> RoundNeed | None:
    if gate in needs.SPEED_GATES:
        frameworks = (candidate.recipe.framework, candidate.baseline_framework)
        procedure = choose(
            call.ns if call else 0.0,
            threads=candidate.threads(session.settings.threads),
            cpu_time_is_valid=all(
                session.catalogue.frameworks[name].cpu_time_is_valid for name in frameworks
            ),
            clock=session.settings.clock,
        )
        return needs.speed_need(gate, threshold.value, procedure)
    if gate != CONSISTENCY_GATE:
        return None
    stated = session.gate_setting(candidate, CONSISTENCY_PERCENTILE)
    limits = [
        quantile
        for quantile, key in LATENCY_LIMITS.items()
        if session.gate_setting(candidate, key) is not None
    ]
    return needs.tail_need(
        gate,
        threshold.value,
        percentile=None if stated is None else float(stated),
        quantiles=limits,
    )


def _time(
    need: RoundNeed,
    phase: str,
    call: CallTime | None,
    calls_ns: tuple[float, float] | None,
    budget_s: float,
) -> TimeEffort:
    """Return what a gate that judges rounds takes.

    Args:
        need: the rounds.
        phase: what its calls do.
        call: the baseline's call, where its time is known.
        calls_ns: time of a call of the baseline, and of the candidate that is planned for.
        budget_s: seconds that the gate may take.
    """
    if calls_ns is None:
        return TimeEffort(need, phase, None, None, None, budget_s, None)
    per_start = need.rounds_per_start
    least_s = rounds_seconds(need.least, calls_ns, budget_s=budget_s, per_start=per_start)
    if need.asked is None:
        return TimeEffort(need, phase, call, least_s, None, budget_s, None)
    asked_s = rounds_seconds(need.asked, calls_ns, budget_s=budget_s, per_start=per_start)
    return TimeEffort(need, phase, call, least_s, asked_s, budget_s, max(0.0, asked_s - budget_s))


def _turns(
    gate: str,
    threshold: float,
    call: CallTime | None,
    calls_ns: tuple[float, float] | None,
    budget_s: float,
) -> TimeEffort:
    """Return what a gate that watches a longer run takes; see :func:`_time`."""
    if gate != TAIL_GATE:
        need = needs.turns_need(gate)
        # Turns get as few calls as the budget allows: it is always enough for them.
        kept = calls_of_a_turn(calls_ns or (1.0, 1.0), budget_s)
        turns = PART_TURNS
    else:
        kept = calls_of_a_turn(calls_ns or (1.0, 1.0), math.inf)
        need = needs.straggler_need(gate, threshold, kept[1])
        turns = (need.asked or 0) // kept[1]
    if calls_ns is None or need.asked is None:
        return TimeEffort(need, "decode", call, None, None, budget_s, None)
    least = turns if gate == TAIL_GATE else need.least
    least_s, asked_s = (
        turns_seconds(count, kept, calls_ns, budget_s=budget_s) for count in (least, turns)
    )
    missing_s = max(0.0, asked_s - budget_s) if gate == TAIL_GATE else 0.0
    return TimeEffort(need, "decode", call, least_s, asked_s, budget_s, missing_s)
