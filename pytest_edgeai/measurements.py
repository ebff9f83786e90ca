"""The measurements of one candidate, each taken once per session and kept as evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.assess.model import READERS, read_structure
from pytest_edgeai.assess.onnx_external import external_locations
from pytest_edgeai.errors import EdgeAIError, MeasurementError
from pytest_edgeai.language_measurements import score_text
from pytest_edgeai.measure.bench import LoadedRunnable, Runnable, Samples, measure_memory
from pytest_edgeai.measure.dataset import Dataset, stage_arrays
from pytest_edgeai.measure.embedding import DEFAULT_NEIGHBORS, RECALL_NEIGHBORS
from pytest_edgeai.measure.language import measure_language_memory
from pytest_edgeai.measure.parts import take_rows
from pytest_edgeai.measure.quality import (
    compared_quality,
    encode_labels,
    name_classes,
    output_sanity,
    quality_arrays,
    quality_from_arrays,
    select_outputs,
)
from pytest_edgeai.measure.reference import reference_statistics
from pytest_edgeai.optimize.frameworks.language import MEMORY_MAPPING
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.records import (
    MemorySamples,
    OutputSanity,
    PairedQuality,
    PrecisionFacts,
    Recipe,
)
from pytest_edgeai.sensitivity_records import LAYER_OPTIONS
from pytest_edgeai.workbench import Workbench, place, title

MEMORY_REPEATS = 3


def quality(bench: Workbench, candidate: PlannedCandidate) -> tuple[PairedQuality, OutputSanity]:
    """Return paired scores and output facts over all evaluation samples.

    Raises:
        EdgeAIError: a model could not be run, or the metric does not fit its outputs.
    """
    key = ("quality", candidate.model.name, candidate.comparison)
    return bench.once(key, lambda: _quality(bench, candidate))


def _quality(bench: Workbench, candidate: PlannedCandidate) -> tuple[PairedQuality, OutputSanity]:
    bench.artifact(candidate)
    with bench.heavy(title(candidate)):
        kept = _read_quality(bench, candidate)
        if kept is not None:
            return kept
        if bench.model(candidate.model.name).language is not None:
            measured = score_text(bench, candidate)
            _keep_reference(bench, candidate, measured[0], {})
        else:
            baseline = _baseline_outputs(bench, candidate)
            outputs = _evaluate(bench, candidate, bench.loaded_candidate(candidate), "candidate")
            measured = _score(bench, candidate, baseline, outputs)
            _keep_reference(bench, candidate, measured[0], outputs)
    bench.evidence.write_arrays(place(candidate, "quality"), quality_arrays(measured[0]))
    bench.evidence.write_record(
        place(candidate, "quality"),
        {"metric": measured[0].metric, "kind": measured[0].kind, "sanity": measured[1]},
    )
    return measured


def _keep_reference(
    bench: Workbench,
    candidate: PlannedCandidate,
    scores: PairedQuality,
    outputs: Mapping[str, NDArray[Any]],
) -> None:
    """Keep what a promotion ships for later drift detection, where anything is promoted."""
    if bench.session.settings.promote is None or candidate.reference is not None:
        return
    inputs = bench.model(candidate.model.name).evaluation.arrays
    # A metric of the whole set has no scores of samples.
    each = None if scores.kind == "corpus" else scores.candidate_scores
    statistics = reference_statistics(inputs, outputs, each)
    bench.evidence.write_record(
        f"{candidate.model.name}/{candidate.recipe.id}/reference", statistics
    )


def _read_quality(
    bench: Workbench, candidate: PlannedCandidate
) -> tuple[PairedQuality, OutputSanity] | None:
    record = bench.evidence.read_record(place(candidate, "quality"))
    arrays = bench.evidence.read_arrays(place(candidate, "quality"))
    if record is None or arrays is None:
        return None
    sanity = record["sanity"]
    for name in ("contract_breaches", "constant_outputs", "collapsed_classes"):
        sanity[name] = tuple(sanity[name])
    return quality_from_arrays(record["metric"], record["kind"], arrays), OutputSanity(**sanity)


def _baseline_outputs(bench: Workbench, candidate: PlannedCandidate) -> dict[str, NDArray[Any]]:
    of = candidate.reference.sha256 if candidate.reference else "baseline"
    key = ("baseline outputs", candidate.model.name, candidate.baseline_framework, of)
    return bench.once(
        key, lambda: _evaluate(bench, candidate, bench.loaded_baseline(candidate), "baseline")
    )


def _evaluate(
    bench: Workbench, candidate: PlannedCandidate, loaded: LoadedRunnable, side: str
) -> dict[str, NDArray[Any]]:
    count = bench.model(candidate.model.name).samples.count
    name = candidate.counterpart if side == "baseline" else side
    what = f"evaluating the {name} on {count} samples"
    bench.progress.step(title(candidate), what)
    output = bench.scratch / candidate.model.name / "outputs" / candidate.comparison / side
    outputs, _ = loaded.evaluate(
        output, lambda _, done: bench.progress.step(title(candidate), what, done)
    )
    return outputs


def sample_quality(
    bench: Workbench, candidate: PlannedCandidate, rows: NDArray[np.int64]
) -> PairedQuality:
    """Return paired scores over some of the evaluation samples, which decide nothing.

    Args:
        bench: makes and measures.
        candidate: what is evaluated on them; the baseline is on all samples, once.
        rows: which samples.

    Raises:
        EdgeAIError: a model could not be run, or the metric does not fit its outputs.
    """
    model = bench.model(candidate.model.name)
    with bench.heavy(title(candidate)):
        everywhere = _baseline_outputs(bench, candidate)
        folder = bench.scratch / candidate.model.name / "samples"
        few = Samples(
            stage_arrays(take_rows(model.evaluation, rows).arrays, folder / candidate.comparison),
            len(rows),
            bench.samples(candidate).batching,
        )
        outputs, _ = bench.loaded_candidate(candidate).evaluate(
            folder / candidate.comparison / "outputs",
            lambda _, done: bench.progress.step(title(candidate), "evaluating a sample", done),
            few,
        )
        baseline = {name: array[rows] for name, array in everywhere.items()}
        return _score(bench, candidate, baseline, outputs, take_rows(model.evaluation, rows))[0]


def _score(
    bench: Workbench,
    candidate: PlannedCandidate,
    baseline: dict[str, NDArray[Any]],
    outputs: dict[str, NDArray[Any]],
    data: Dataset | None = None,
) -> tuple[PairedQuality, OutputSanity]:
    """Score outputs over the evaluation data, or over ``data`` where it is a part of them."""
    model = bench.model(candidate.model.name)
    data = data or model.evaluation
    labels = data.labels
    if model.metric is None:
        raise MeasurementError("the model has no metric of its outputs")
    chosen = select_outputs(baseline, model.spec.output)
    encoded, note = labels, ""
    if labels is not None and model.metric_kind != "embedding":
        names = model.spec.classes or data.classes
        encoded, note = encode_labels(labels, names, chosen)
    if note:
        bench.progress.note(f"{model.spec.name}: {note}")
    scores = compared_quality(
        model.metric,
        model.metric_name,
        model.metric_kind,
        chosen,
        select_outputs(outputs, model.spec.output),
        encoded,
        slices=data.slices,
        neighbors=_neighbors(bench, candidate),
        progress=lambda done: bench.progress.step(
            title(candidate), f"resampling {model.metric_name}", done
        ),
    )
    return name_classes(scores, labels), output_sanity(baseline, outputs, scores)


def _neighbors(bench: Workbench, candidate: PlannedCandidate) -> int:
    """Return k of recall@k."""
    stated = bench.session.gate_setting(candidate, RECALL_NEIGHBORS)
    return DEFAULT_NEIGHBORS if stated is None else int(stated)


def memory(bench: Workbench, candidate: PlannedCandidate) -> MemorySamples:
    """Return the memory of baseline and candidate, each repeat in a fresh process.

    Raises:
        EdgeAIError: it could not be measured, or not in the same way on both sides.
    """
    key = ("memory", candidate.model.name, candidate.comparison)
    return bench.once(key, lambda: _memory(bench, candidate))


def _memory(bench: Workbench, candidate: PlannedCandidate) -> MemorySamples:
    bench.check_loadable(candidate)
    sides = (bench.baseline_runnable(candidate), bench.candidate_runnable(candidate))
    with bench.heavy(title(candidate)):
        kept = bench.evidence.read_record(place(candidate, "memory"))
        if kept is not None:
            return memory_from_json(kept["samples"])
        answers: tuple[list[Any], list[Any]] = ([], [])
        for repeat in range(MEMORY_REPEATS):
            for side, runnable in enumerate(sides):
                bench.progress.step(
                    title(candidate),
                    "measuring memory in fresh processes",
                    (2 * repeat + side) / (2 * MEMORY_REPEATS),
                )
                answers[side].append(memory_of(bench, candidate, runnable))
        mapped = [_mapped_memory(bench, candidate, runnable) for runnable in sides]
    samples = memory_samples(answers, (mapped[0], mapped[1]))
    bench.evidence.write_record(
        place(candidate, "memory"),
        {"samples": samples, "baseline": answers[0], "candidate": answers[1]},
    )
    return samples


def memory_samples(
    answers: Sequence[Sequence[Mapping[str, Any]]], mapped: tuple[int | None, int | None]
) -> MemorySamples:
    """Return what the workers' answers say of both sides.

    Args:
        answers: the answers of the baseline's repeats and of the candidate's, see
            :func:`pytest_edgeai.worker.memory.memory_growth`.
        mapped: model memory of each with mapped weights; ``None`` where it was not measured.

    Raises:
        MeasurementError: the figures were taken by different definitions.
    """
    taken = {(each["definition"], each["steady_definition"]) for side in answers for each in side}
    if len(taken) > 1:
        ways = sorted({str(way) for ways in taken for way in ways})
        raise MeasurementError(
            f"memory was measured in different ways, which are not compared: {', '.join(ways)}"
        )
    definition, steady_definition = taken.pop()
    baseline, candidate = answers

    def figures(side: Sequence[Mapping[str, Any]], name: str) -> tuple[int, ...]:
        return tuple(int(each[name]) for each in side if each[name] is not None)

    return MemorySamples(
        definition,
        figures(baseline, "model_bytes"),
        figures(candidate, "model_bytes"),
        figures(baseline, "footprint_bytes"),
        figures(candidate, "footprint_bytes"),
        baseline[0].get("kv_cache_bytes"),
        candidate[0].get("kv_cache_bytes"),
        *mapped,
        figures(baseline, "steady_bytes"),
        figures(candidate, "steady_bytes"),
        steady_definition,
        max(figures(baseline, "untouched_bytes")),
        max(figures(candidate, "untouched_bytes")),
    )


def memory_from_json(record: Mapping[str, Any]) -> MemorySamples:
    """Return the record that :func:`~pytest_edgeai.records.to_json` was given."""
    values: dict[str, Any] = dict(record)
    for name, value in values.items():
        if isinstance(value, list):
            values[name] = tuple(value)
    return MemorySamples(**values)


def memory_of(bench: Workbench, candidate: PlannedCandidate, runnable: Runnable) -> Any:
    """Measure the memory of a model in a fresh process; see ``measure_memory`` of the worker."""
    model = bench.model(candidate.model.name)
    limit_s = bench.session.settings.time_limit
    if model.language is not None:
        return measure_language_memory(runnable, model.language, time_limit_s=limit_s)
    return measure_memory(runnable, bench.samples(candidate), time_limit_s=limit_s)


def _mapped_memory(bench: Workbench, candidate: PlannedCandidate, runnable: Runnable) -> int | None:
    """Return the memory of a model whose weights are mapped from their file, in bytes.

    ``None`` where the runtime cannot map them, or the model has no file that it could map; the
    figure decides nothing.
    """
    path = runnable.path
    if not runnable.framework.maps_weights:
        return None
    if path.suffix.lower() == ".onnx" and not external_locations(path):
        return None
    hints = {**runnable.runtime.hints, MEMORY_MAPPING: "on"}
    mapped = replace(runnable, runtime=replace(runnable.runtime, hints=hints))
    try:
        answer = memory_of(bench, candidate, mapped)
    except EdgeAIError as error:
        bench.progress.note(f"{title(candidate)}: memory with mapped weights not measured: {error}")
        return None
    return int(answer["model_bytes"])


def precision(bench: Workbench, candidate: PlannedCandidate) -> PrecisionFacts:
    """Return what the artifact's files hold and what its runtime executes.

    Raises:
        EdgeAIError: the artifact cannot be read or run.
    """
    key = ("precision", candidate.model.name, candidate.recipe.id)
    return bench.once(key, lambda: _precision(bench, candidate))


def _precision(bench: Workbench, candidate: PlannedCandidate) -> PrecisionFacts:
    path = bench.artifact(candidate).path
    with bench.heavy(title(candidate)):
        executed = bench.loaded_candidate(candidate).execution()
    stored = executed["weight_elements"], executed["quantized_operators"]
    left_out = 0
    if not stored[0] or path.is_dir() or path.suffix.lower() in READERS:
        # A framework's own count is taken only for the formats that nobody else can read.
        structure = read_structure(path)
        stored = structure.weight_elements, structure.quantized_operators
        wide = structure.full_precision_weights
        left_out = sum(wide.get(name, 0) for name in _left_alone(candidate.recipe))
    facts = PrecisionFacts(
        weight_elements=stored[0],
        quantized_operators=stored[1],
        executed_precisions=executed["executed_precisions"],
        claimed_device=bench.runtime(candidate.recipe.framework).device,
        executed_devices=tuple(executed["executed_devices"]),
        left_out_elements=left_out,
    )
    bench.evidence.write_record(place(candidate, "precision"), facts)
    return facts


def _left_alone(recipe: Recipe) -> set[str]:
    """Return the names that layers have in an artifact whose recipe leaves them alone.

    ONNX Runtime's tools turn a Gemm that stays at full precision into a MatMul and an Add.
    """
    names = [name for option in LAYER_OPTIONS for name in recipe.options.get(option, ())]
    return {called for name in names for called in (name, f"{name}_MatMul", f"{name}_Add")}
