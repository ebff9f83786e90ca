"""The gate ``consistency``: ask the candidate again and again, and the baseline where it varies."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pytest_edgeai.assess.model import READERS, read_structure
from pytest_edgeai.gate_selection import RELEASE
from pytest_edgeai.judge.consistency import DEFAULT_ROUNDING, judge_consistency, needs_baseline
from pytest_edgeai.measure.agreement import (
    Decisions,
    Outputs,
    decisions,
    is_discrete,
    resolution,
)
from pytest_edgeai.measure.bench import LoadedRunnable, Runnable
from pytest_edgeai.measure.consistency import (
    FEWEST_BLOCKS,
    FEWEST_SAMPLES,
    Answering,
    Compared,
    Condition,
    LanguageAnswers,
    TensorAnswers,
    compare_conditions,
    conditions,
    distance,
    output_spreads,
)
from pytest_edgeai.measure.quality import select_outputs
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.production.sampling import SEED, affordable, chosen_samples
from pytest_edgeai.production_records import ConsistencySamples
from pytest_edgeai.records import Threshold, Verdict
from pytest_edgeai.tasks import CLASSIFICATION_TASKS
from pytest_edgeai.workbench import Workbench, place, title

CONSISTENCY = "consistency"
ROUNDING = "consistency_rounding"
MOST_SAMPLES = 64
MOST_SAMPLES_OF_A_RELEASE = 256
BUDGET_S = 15.0
BUDGET_OF_A_RELEASE_S = 120.0
DYNAMIC_OPERATORS = frozenset(
    {
        "ConvInteger",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeLinear",
        "DynamicQuantizeMatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
    }
)
"""Operators of ONNX and its com.microsoft domain that go with scales computed from a call's data
(https://onnx.ai/onnx/operators/onnx__DynamicQuantizeLinear.html: of the tensor's min and max)."""


def decide_consistency(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold
) -> Verdict:
    """The same samples again, in another order, process and batch, and with other threads."""
    stated = bench.session.gate_setting(candidate, ROUNDING)
    rounding = DEFAULT_ROUNDING if stated is None else float(stated)
    limit = threshold.value or 0.0
    # What was asked of the candidate alone serves every target whose limit needs no more.
    measured = bench.once(
        (CONSISTENCY, candidate.model.name, candidate.comparison, repr(limit)),
        lambda: _measure(bench, candidate, limit),
    )
    return judge_consistency(measured, threshold, rounding=rounding)


def _measure(bench: Workbench, candidate: PlannedCandidate, limit: float) -> ConsistencySamples:
    bench.artifact(candidate)
    folder = bench.scratch / candidate.model.name / CONSISTENCY / candidate.comparison
    with bench.heavy(title(candidate)):
        try:
            return _compare(bench, candidate, limit, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _compare(
    bench: Workbench, candidate: PlannedCandidate, limit: float, folder: Path
) -> ConsistencySamples:
    model = bench.model(candidate.model.name)
    answering, asked, count = _plan(bench, candidate, folder)

    def decide(outputs: Outputs) -> Decisions | None:
        if candidate.model.task not in CLASSIFICATION_TASKS:
            return None
        return decisions(select_outputs(outputs, candidate.model.output))

    def ask(side: str, spreads: Mapping[str, float] | None) -> Compared:
        runnable = (
            bench.candidate_runnable(candidate)
            if side == "candidate"
            else bench.baseline_runnable(candidate)
        )

        def loaded() -> LoadedRunnable:
            if side == "candidate":
                return bench.loaded_candidate(candidate)
            return bench.loaded_baseline(candidate)

        name = "candidate" if side == "candidate" else candidate.counterpart
        return compare_conditions(
            loaded,
            lambda threads: bench.load(model.spec.name, _with_threads(runnable, threads)),
            asked,
            answering,
            folder / side,
            decide=decide,
            spreads=spreads,
            progress=lambda what, done: bench.progress.step(
                title(candidate), f"the {name} is {what}", done
            ),
        )

    own = ask("candidate", None)
    spreads = output_spreads(own.first)
    measured = ConsistencySamples(
        samples=count,
        candidate=own.answers,
        baseline=None,
        resolution={name: resolution(array) for name, array in own.first.items()},
        error=None,
        discrete={name: len(array) for name, array in own.first.items() if is_discrete(array)},
        computes_scales=_computes_scales(bench.artifact(candidate).path),
    )
    raw = {f"candidate.{name}": array for name, array in own.raw.items()}
    if needs_baseline(measured, limit):
        other = ask("baseline", spreads)
        error = distance(own.first, other.first, spreads)
        measured = replace(measured, baseline=other.answers, error=error)
        raw |= {f"baseline.{name}": array for name, array in other.raw.items()}
    _keep(bench, candidate, measured, raw)
    return measured


def _keep(
    bench: Workbench,
    candidate: PlannedCandidate,
    measured: ConsistencySamples,
    raw: Mapping[str, NDArray[Any]],
) -> None:
    where = place(candidate, CONSISTENCY)
    bench.evidence.write_arrays(where, raw)
    bench.evidence.write_record(where, measured)


def _plan(
    bench: Workbench, candidate: PlannedCandidate, folder: Path
) -> tuple[Answering, tuple[Condition, ...], int]:
    """Return who asks, under which conditions, and about how many samples."""
    model, settings = bench.model(candidate.model.name), bench.session.settings
    is_long = settings.profile == RELEASE
    most = MOST_SAMPLES_OF_A_RELEASE if is_long else MOST_SAMPLES
    budget_s = BUDGET_OF_A_RELEASE_S if is_long else min(BUDGET_S, settings.budget)
    cores = os.cpu_count() or 1
    plan = model.language
    batching = None if plan is not None else model.samples.batching
    available = model.samples.count
    asked = conditions(
        batching,
        samples=min(most, available),
        threads=candidate.threads(bench.session.settings.threads),
        cores=cores,
        is_long=is_long,
    )
    count = affordable(
        bench,
        candidate,
        budget_s=budget_s / (2 * (len(asked) + 1)),
        fewest=min(FEWEST_SAMPLES if plan is None else FEWEST_BLOCKS, available),
        most=min(most, available),
    )
    if plan is not None:
        chosen = chosen_samples(available, count)
        return LanguageAnswers(plan, chosen.tolist(), seed=SEED), asked, count
    assert batching is not None
    step = batching.samples_per_call
    # Whole calls only: a call that is filled up has no other place to go to.
    count = max(count // step * step, min(step, available))
    chosen = chosen_samples(available, count)
    arrays = {name: array[chosen] for name, array in model.evaluation.arrays.items()}
    answering = TensorAnswers(arrays, batching, folder / "inputs", seed=SEED)
    return answering, tuple(c for c in asked if (c.batch or 1) <= count), count


def _with_threads(runnable: Runnable, threads: int | None) -> Runnable:
    if threads is None:
        return runnable
    return replace(runnable, runtime=replace(runnable.runtime, threads=threads))


def _computes_scales(path: Path) -> bool:
    """Return whether an artifact computes scales from its inputs, or may do so unseen."""
    if not path.is_dir() and path.suffix.lower() not in READERS:
        return True
    return bool(DYNAMIC_OPERATORS & set(read_structure(path).operators))
