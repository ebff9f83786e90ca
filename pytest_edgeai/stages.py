"""The stages from the baseline to what ships, measured for the report; they decide nothing."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from pytest_edgeai.errors import EdgeAIError
from pytest_edgeai.measure.bench import LoadedRunnable, Runnable, close_all
from pytest_edgeai.measure.latency import run_bursts, summarize
from pytest_edgeai.measure.rounds import Rounds
from pytest_edgeai.measurements import memory_of
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.records import RuntimeOptions, Stage
from pytest_edgeai.workbench import Workbench, place, title

STAGE_ROUNDS = 10
STAGE_LIMIT_S = 20.0


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
    hints = candidate.runtime.hints if candidate.runtime else {}
    accelerated = RuntimeOptions(threads=0, device=framework.device, hints=hints)
    own: list[LoadedRunnable] = []

    def load(path: Path, runtime: RuntimeOptions) -> LoadedRunnable:
        runnable = Runnable(framework, interpreter, path, runtime)
        own.append(bench.load(candidate.model.name, runnable, candidate))
        return own[-1]

    with bench.heavy(title(candidate)):
        try:
            baseline = bench.loaded_baseline(candidate)
            plain = bench.runtime(framework.name, candidate)
            is_baseline = Runnable(framework, interpreter, converted.path, plain) == (
                baseline.runnable
            )
            middle = baseline if is_baseline else load(converted.path, plain)
            loaded = [
                baseline,
                middle,
                bench.loaded_candidate(candidate),
                load(artifact.path, accelerated),
            ]
            rounds = _stage_rounds(bench, candidate, loaded)
            memory = memory_of(bench, candidate, middle.runnable)
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
                batch=bench.samples(candidate).batching.samples_per_call,
            ),
            size_bytes=size,
            metric=model.metric_name,
            score=None,
            memory_bytes=int(memory["model_bytes"]) if name == "converted" else None,
            steady_bytes=memory["steady_bytes"] if name == "converted" else None,
        )
        for index, (name, side, size) in enumerate(zip(names, loaded, sizes, strict=True))
    )
    bench.evidence.write_record(place(candidate, "stages"), {"stages": measured})
    bench.evidence.write_arrays(
        place(candidate, "stages"),
        {f"{name}_wall_ns": np.asarray(rounds.wall_ns[index]) for index, name in enumerate(names)},
    )
    return measured


def _stage_rounds(
    bench: Workbench, candidate: PlannedCandidate, loaded: list[LoadedRunnable]
) -> Rounds:
    bench.progress.step(title(candidate), "timing the stages")
    return run_bursts(loaded, random.Random(0), rounds=STAGE_ROUNDS, time_limit_s=STAGE_LIMIT_S)


def _baseline_size(bench: Workbench, candidate: PlannedCandidate) -> int:
    if candidate.baseline_recipe is not None:
        return bench.baseline_artifact(candidate).size_bytes
    return bench.model(candidate.model.name).facts.size_bytes


def try_stages(bench: Workbench, candidate: PlannedCandidate) -> None:
    """Measure the stages for the report; a failure is a note and decides nothing."""
    try:
        stages(bench, candidate)
    except EdgeAIError as error:
        bench.progress.note(f"{title(candidate)}: the stages were not measured ({error})")
