"""The gate ``endurance``: constant load beside the baseline, then a spike."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.evidence import EvidenceStore
from pytest_edgeai.gate_selection import RELEASE
from pytest_edgeai.judge.endurance import (
    RECOVERY_LIMIT_S,
    calls_needed,
    has_recovered,
    judge_endurance,
    load_is_decided,
)
from pytest_edgeai.measure.bench import Runnable, close_all
from pytest_edgeai.measure.endurance import ConstantLoad, LoadPlan, Trace
from pytest_edgeai.measure.endurance_models import EnduringTensors, EnduringText, load_enduring
from pytest_edgeai.measure.endurance_sensors import SensorReading
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.production_records import BurstSamples, EnduranceSamples
from pytest_edgeai.records import Threshold, Verdict
from pytest_edgeai.workbench import Workbench, place, title

ENDURANCE = "endurance"
MINUTES = "endurance_minutes"
RECOVERY = "endurance_recovery_s"
DEFAULT_MINUTES = 60.0
CI_SHARE = 1.25
"""Of ``--edge-budget`` in profile ``ci``: 75 s of its default of 60 s."""

LONGEST_FACTOR = 4.0
"""How much longer the load may last where the calls are too long to show a leak at the limit."""

_SIDES = ("baseline", "candidate")
_COLUMNS = ("wall_ns", "cpu_ns", "preemptions")


def decide_endurance(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold
) -> Verdict:
    """Memory, drift, open files, threads and heat under constant load; the latency after a spike.

    Raises:
        EdgeAIError: a model could not be run, or its memory could not be read.
    """
    stated = bench.session.gate_setting(candidate, RECOVERY)
    limit_s = RECOVERY_LIMIT_S if stated is None else float(stated)
    key = (ENDURANCE, candidate.model.name, candidate.comparison, repr(threshold), repr(limit_s))
    samples = bench.once(key, lambda: _measure(bench, candidate, threshold, limit_s))
    return judge_endurance(samples, threshold, recovery_limit_s=limit_s)


def length_s(bench: Workbench, candidate: PlannedCandidate) -> float:
    """Return how long the load of a candidate lasts, in seconds, the spike included."""
    settings = bench.session.settings
    if settings.profile != RELEASE:
        return CI_SHARE * float(settings.budget)
    stated = bench.session.gate_setting(candidate, MINUTES)
    return 60.0 * (DEFAULT_MINUTES if stated is None else float(stated))


def _measure(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold, limit_s: float
) -> EnduranceSamples:
    artifact = bench.artifact(candidate)
    baseline = bench.baseline_runnable(candidate)
    name = place(candidate, ENDURANCE)
    trace = read_trace(bench.evidence, name)
    valid = all(
        bench.session.catalogue.frameworks[framework].cpu_time_is_valid
        for framework in (candidate.baseline_framework, candidate.recipe.framework)
    )
    with bench.heavy(title(candidate)):
        bench.progress.step(title(candidate), "loading both models for the load")
        models = [_load(bench, candidate, baseline, baseline.path.stat().st_size)]
        try:
            runnable = bench.candidate_runnable(candidate)
            models.append(_load(bench, candidate, runnable, artifact.size_bytes))
            load = ConstantLoad(
                models[0],
                models[1],
                trace,
                length_s=length_s(bench, candidate),
                generator=random.Random(len(trace.turns)),
                fewest_calls=calls_needed(threshold),
                longest_s=LONGEST_FACTOR * length_s(bench, candidate),
            )
            burst = _run(bench, candidate, load, trace, threshold, limit_s, name)
        finally:
            close_all(models)
            if trace.plan is not None:
                write_trace(bench.evidence, name, trace)
    measured = trace.samples(cpu_time_is_valid=valid, burst=burst)
    if burst is not None:
        _write_burst(bench, f"{name}-spike", burst)
    return measured


def _run(
    bench: Workbench,
    candidate: PlannedCandidate,
    load: ConstantLoad,
    trace: Trace,
    threshold: Threshold,
    limit_s: float,
    name: str,
) -> BurstSamples | None:
    planned = load.plan.turns

    def so_far() -> EnduranceSamples:
        return trace.samples(cpu_time_is_valid=load.cpu_time_is_valid)

    for turns in (planned, 2 * planned):
        again = "" if turns == planned else ", a second look"

        def progress(done: int, left_s: float, turns: int = turns, again: str = again) -> None:
            left = f"{left_s:.0f} s" if left_s < 120 else f"{left_s / 60:.0f} min"
            bench.progress.step(
                title(candidate), f"constant load{again}, {left} left", done / turns
            )

        load.run(turns, progress=progress, write=lambda: write_trace(bench.evidence, name, trace))
        if trace.died:
            return None
        if load_is_decided(so_far(), threshold):
            break
    before = so_far()
    return load.spike(
        recovered=lambda burst: has_recovered(before, burst),
        limit_s=limit_s,
        progress=lambda what: bench.progress.step(title(candidate), what),
    )


def _load(
    bench: Workbench, candidate: PlannedCandidate, runnable: Runnable, size_bytes: int
) -> EnduringTensors | EnduringText:
    prepared = bench.model(candidate.model.name)
    return load_enduring(
        runnable,
        prepared.samples,
        prepared.language,
        size_bytes=size_bytes,
        time_limit_s=bench.session.settings.time_limit,
    )


def write_trace(evidence: EvidenceStore, name: str, trace: Trace) -> None:
    """Write everything that going on after an interruption takes."""
    assert trace.plan is not None
    rounds = trace.turns.rounds
    arrays: dict[str, NDArray[np.generic]] = {
        "candidate_first": np.asarray(rounds.order, dtype=np.bool_),
        "core": np.asarray(rounds.core, dtype=np.int64),
        "preempted": np.asarray(rounds.preempted, dtype=np.float64),
        "spent_s": np.asarray(trace.spent_s),
        "starts": np.asarray(trace.starts, dtype=np.int64),
        "plan_turns": np.asarray(trace.plan.turns),
        "plan_seconds": np.asarray(trace.plan.seconds),
        "plan_kept": np.asarray(trace.plan.kept),
        "memory_definition": np.asarray(trace.turns.definition),
        "sensors": np.asarray(
            [
                (_or_nan(at.temperature_c), _or_nan(at.throttles), _or_nan(at.frequency_mhz))
                for at in trace.sensors.readings
            ],
            dtype=np.float64,
        ),
    }
    for index, side in enumerate(_SIDES):
        shape = (len(rounds), trace.plan.kept[index])
        for column in _COLUMNS:
            values = np.asarray(getattr(rounds, column)[index], dtype=np.int64)
            arrays[f"{side}_{column}"] = values.reshape(shape)
        arrays[f"{side}_calls_before"] = np.asarray(trace.turns.calls[index], dtype=np.int64)
        arrays[f"{side}_memory_bytes"] = np.asarray(trace.turns.memory_bytes[index], np.int64)
        for column in ("descriptors", "threads"):
            counts = getattr(trace, column)[index]
            arrays[f"{side}_{column}"] = np.asarray([_or_nan(c) for c in counts], np.float64)
    evidence.write_arrays(name, arrays)


def read_trace(evidence: EvidenceStore, name: str) -> Trace:
    """Return what an interrupted process of this session has measured, or an empty trace."""
    arrays = evidence.read_arrays(name)
    trace = Trace()
    if arrays is None:
        return trace
    kept, seconds = arrays["plan_kept"].tolist(), arrays["plan_seconds"].tolist()
    trace.plan = LoadPlan(int(arrays["plan_turns"]), tuple(seconds), tuple(kept))
    trace.spent_s = float(arrays["spent_s"])
    trace.starts = arrays["starts"].tolist()
    trace.turns.kept = list(kept)
    trace.turns.definition = str(arrays["memory_definition"])
    rounds = trace.turns.rounds
    rounds.order = arrays["candidate_first"].astype(np.int64).tolist()
    rounds.attempt = [0] * len(rounds.order)
    rounds.core = arrays["core"].tolist()
    rounds.preempted = arrays["preempted"].tolist()
    for index, side in enumerate(_SIDES):
        for column in _COLUMNS:
            getattr(rounds, column)[index] = arrays[f"{side}_{column}"].reshape(-1).tolist()
        trace.turns.calls[index] = arrays[f"{side}_calls_before"].tolist()
        trace.turns.memory_bytes[index] = arrays[f"{side}_memory_bytes"].tolist()
        trace.descriptors[index] = _counts(arrays[f"{side}_descriptors"])
        trace.threads[index] = _counts(arrays[f"{side}_threads"])
    for temperature, throttles, frequency in arrays["sensors"].tolist():
        count = _or_none(throttles)
        trace.sensors.readings.append(
            SensorReading(
                _or_none(temperature), None if count is None else int(count), _or_none(frequency)
            )
        )
    return trace


def _write_burst(bench: Workbench, name: str, burst: BurstSamples) -> None:
    arrays: dict[str, NDArray[Any]] = {"ended_s": burst.ended_s}
    for side in _SIDES:
        turns = getattr(burst.after, side)
        for column in _COLUMNS:
            values = getattr(turns, column)
            if values is not None:
                arrays[f"{side}_{column}"] = values
    bench.evidence.write_arrays(name, arrays)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value


def _counts(values: NDArray[np.generic]) -> list[int | None]:
    return [None if np.isnan(value) else int(value) for value in values.tolist()]
