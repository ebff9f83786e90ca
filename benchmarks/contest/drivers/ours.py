"""pytest-edgeai: its workers, its interleaved rounds and its judges, as a session runs them.

Speed is asked of the gate ``no_slower`` (that of ``--edge-against``), with the session's own rounds
and defaults; stability of the gates in :mod:`ours_stability`. Outputs are asked of
``accuracy_retained``, ``output_sanity`` and ``slice_retained``: a candidate ships only if no gate
objects. Artifacts go through the cache, the precision proof and the promotion.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.contest.drivers.exchange import Outcome, Request, Row, Said, serve
from benchmarks.contest.planted.framework import FRAMEWORK
from pytest_edgeai.errors import EdgeAIError
from pytest_edgeai.judge.outputs import judge_output_sanity
from pytest_edgeai.judge.quality import judge_accuracy
from pytest_edgeai.judge.retention import PairedCounts, decide_retention
from pytest_edgeai.judge.slices import judge_slices
from pytest_edgeai.judge.speed import judge_speed, speed_decided
from pytest_edgeai.judge.timings import is_contended
from pytest_edgeai.judge.verdict import worst
from pytest_edgeai.measure.bench import LoadedRunnable, Runnable, Samples, close_all
from pytest_edgeai.measure.dataset import Batching
from pytest_edgeai.measure.latency import interleave
from pytest_edgeai.measure.quality import output_sanity, paired_quality
from pytest_edgeai.measure.rounds import Rounds
from pytest_edgeai.records import RuntimeOptions, Threshold, Verdict

BUDGET_S = 20.0
"""Longest measurement of one trial; a session's own default is 60."""

GATE = "no_slower"
KEPT_OF_A_CLASS = 0.5
"""The default of ``slice_retained``."""

_LIMIT_S = 60.0
_OUTCOMES: Mapping[str, Outcome] = {
    "pass": "pass",
    "not_applicable": "pass",
    "fail": "fail",
    "error": "error",
    "inconclusive": "inconclusive",
    "proxy": "inconclusive",
}
_ARTIFACTS = {
    "fp32-by-name": ("precision", "model-int8 is int8"),
    "fake-int8": ("precision", "model-fake-int8 is int8"),
    "real-int8": ("precision", "model-real-int8 is int8"),
    "wrong-artifact": ("artifact", "a wrong artifact is served"),
    "changed-artifact": ("artifact", "a changed one is promoted"),
    "whole-artifact": ("artifact", "a whole artifact is promoted"),
}


def judge(request: Request) -> Mapping[str, Said]:
    """Ask the gates; what cannot be measured is an error."""
    if request.kind == "artifact":
        # Imported where it is asked for, as a session imports its promotion.
        from pytest_edgeai.selfcheck.artifacts import check_artifacts, check_precision

        kind, asked = _ARTIFACTS[request.detail]
        check = {"precision": check_precision, "artifact": check_artifacts}[kind]
        answer = next(found for found in check(request.folder) if found.asked == asked)
        return {"": Said(_OUTCOMES[answer.outcome], answer.reason)}
    ask: Mapping[str, Callable[[Request], list[Verdict]]] = {
        "speed": _speed,
        "stability": _stability,
        "outputs": _outputs,
        "metric": _outputs,
    }
    try:
        verdicts = ask[request.kind](request)
    except EdgeAIError as error:
        return {"": Said("error", str(error))}
    outcome = worst(verdict.outcome for verdict in verdicts)
    deciding = next(verdict for verdict in verdicts if verdict.outcome == outcome)
    return {"": Said(_OUTCOMES[outcome], f"{deciding.gate}: {deciding.reason}")}


def _runnable(model: Path) -> Runnable:
    return Runnable(FRAMEWORK, Path(sys.executable), model, RuntimeOptions(threads=1))


def _samples(request: Request) -> Samples:
    count = len(np.load(request.inputs, mmap_mode="r"))
    return Samples({"x": str(request.inputs)}, count, Batching(1, fixed=True))


@contextmanager
def _loaded(request: Request) -> Iterator[list[LoadedRunnable]]:
    """Load baseline and candidate at once, each in a fresh process, and end them afterwards."""
    models: list[LoadedRunnable] = []

    def load(model: Path) -> LoadedRunnable:
        return LoadedRunnable(_runnable(model), _samples(request), time_limit_s=_LIMIT_S)

    try:
        with ThreadPoolExecutor(2) as pool:
            started = [pool.submit(load, each) for each in (request.baseline, request.candidate)]
        models += [future.result() for future in started if future.exception() is None]
        for future in started:
            future.result()
        yield models
    finally:
        close_all(models)


def _speed(request: Request) -> list[Verdict]:
    threshold = Threshold(1 / (1 + request.slower), "at_least", "contest")
    with _loaded(request) as (baseline, candidate):
        timings, spent = interleave(
            baseline,
            candidate,
            Rounds.of(2),
            decided=lambda rounds: speed_decided(rounds, threshold),
            is_contended=is_contended,
            budget_s=BUDGET_S,
            generator=random.Random(),
            progress=lambda rounds, seconds: None,
        )
    return [judge_speed(timings, threshold, budget_spent=spent, gate=GATE)]


def _stability(request: Request) -> list[Verdict]:
    # Imported where it is asked for, as a session imports its gates.
    from benchmarks.contest.drivers.ours_stability import judge_stability

    verdicts = _speed(request)
    with _loaded(request) as models:
        return [*verdicts, *judge_stability(models, BUDGET_S)]


def _outputs(request: Request) -> list[Verdict]:
    labels: NDArray[Any] = np.load(request.labels)

    def metric(outputs: Mapping[str, NDArray[Any]], wanted: NDArray[Any]) -> NDArray[np.float64]:
        if request.kind == "metric" and request.detail == "raises":
            raise ValueError("the metric cannot be computed")
        right = np.asarray(outputs["y"].argmax(axis=1) == wanted, dtype=np.float64)
        unknown = request.kind == "metric" and request.detail == "nan"
        return np.full_like(right, np.nan) if unknown else right

    baseline, candidate = (
        _evaluate(request, model, name)
        for name, model in (("baseline", request.baseline), ("candidate", request.candidate))
    )
    quality = paired_quality(metric, "accuracy", "proportion", baseline, candidate, labels)
    kept = Threshold(request.retained, "more_than", "contest")
    sanity = judge_output_sanity(output_sanity(baseline, candidate, quality))
    parts = judge_slices(quality, Threshold(KEPT_OF_A_CLASS, "more_than", "contest"))
    return [sanity, judge_accuracy(quality, kept), parts]


def _evaluate(request: Request, model: Path, name: str) -> dict[str, NDArray[Any]]:
    loaded = LoadedRunnable(_runnable(model), _samples(request), time_limit_s=_LIMIT_S)
    try:
        outputs, _ = loaded.evaluate(request.folder / name, lambda what, fraction: None)
    finally:
        loaded.close()
    return outputs


def rule(row: Row, threshold: float) -> Outcome:
    """Ask the rule of ``accuracy_retained`` at its 5%."""
    decision = decide_retention(PairedCounts(*row), threshold, 0.05)
    return "inconclusive" if decision == "undecided" else decision


if __name__ == "__main__":
    serve(judge, rule)
