"""Check the models of a session before anything is optimized, and say what will not decide."""

from __future__ import annotations

import importlib
import threading

from pytest_edgeai.errors import FrameworkMissing, UserError, WorkerFailure
from pytest_edgeai.measure.overlap import repeated_samples
from pytest_edgeai.workbench import Workbench

OPSET_KNOWN_EVERYWHERE = 23
"""The ONNX opset of ONNX Runtime 1.23, the oldest version that the extras admit."""
RETENTION_GATES = ("accuracy_retained", "no_less_accurate")
MAXIMUM_REPEATED_RATIO = 0.1
"""Share of repeated evaluation samples that goes unsaid: coarse tabular data has some by nature."""


def preflight(bench: Workbench, names: list[str]) -> dict[str, UserError]:
    """Check the models that are about to be gated; return what cannot be used.

    The only model of a session, and one of a newer opset than every supported runtime knows, is
    also loaded in its baseline's runtime, so that a file which that runtime refuses is reported
    before anything else runs.
    """
    # Importing what judges takes as long as starting a worker, and neither needs the other.
    importing = threading.Thread(target=importlib.import_module, args=("scipy.special",))
    importing.start()
    problems: dict[str, UserError] = {}
    for name in names:
        try:
            bench.progress.step(name, "checking the model and its data")
            bench.model(name)
            if len(names) == 1 or bench.session.facts[name].opset > OPSET_KNOWN_EVERYWHERE:
                _check_baseline(bench, name)
            _say_samples_needed(bench, name)
            _say_samples_repeated(bench, name)
        except UserError as error:
            problems[name] = error
    importing.join()
    return problems


def _say_samples_needed(bench: Workbench, name: str) -> None:
    """Say before anything runs that the evaluation data can never pass, if so."""
    # Judging imports SciPy, which collecting has no use for.
    from pytest_edgeai.judge.retention import (
        accuracy_samples_needed,
        can_ever_decide,
        samples_to_ever_decide,
    )

    model = bench.model(name)
    limits = {
        (gate, threshold.value)
        for candidate in bench.session.candidates
        if candidate.model.name == name
        for gate in RETENTION_GATES
        if gate in bench.session.gates_of(candidate)
        for threshold, on in [bench.session.threshold(candidate, gate)]
        if on and threshold.value is not None
    }
    for gate, value in sorted(limits):
        count = model.evaluation.samples
        if model.metric_kind == "proportion" and not can_ever_decide(count, value):
            bench.progress.say(
                f"{name}: {count} evaluation samples can never pass {gate} > {value:g}; "
                "even without a single difference it takes "
                f"{samples_to_ever_decide(value)}, and {accuracy_samples_needed(value)} where "
                "99% is retained"
            )


def _say_samples_repeated(bench: Workbench, name: str) -> None:
    """Say that samples repeat each other: the judges count every one as new evidence."""
    evaluation = bench.model(name).evaluation
    repeated = repeated_samples(evaluation)
    if repeated > MAXIMUM_REPEATED_RATIO * evaluation.samples:
        bench.progress.say(
            f"{name}: {repeated} of {evaluation.samples} evaluation samples repeat another "
            "one; accuracy_retained takes them for independent, and is surer than it should be"
        )


def _check_baseline(bench: Workbench, name: str) -> None:
    candidate = next(
        (c for c in bench.session.candidates if c.model.name == name and not c.unavailable), None
    )
    if candidate is None:
        return
    try:
        bench.loaded_baseline(candidate)
    except (WorkerFailure, FrameworkMissing) as error:
        bench.progress.note(f"{name}: the baseline did not start ({error}); its gates will say so")
