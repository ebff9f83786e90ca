"""The measurements of one candidate, each taken once per session and kept as evidence."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.assess.model import read_structure
from pytest_edgeai.errors import EdgeAIError, MeasurementError
from pytest_edgeai.judge.timings import is_contended
from pytest_edgeai.measure.bench import LoadedRunnable, Runnable, close_all, measure_memory
from pytest_edgeai.measure.latency import Rounds, interleave, paired, run_round, summarize, warm_up
from pytest_edgeai.measure.quality import (
    encode_labels,
    output_sanity,
    paired_quality,
    select_outputs,
)
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.records import (
    MemorySamples,
    OutputSanity,
    PairedQuality,
    PairedTimings,
    PrecisionFacts,
    RuntimeOptions,
    Stage,
)
from pytest_edgeai.workbench import Workbench

MEMORY_REPEATS = 3
STAGE_ROUNDS = 60
STAGE_LIMIT_S = 20.0
_SIDES = ("baseline", "candidate")
_TIMING_FIELDS = (
    "baseline_wall_ns",
    "candidate_wall_ns",
    "baseline_cpu_ns",
    "candidate_cpu_ns",
    "baseline_preemptions",
    "candidate_preemptions",
    "baseline_first",
    "attempt",
)


def _place(candidate: PlannedCandidate, what: str) -> str:
    return f"{candidate.model.name}/{candidate.recipe.id}/{what}"


def _title(candidate: PlannedCandidate) -> str:
    return f"{candidate.model.name} {candidate.node}"


def quality(bench: Workbench, candidate: PlannedCandidate) -> tuple[PairedQuality, OutputSanity]:
    """Return paired scores and output facts over all evaluation samples.

    Raises:
        EdgeAIError: a model could not be run, or the metric does not fit its outputs.
    """
    key = ("quality", candidate.model.name, candidate.recipe.id)
    return bench.once(key, lambda: _quality(bench, candidate))


def _quality(bench: Workbench, candidate: PlannedCandidate) -> tuple[PairedQuality, OutputSanity]:
    bench.artifact(candidate)
    with bench.heavy(_title(candidate)):
        kept = _read_quality(bench, candidate)
        if kept is not None:
            return kept
        baseline = _baseline_outputs(bench, candidate)
        outputs = _evaluate(bench, candidate, bench.loaded_candidate(candidate), "candidate")
    measured = _score(bench, candidate, baseline, outputs)
    bench.evidence.write_arrays(_place(candidate, "quality"), _quality_arrays(measured[0]))
    bench.evidence.write_record(
        _place(candidate, "quality"),
        {"metric": measured[0].metric, "kind": measured[0].kind, "sanity": measured[1]},
    )
    return measured


def _quality_arrays(scores: PairedQuality) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {
        "baseline_scores": scores.baseline_scores,
        "candidate_scores": scores.candidate_scores,
    }
    if scores.classes is not None:
        arrays["classes"] = scores.classes
    return arrays


def _read_quality(
    bench: Workbench, candidate: PlannedCandidate
) -> tuple[PairedQuality, OutputSanity] | None:
    record = bench.evidence.read_record(_place(candidate, "quality"))
    arrays = bench.evidence.read_arrays(_place(candidate, "quality"))
    if record is None or arrays is None:
        return None
    sanity = record["sanity"]
    for name in ("contract_breaches", "constant_outputs", "collapsed_classes"):
        sanity[name] = tuple(sanity[name])
    scores = PairedQuality(
        record["metric"],
        record["kind"],
        arrays["baseline_scores"],
        arrays["candidate_scores"],
        arrays.get("classes"),
    )
    return scores, OutputSanity(**sanity)


def _baseline_outputs(bench: Workbench, candidate: PlannedCandidate) -> dict[str, NDArray[Any]]:
    key = ("baseline outputs", candidate.model.name, candidate.baseline_framework)
    return bench.once(
        key, lambda: _evaluate(bench, candidate, bench.loaded_baseline(candidate), "baseline")
    )


def _evaluate(
    bench: Workbench, candidate: PlannedCandidate, loaded: LoadedRunnable, side: str
) -> dict[str, NDArray[Any]]:
    count = bench.model(candidate.model.name).samples.count
    what = f"evaluating the {side} on {count} samples"
    bench.progress.step(_title(candidate), what)
    output = bench.scratch / candidate.model.name / f"outputs-{candidate.recipe.id}-{side}"
    outputs, _ = loaded.evaluate(
        output, lambda _, done: bench.progress.step(_title(candidate), what, done)
    )
    return outputs


def _score(
    bench: Workbench,
    candidate: PlannedCandidate,
    baseline: dict[str, NDArray[Any]],
    outputs: dict[str, NDArray[Any]],
) -> tuple[PairedQuality, OutputSanity]:
    model = bench.model(candidate.model.name)
    labels = model.evaluation.labels
    if labels is None:
        raise MeasurementError("the evaluation data has no labels")
    chosen = select_outputs(baseline, model.spec.output)
    encoded, note = encode_labels(labels, model.spec.classes or model.evaluation.classes, chosen)
    if note:
        bench.progress.note(f"{model.spec.name}: {note}")
    scores = paired_quality(
        model.metric,
        model.metric_name,
        model.metric_kind,
        chosen,
        select_outputs(outputs, model.spec.output),
        encoded,
    )
    if scores.classes is not None:
        scores = replace(scores, classes=labels)
    return scores, output_sanity(baseline, outputs, scores)


def timings(
    bench: Workbench, candidate: PlannedCandidate, decided: Callable[[PairedTimings], bool]
) -> tuple[PairedTimings, bool]:
    """Return interleaved timings that decide a question, or all that the budget allowed.

    Rounds taken for an earlier gate are kept and added to.

    Returns:
        The timings, and whether the budget was spent without a decision.

    Raises:
        EdgeAIError: a model could not be run.
    """
    return bench.guard(
        ("timings", candidate.model.name, candidate.recipe.id),
        lambda: _timings(bench, candidate, decided),
    )


def _timings(
    bench: Workbench, candidate: PlannedCandidate, decided: Callable[[PairedTimings], bool]
) -> tuple[PairedTimings, bool]:
    bench.artifact(candidate)
    with bench.heavy(_title(candidate)):
        rounds = _read_rounds(bench, candidate)
        valid = all(
            bench.session.catalogue.frameworks[name].cpu_time_is_valid
            for name in (candidate.baseline_framework, candidate.recipe.framework)
        )
        if len(rounds):
            known = paired(rounds, cpu_time_is_valid=valid)
            if decided(known):
                return known, False
        models = (bench.loaded_baseline(candidate), bench.loaded_candidate(candidate))
        measured, spent = interleave(
            *models,
            rounds,
            decided=decided,
            is_contended=is_contended,
            budget_s=bench.session.settings.budget,
            generator=random.Random(len(rounds)),
            progress=lambda count, seconds: bench.progress.step(
                _title(candidate), f"timing in turns with the baseline ({count} rounds)"
            ),
        )
    arrays = {
        name: values for name in _TIMING_FIELDS if (values := getattr(measured, name)) is not None
    }
    for side, lead_in in zip(_SIDES, rounds.lead_in_wall_ns, strict=True):
        arrays[f"{side}_lead_in_wall_ns"] = np.asarray(lead_in, dtype=np.int64)
    bench.evidence.write_arrays(_place(candidate, "timings"), arrays)
    return measured, spent


def _read_rounds(bench: Workbench, candidate: PlannedCandidate) -> Rounds:
    arrays = bench.evidence.read_arrays(_place(candidate, "timings"))
    rounds = Rounds.of(2)
    if arrays is None:
        return rounds
    zeros = np.zeros_like(arrays["baseline_wall_ns"])
    for index, side in enumerate(_SIDES):
        rounds.lead_in_wall_ns[index] = arrays[f"{side}_lead_in_wall_ns"].tolist()
        rounds.wall_ns[index] = arrays[f"{side}_wall_ns"].tolist()
        rounds.cpu_ns[index] = arrays.get(f"{side}_cpu_ns", zeros).tolist()
        rounds.preemptions[index] = arrays[f"{side}_preemptions"].tolist()
    rounds.order = np.where(arrays["baseline_first"], 0, 1).tolist()
    rounds.attempt = arrays["attempt"].tolist()
    return rounds


def memory(bench: Workbench, candidate: PlannedCandidate) -> MemorySamples:
    """Return the memory of baseline and candidate, each repeat in a fresh process.

    Raises:
        EdgeAIError: it could not be measured, or not in the same way on both sides.
    """
    key = ("memory", candidate.model.name, candidate.recipe.id)
    return bench.once(key, lambda: _memory(bench, candidate))


def _memory(bench: Workbench, candidate: PlannedCandidate) -> MemorySamples:
    bench.check_loadable(candidate)
    sides = (bench.baseline_runnable(candidate), bench.candidate_runnable(candidate))
    with bench.heavy(_title(candidate)):
        kept = bench.evidence.read_record(_place(candidate, "memory"))
        if kept is not None:
            record = kept["samples"]
            return MemorySamples(
                record["definition"],
                *(
                    tuple(record[name])
                    for name in (
                        "baseline_bytes",
                        "candidate_bytes",
                        "baseline_footprint_bytes",
                        "candidate_footprint_bytes",
                    )
                ),
            )
        answers: tuple[list[Any], list[Any]] = ([], [])
        for repeat in range(MEMORY_REPEATS):
            for side, runnable in enumerate(sides):
                bench.progress.step(
                    _title(candidate),
                    "measuring memory in fresh processes",
                    (2 * repeat + side) / (2 * MEMORY_REPEATS),
                )
                answers[side].append(_memory_of(bench, candidate, runnable))
    definitions = {answer["definition"] for side in answers for answer in side}
    if len(definitions) > 1:
        raise MeasurementError(
            f"memory was measured in different ways: {', '.join(sorted(definitions))}"
        )
    samples = MemorySamples(
        definitions.pop(),
        tuple(int(answer["model_bytes"]) for answer in answers[0]),
        tuple(int(answer["model_bytes"]) for answer in answers[1]),
        tuple(int(answer["footprint_bytes"]) for answer in answers[0]),
        tuple(int(answer["footprint_bytes"]) for answer in answers[1]),
    )
    bench.evidence.write_record(
        _place(candidate, "memory"),
        {"samples": samples, "baseline": answers[0], "candidate": answers[1]},
    )
    return samples


def _memory_of(bench: Workbench, candidate: PlannedCandidate, runnable: Runnable) -> Any:
    samples = bench.model(candidate.model.name).samples
    return measure_memory(runnable, samples, time_limit_s=bench.session.settings.time_limit)


def precision(bench: Workbench, candidate: PlannedCandidate) -> PrecisionFacts:
    """Return what the artifact's files hold and what its runtime executes.

    Raises:
        EdgeAIError: the artifact cannot be read or run.
    """
    key = ("precision", candidate.model.name, candidate.recipe.id)
    return bench.once(key, lambda: _precision(bench, candidate))


def _precision(bench: Workbench, candidate: PlannedCandidate) -> PrecisionFacts:
    structure = read_structure(bench.artifact(candidate).path)
    with bench.heavy(_title(candidate)):
        executed = bench.loaded_candidate(candidate).execution()
    facts = PrecisionFacts(
        weight_elements=structure.weight_elements,
        quantized_operators=structure.quantized_operators,
        executed_precisions=executed["executed_precisions"],
        claimed_device=bench.runtime().device,
        executed_devices=tuple(executed["executed_devices"]),
    )
    bench.evidence.write_record(_place(candidate, "precision"), facts)
    return facts


def stages(bench: Workbench, candidate: PlannedCandidate) -> tuple[Stage, ...]:
    """Return every stage from the baseline to what ships, timed in turns with each other.

    Raises:
        EdgeAIError: a stage could not be made or run.
    """
    key = ("stages", candidate.model.name, candidate.recipe.id)
    return bench.once(key, lambda: _stages(bench, candidate))


def _stages(bench: Workbench, candidate: PlannedCandidate) -> tuple[Stage, ...]:
    model = bench.model(candidate.model.name)
    converted = bench.converted(candidate)
    artifact = bench.artifact(candidate)
    framework = bench.session.catalogue.frameworks[candidate.recipe.framework]
    interpreter = bench.session.interpreter(framework.name)
    accelerated = RuntimeOptions(threads=0)
    limit_s = bench.session.settings.time_limit
    own: list[LoadedRunnable] = []
    with bench.heavy(_title(candidate)):
        try:
            for path, runtime in ((converted.path, bench.runtime()), (artifact.path, accelerated)):
                runnable = Runnable(framework, interpreter, path, runtime)
                own.append(LoadedRunnable(runnable, model.samples, time_limit_s=limit_s))
            loaded = [
                bench.loaded_baseline(candidate),
                own[0],
                bench.loaded_candidate(candidate),
                own[1],
            ]
            rounds = _stage_rounds(bench, candidate, loaded)
            memory_bytes = int(_memory_of(bench, candidate, own[0].runnable)["model_bytes"])
        finally:
            close_all(own)
    sizes = (
        _baseline_size(bench, candidate),
        converted.size_bytes,
        artifact.size_bytes,
        artifact.size_bytes,
    )
    names = ("baseline", "converted", "quantized", "accelerated")
    measured = tuple(
        Stage(
            name=name,  # type: ignore[arg-type]
            framework=side.runnable.framework.name,
            runtime=side.runnable.runtime,
            latency=summarize(
                rounds,
                index,
                cpu_time_is_valid=side.cpu_time_is_valid,
                threads=side.runnable.runtime.threads,
                batch=model.samples.batching.samples_per_call,
            ),
            size_bytes=size,
            metric=model.metric_name,
            score=None,
            memory_bytes=memory_bytes if name == "converted" else None,
        )
        for index, (name, side, size) in enumerate(zip(names, loaded, sizes, strict=True))
    )
    bench.evidence.write_record(_place(candidate, "stages"), {"stages": measured})
    bench.evidence.write_arrays(
        _place(candidate, "stages"),
        {f"{name}_wall_ns": np.asarray(rounds.wall_ns[index]) for index, name in enumerate(names)},
    )
    return measured


def _stage_rounds(
    bench: Workbench, candidate: PlannedCandidate, loaded: list[LoadedRunnable]
) -> Rounds:
    bench.progress.step(_title(candidate), "timing the stages")
    lead_in = warm_up(loaded)
    rounds = Rounds.of(len(loaded))
    generator = random.Random(0)
    deadline = time.monotonic() + STAGE_LIMIT_S
    while len(rounds) < STAGE_ROUNDS and (len(rounds) < 3 or time.monotonic() < deadline):
        run_round(loaded, lead_in, rounds, generator, 0)
    return rounds


def _baseline_size(bench: Workbench, candidate: PlannedCandidate) -> int:
    if candidate.model.baseline == "same-framework":
        return bench.converted(candidate).size_bytes
    return bench.model(candidate.model.name).facts.size_bytes


def try_stages(bench: Workbench, candidate: PlannedCandidate) -> None:
    """Measure the stages for the report; a failure is a note and decides nothing."""
    try:
        stages(bench, candidate)
    except EdgeAIError as error:
        bench.progress.note(f"{_title(candidate)}: the stages were not measured ({error})")
