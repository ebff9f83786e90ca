"""The gate ``robustness``: both models on corrupted evaluation data."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.deciding import tail_limit
from pytest_edgeai.errors import MeasurementError, NotCertified
from pytest_edgeai.gate_selection import RELEASE
from pytest_edgeai.judge.robustness import GATE, beats_guessing, judge_robustness
from pytest_edgeai.judge.verdict import make_verdict
from pytest_edgeai.judge.whole import MINIMUM_SAMPLES
from pytest_edgeai.measure.bench import LoadedRunnable
from pytest_edgeai.measure.corruption import (
    Corruption,
    CorruptionPlan,
    ImageSettings,
    fitting_names,
    plan_corruptions,
)
from pytest_edgeai.measure.embedding import DEFAULT_NEIGHBORS, RECALL_NEIGHBORS
from pytest_edgeai.measure.quality import quality_arrays, quality_from_arrays
from pytest_edgeai.measure.robustness import (
    FEWEST_SAMPLES,
    PILOT_SAMPLES,
    Evaluated,
    Judged,
    affordable,
    corrupted_quality,
    pilot_seconds,
    sample_order,
)
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.production.robustness_text import corrupted_texts, text_fault
from pytest_edgeai.production_records import CorruptedQuality
from pytest_edgeai.records import Threshold, Verdict
from pytest_edgeai.workbench import Workbench, place, title

SEVERITY = "robustness_severity"
CHANNEL_AXIS = "robustness_channel_axis"
LOWEST_VALUE = "robustness_lowest_value"
HIGHEST_VALUE = "robustness_highest_value"
DEFAULT_SEVERITY = 2
BUDGET_S = 20.0
"""Time for all corruptions of a candidate under ``--edge-profile=ci``, unless the models need more
for `FEWEST_SAMPLES`."""


@dataclass(frozen=True, eq=False)
class _Found:
    """What was measured of a candidate.

    Attributes:
        corrupted: both models under each corruption.
        missing: name to what a corruption that fits lacks.
    """

    corrupted: tuple[CorruptedQuality, ...]
    missing: Mapping[str, str]


def decide_robustness(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold
) -> Verdict:
    """Paired predictions on the same corrupted samples; the worst corruption decides."""
    table = bench.session.manifest.production
    asked = table.corruptions if table is not None else None
    reason, advice = _nothing_fits(bench, candidate, asked)
    if reason:
        if table is not None and GATE in (table.required or ()):
            raise NotCertified(reason, advice=advice)
        return make_verdict(GATE, "not_applicable", threshold, unit="ratio", reason=reason)
    key = (GATE, candidate.model.name, candidate.comparison)
    found = bench.once(key, lambda: _measure(bench, candidate, asked))
    return judge_robustness(
        found.corrupted,
        threshold,
        missing=found.missing,
        tail_limit=_tail_limit(bench, candidate, threshold),
    )


def _tail_limit(bench: Workbench, candidate: PlannedCandidate, threshold: Threshold) -> float:
    """Return the limit of an embedding's 5th percentile, as far below the mean's as without."""
    tail = tail_limit(bench, candidate)
    clean, _ = bench.session.threshold(candidate, "accuracy_retained")
    if not clean.value or not threshold.value:
        return tail
    return min(tail, tail * threshold.value / clean.value)


def _nothing_fits(
    bench: Workbench, candidate: PlannedCandidate, asked: Sequence[str] | None
) -> tuple[str, str]:
    """Return why no corruption fits a model, and what to do; empty strings where one does."""
    model = bench.model(candidate.model.name)
    task = model.spec.task
    advice = 'write one: corruptions = ["module:function"] in [production]'
    names = fitting_names(task, asked)
    if not names:
        of = "no corruption" if asked is None else f"none of {', '.join(asked)}"
        return f"{of} fits {task}", advice
    if model.language is not None:
        return text_fault(model.spec, names)
    plan = _plan(bench, candidate, asked)
    if plan.corruptions or plan.missing:
        return "", ""
    reasons = dict.fromkeys(note.partition(": ")[2] for note in plan.notes)
    return f"no corruption fits the data: {'; '.join(reasons)}", advice


def _plan(
    bench: Workbench, candidate: PlannedCandidate, asked: Sequence[str] | None
) -> CorruptionPlan:
    model = bench.model(candidate.model.name)
    axis, low, high = (
        bench.session.gate_setting(candidate, key)
        for key in (CHANNEL_AXIS, LOWEST_VALUE, HIGHEST_VALUE)
    )
    settings = ImageSettings(
        None if axis is None else int(axis),
        None if low is None else float(low),
        None if high is None else float(high),
    )
    return bench.once(
        ("corruptions", model.spec.name),
        lambda: plan_corruptions(
            model.evaluation.arrays,
            model.spec.task,
            asked,
            settings,
            bench.session.manifest.directory,
            model.spec.data.where,
        ),
    )


def severity_of(bench: Workbench, candidate: PlannedCandidate) -> tuple[int, bool]:
    """Return the severity from 1 to 5, and whether the manifest states it."""
    stated = bench.session.gate_setting(candidate, SEVERITY)
    return (DEFAULT_SEVERITY, False) if stated is None else (int(stated), True)


def budget_s(bench: Workbench) -> float | None:
    """Return the time for all corruptions; ``None`` for all samples, whatever they cost."""
    settings = bench.session.settings
    return None if settings.profile == RELEASE else min(BUDGET_S, float(settings.budget))


def _measure(bench: Workbench, candidate: PlannedCandidate, asked: Sequence[str] | None) -> _Found:
    bench.artifact(candidate)
    name = place(candidate, GATE)
    with bench.heavy(title(candidate)):
        kept = _read(bench, name)
        if kept is not None:
            return kept
        model = bench.model(candidate.model.name)
        severity, is_stated = severity_of(bench, candidate)
        notes: Sequence[str] = ()
        indices = np.zeros(0, np.int64)
        if model.language is not None:
            names = fitting_names(model.spec.task, asked)
            corrupted = corrupted_texts(bench, candidate, names, severity, budget_s(bench))
            found = _Found(tuple(corrupted), {})
        else:
            plan = _plan(bench, candidate, asked)
            notes = plan.notes
            corrupted, indices = _under_corruptions(bench, candidate, plan, severity, is_stated)
            found = _Found(tuple(corrupted), plan.missing)
            for note in plan.notes:
                bench.progress.note(f"{model.spec.name}: robustness: {note}")
        _write(bench, name, found, notes, indices)
    return found


def _under_corruptions(
    bench: Workbench,
    candidate: PlannedCandidate,
    plan: CorruptionPlan,
    severity: int,
    is_stated: bool,
) -> tuple[list[CorruptedQuality], NDArray[np.int64]]:
    """Return both models under every corruption, and which samples they saw.

    A severity that nobody stated is lowered while the baseline does no better than guessing.
    """
    model = bench.model(candidate.model.name)
    if model.metric is None:
        raise MeasurementError("the model has no metric of its outputs")
    models = (bench.loaded_baseline(candidate), bench.loaded_candidate(candidate))
    folder = bench.scratch / model.spec.name / GATE / candidate.comparison
    neighbors = bench.session.gate_setting(candidate, RECALL_NEIGHBORS)
    judged = Judged(
        model.metric,
        model.metric_name,
        model.metric_kind,
        model.evaluation.labels,
        model.spec.classes or model.evaluation.classes,
        model.spec.output,
        DEFAULT_NEIGHBORS if neighbors is None else int(neighbors),
    )
    arrays, batching = model.evaluation.arrays, model.samples.batching
    order = sample_order(model.evaluation.samples)
    limit_s = budget_s(bench)

    def step(what: str, done: float = 0.0) -> None:
        bench.progress.step(title(candidate), what, done)

    try:
        count = len(order)
        if limit_s is not None and plan.corruptions:
            step("finding out what a corrupted sample costs")
            pilot = Evaluated(arrays, order[:PILOT_SAMPLES], batching, folder)
            cost_s = pilot_seconds(pilot, models, plan.corruptions, severity)
            fewest = MINIMUM_SAMPLES if judged.kind == "corpus" else FEWEST_SAMPLES
            count = affordable(count, cost_s, len(plan.corruptions), limit_s, fewest)
        evaluated = Evaluated(arrays, np.sort(order[:count]), batching, folder)
        step(f"evaluating the {candidate.counterpart} on {count} samples as they are")
        [clean] = evaluated.outputs(models[:1], None, 0, lambda done: None)
        found: list[CorruptedQuality] = []
        for corruption in plan.corruptions:
            found.append(
                _under(corruption, severity, is_stated, evaluated, models, clean, judged, step)
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return found, evaluated.indices


def _under(
    corruption: Corruption,
    severity: int,
    is_stated: bool,
    evaluated: Evaluated,
    models: tuple[LoadedRunnable, LoadedRunnable],
    clean: Mapping[str, NDArray[Any]],
    judged: Judged,
    step: Callable[[str, float], None],
) -> CorruptedQuality:
    while True:
        what = f"{corruption.describe(severity)}, {len(evaluated.indices)} samples"
        found = corrupted_quality(
            corruption, severity, evaluated, models, clean, judged, partial(step, what)
        )
        if is_stated or severity == 1 or beats_guessing(found):
            return found
        severity -= 1


def _write(
    bench: Workbench,
    name: str,
    found: _Found,
    notes: Sequence[str],
    indices: NDArray[np.int64],
) -> None:
    arrays: dict[str, NDArray[Any]] = {"samples": indices}
    for number, each in enumerate(found.corrupted):
        arrays[f"{number}/advantage"] = each.advantage
        held = quality_arrays(each.quality)
        arrays |= {f"{number}/{key}": array for key, array in held.items()}
    bench.evidence.write_arrays(name, arrays)
    bench.evidence.write_record(
        name,
        {
            "corruptions": [
                {
                    "name": each.name,
                    "severity": each.severity,
                    "strength": each.strength,
                    "metric": each.quality.metric,
                    "kind": each.quality.kind,
                    "clean": each.clean,
                }
                for each in found.corrupted
            ],
            "missing": dict(found.missing),
            "notes": list(notes),
        },
    )


def _read(bench: Workbench, name: str) -> _Found | None:
    record = bench.evidence.read_record(name)
    arrays = bench.evidence.read_arrays(name)
    if record is None or arrays is None:
        return None
    corrupted = []
    for number, each in enumerate(record["corruptions"]):
        start = f"{number}/"
        held = {key[len(start) :]: array for key, array in arrays.items() if key.startswith(start)}
        advantage = held.pop("advantage")
        quality = quality_from_arrays(each["metric"], each["kind"], held)
        corrupted.append(
            CorruptedQuality(
                each["name"],
                each["severity"],
                each["strength"],
                quality,
                each["clean"],
                advantage,
            )
        )
    return _Found(tuple(corrupted), record["missing"])
