"""Check the models of a session before anything is optimized, and say what will not decide."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Container, Mapping

from pytest_edgeai.against import reference_of
from pytest_edgeai.call_times import PHASES, estimated, measured, remembered
from pytest_edgeai.errors import EdgeAIError, FrameworkMissing, UserError, WorkerFailure
from pytest_edgeai.measure.bench import LoadedRunnable
from pytest_edgeai.measure.exclusive import exclusive
from pytest_edgeai.measure.overlap import repeated_samples
from pytest_edgeai.recordings import check_recordings
from pytest_edgeai.report.effort import (
    CallTime,
    ModelEffort,
    effort_rows,
    may_lack_time,
    missing_text,
    row_text,
)
from pytest_edgeai.workbench import Workbench

OPSET_KNOWN_EVERYWHERE = 23
"""The ONNX opset of ONNX Runtime 1.23, the oldest version that the extras admit."""
MAXIMUM_REPEATED_RATIO = 0.1
"""Share of repeated evaluation samples that goes unsaid: coarse tabular data has some by nature."""


def preflight(bench: Workbench, names: list[str], *, verbose: bool = False) -> dict[str, UserError]:
    """Check the models that are about to be gated; return what cannot be used.

    The only model of a session, and one of a newer opset than every supported runtime knows, is
    also loaded in its baseline's runtime, so that a file which that runtime refuses is reported
    before anything else runs. What the gates take in data and time is kept as evidence, and said
    where something is missing.

    Args:
        bench: the workbench.
        names: the models.
        verbose: say it where nothing is missing, too.
    """
    # Importing what judges takes as long as starting a worker, and neither needs the other.
    importing = threading.Thread(target=importlib.import_module, args=("scipy.special",))
    importing.start()
    problems: dict[str, UserError] = {}
    loaded: dict[str, LoadedRunnable | None] = {}
    for name in names:
        try:
            bench.progress.step(name, "checking the model and its data")
            bench.model(name)
            check_recordings(bench, name)
            if len(names) == 1 or bench.session.facts[name].opset > OPSET_KNOWN_EVERYWHERE:
                loaded[name] = _loaded_baseline(bench, name)
            _say_samples_repeated(bench, name)
            _say_references_missing(bench, name)
        except UserError as error:
            problems[name] = error
    importing.join()
    # What is wrong with any model is known before another session on the machine is waited for.
    for name in names:
        try:
            if name not in problems:
                _plan_effort(bench, name, loaded.get(name), verbose=verbose)
        except UserError as error:
            problems[name] = error
    return problems


def _plan_effort(
    bench: Workbench, name: str, baseline: LoadedRunnable | None, *, verbose: bool
) -> None:
    """Say what the gates lack in data and time, and keep what they take as evidence."""
    # Planning judges, which imports SciPy, which collecting has no use for.
    from pytest_edgeai.effort import model_effort, prepared_facts, usable

    session, model = bench.session, bench.model(name)
    candidates = usable(session, name)
    if not candidates:
        return
    data = prepared_facts(model)
    known = remembered(session, candidates[0], sha256=model.facts.sha256, batch=data.batch)

    def effort(times: Mapping[str, CallTime]) -> ModelEffort:
        return model_effort(session, candidates, data, known, times)

    planned = effort(known.times)
    phases = {time.phase for time in planned.times if time.call is None}
    if phases:
        guessed = estimated(session, candidates[0], model.facts, batch=data.batch)
        guess_times = {**guessed, **known.times}
        planned = effort(guess_times)
        if baseline is None and may_lack_time(planned) and candidates[0].baseline_recipe is None:
            baseline = _loaded_baseline(bench, name)
        if baseline is not None and baseline.alive:
            planned = effort({**guess_times, **_measured(bench, name, baseline, phases)})
    bench.evidence.write_record(f"{name}/effort", planned)
    missing = missing_text(planned)
    if missing:
        bench.progress.say(f"{name}: {missing}")
    if verbose:
        for row in effort_rows(planned):
            bench.progress.show(f"{name} {row[0]}: {row_text(row)}")


def _measured(
    bench: Workbench, name: str, baseline: LoadedRunnable, phases: Container[str]
) -> Mapping[str, CallTime]:
    """Time some calls of a baseline; one that cannot be run has its gates say so."""
    try:
        # An estimate will do where another session measures: nothing is worth a wait here.
        with exclusive(time_limit_s=0.0, waiting=lambda waited_s: None):
            bench.progress.step(name, "timing some calls of the baseline")
            return measured(baseline, [each for each in PHASES if each in phases])
    except EdgeAIError:
        return {}


def _say_samples_repeated(bench: Workbench, name: str) -> None:
    """Say that samples repeat each other: the judges count every one as new evidence."""
    evaluation = bench.model(name).evaluation
    repeated = repeated_samples(evaluation)
    if repeated > MAXIMUM_REPEATED_RATIO * evaluation.samples:
        bench.progress.say(
            f"{name}: {repeated} of {evaluation.samples} evaluation samples repeat another "
            "one; accuracy_retained takes them for independent, and is surer than it should be"
        )


def _say_references_missing(bench: Workbench, name: str) -> None:
    """Say which promoted artifacts of ``--edge-against`` cannot be measured again, and why."""
    if bench.session.settings.against is None:
        return
    # Each candidate may have its own; one reason is told once.
    told = set()
    for candidate in bench.session.candidates:
        if candidate.model.name != name or candidate.unavailable:
            continue
        try:
            reference_of(bench, candidate)
        except UserError:
            raise
        except EdgeAIError as error:
            if str(error) not in told:
                bench.progress.say(f"{name}: --edge-against cannot be judged: {error}")
            told.add(str(error))


def _loaded_baseline(bench: Workbench, name: str) -> LoadedRunnable | None:
    """Return the baseline, loaded; ``None`` where it does not start or nothing is gated with it."""
    candidate = next(
        (c for c in bench.session.candidates if c.model.name == name and not c.unavailable), None
    )
    if candidate is None:
        return None
    try:
        return bench.loaded_baseline(candidate)
    except (WorkerFailure, FrameworkMissing) as error:
        bench.progress.note(f"{name}: the baseline did not start ({error}); its gates will say so")
        return None
