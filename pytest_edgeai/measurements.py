"""The measurements of one candidate, each taken once per session and kept as evidence."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.assess.model import READERS, read_structure
from pytest_edgeai.errors import MeasurementError
from pytest_edgeai.judge.timings import is_contended
from pytest_edgeai.language_measurements import (
    mapped_memory,
    score_text,
    timed,
)
from pytest_edgeai.measure.bench import LoadedRunnable, Runnable, measure_memory
from pytest_edgeai.measure.language import Phase, measure_language_memory
from pytest_edgeai.measure.latency import Rounds, interleave, paired
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
)
from pytest_edgeai.workbench import Workbench, place, title

MEMORY_REPEATS = 3
_SIDES = ("baseline", "candidate")
_TIMINGS: Mapping[Phase, str] = {
    "decode": "timings",
    "prefill": "prefill-timings",
    "first_token": "first-token-timings",
}
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
        else:
            baseline = _baseline_outputs(bench, candidate)
            outputs = _evaluate(bench, candidate, bench.loaded_candidate(candidate), "candidate")
            measured = _score(bench, candidate, baseline, outputs)
    bench.evidence.write_arrays(place(candidate, "quality"), _quality_arrays(measured[0]))
    bench.evidence.write_record(
        place(candidate, "quality"),
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
    record = bench.evidence.read_record(place(candidate, "quality"))
    arrays = bench.evidence.read_arrays(place(candidate, "quality"))
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


def _score(
    bench: Workbench,
    candidate: PlannedCandidate,
    baseline: dict[str, NDArray[Any]],
    outputs: dict[str, NDArray[Any]],
) -> tuple[PairedQuality, OutputSanity]:
    model = bench.model(candidate.model.name)
    labels = model.evaluation.labels
    if labels is None or model.metric is None or model.metric_kind == "perplexity":
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
    bench: Workbench,
    candidate: PlannedCandidate,
    decided: Callable[[PairedTimings], bool],
    phase: Phase = "decode",
) -> tuple[PairedTimings, bool]:
    """Return interleaved timings that decide a question, or all that the budget allowed.

    Rounds taken for an earlier gate are kept and added to.

    Args:
        bench: makes and measures.
        candidate: what is timed beside its baseline.
        decided: asked every few rounds.
        phase: what a language model does in a timed call; any other model answers its samples.

    Returns:
        The timings, and whether the budget was spent without a decision.

    Raises:
        EdgeAIError: a model could not be run.
    """
    return bench.guard(
        (_TIMINGS[phase], candidate.model.name, candidate.comparison),
        lambda: _timings(bench, candidate, decided, phase),
    )


def _timings(
    bench: Workbench,
    candidate: PlannedCandidate,
    decided: Callable[[PairedTimings], bool],
    phase: Phase,
) -> tuple[PairedTimings, bool]:
    bench.artifact(candidate)
    name = place(candidate, _TIMINGS[phase])
    with bench.heavy(title(candidate)):
        rounds = _read_rounds(bench, name)
        valid = all(
            bench.session.catalogue.frameworks[name].cpu_time_is_valid
            for name in (candidate.baseline_framework, candidate.recipe.framework)
        )
        if len(rounds):
            known = paired(rounds, cpu_time_is_valid=valid)
            if decided(known):
                return known, False
        loaded = (bench.loaded_baseline(candidate), bench.loaded_candidate(candidate))
        baseline, other = (timed(model, phase) for model in loaded)
        measured, spent = interleave(
            baseline,
            other,
            rounds,
            decided=decided,
            is_contended=is_contended,
            budget_s=bench.session.settings.budget,
            generator=random.Random(len(rounds)),
            progress=lambda count, seconds: bench.progress.step(
                title(candidate),
                f"timing in turns with the {candidate.counterpart} ({count} rounds)",
            ),
        )
    arrays = {
        name: values for name in _TIMING_FIELDS if (values := getattr(measured, name)) is not None
    }
    for side, lead_in in zip(_SIDES, rounds.lead_in_wall_ns, strict=True):
        arrays[f"{side}_lead_in_wall_ns"] = np.asarray(lead_in, dtype=np.int64)
    bench.evidence.write_arrays(name, arrays)
    return measured, spent


def _read_rounds(bench: Workbench, name: str) -> Rounds:
    arrays = bench.evidence.read_arrays(name)
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
        mapped = [mapped_memory(bench, candidate, runnable) for runnable in sides]
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
        *(side[0].get("kv_cache_bytes") for side in answers),
        *mapped,
    )
    bench.evidence.write_record(
        place(candidate, "memory"),
        {"samples": samples, "baseline": answers[0], "candidate": answers[1]},
    )
    return samples


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
    return measure_memory(runnable, model.samples, time_limit_s=limit_s)


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
    if not stored[0] or path.is_dir() or path.suffix.lower() in READERS:
        # A framework's own count is taken only for the formats that nobody else can read.
        structure = read_structure(path)
        stored = structure.weight_elements, structure.quantized_operators
    facts = PrecisionFacts(
        weight_elements=stored[0],
        quantized_operators=stored[1],
        executed_precisions=executed["executed_precisions"],
        claimed_device=bench.runtime(candidate.recipe.framework).device,
        executed_devices=tuple(executed["executed_devices"]),
    )
    bench.evidence.write_record(place(candidate, "precision"), facts)
    return facts
