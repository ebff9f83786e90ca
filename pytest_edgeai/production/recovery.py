"""The gate ``recovery``: failures around a serving process, and right answers after each."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from pytest_edgeai.gate_selection import RELEASE
from pytest_edgeai.judge.recovery import NOTHING_TO_COMPARE, judge_recovery
from pytest_edgeai.measure.recovery import Stage, take_reference
from pytest_edgeai.measure.recovery_serving import Server, arrays_of, start_server
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.production_records import RecoverySamples
from pytest_edgeai.records import Threshold, Verdict
from pytest_edgeai.workbench import Workbench, place, title

RECOVERY = "recovery"
DEFAULT_LIMIT_S = 30.0
CI_REPEATS, RELEASE_REPEATS = 1, 5
PATIENCE_FACTOR, PATIENCE_S = 2.0, 10.0
"""A process that takes longer than both to start or to answer is ended."""


def decide_recovery(bench: Workbench, candidate: PlannedCandidate, threshold: Threshold) -> Verdict:
    """Kill it, restart it, spoil its files and fill its disk, and time each recovery.

    Raises:
        EdgeAIError: the intact model could not be run.
    """
    key = (RECOVERY, candidate.model.name, candidate.comparison, repr(threshold))
    return judge_recovery(bench.once(key, lambda: _measure(bench, candidate, threshold)), threshold)


def _measure(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold
) -> RecoverySamples:
    artifact = bench.artifact(candidate)
    runnable = bench.candidate_runnable(candidate)
    prepared = bench.model(candidate.model.name)
    settings = bench.session.settings
    limit_s = DEFAULT_LIMIT_S if threshold.value is None else threshold.value
    patience_s = min(settings.time_limit, max(PATIENCE_FACTOR * limit_s, limit_s + PATIENCE_S))
    repeats = RELEASE_REPEATS if settings.profile == RELEASE else CI_REPEATS

    def start(path: Path, time_limit_s: float = patience_s) -> Server:
        served = replace(runnable, path=path)
        return start_server(served, prepared.samples, prepared.language, time_limit_s=time_limit_s)

    name = place(candidate, RECOVERY)
    folder = Path(tempfile.mkdtemp(prefix="recovery-", dir=bench.scratch))
    try:
        with bench.heavy(title(candidate)):
            bench.progress.step(title(candidate), "asking the intact model for its answers")
            reference = take_reference(lambda path: start(path, settings.time_limit), artifact.path)
            if reference.repeatability > NOTHING_TO_COMPARE:
                samples = RecoverySamples(
                    (), len(reference.answers), reference.repeats, reference.repeatability
                )
            else:
                stage = Stage(artifact, reference, start, folder=folder, patience_s=patience_s)
                samples = stage.run(
                    limit_s=limit_s,
                    repeats=repeats,
                    progress=lambda what, share: bench.progress.step(
                        title(candidate), f"recovering from being {what}", share
                    ),
                )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    bench.evidence.write_record(name, samples)
    bench.evidence.write_arrays(f"{name}-answers", arrays_of(reference.answers))
    return samples
