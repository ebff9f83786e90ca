"""The gate ``load``: MLPerf LoadGen drives the candidate, and its baseline beside it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.files import write_atomically
from pytest_edgeai.gate_selection import RELEASE
from pytest_edgeai.judge.load import judge_load
from pytest_edgeai.load_records import LoadPlan, LoadRun, LoadSamples
from pytest_edgeai.measure.bench import Runnable
from pytest_edgeai.measure.load import Driven, DrivenLanguage, DrivenTensors
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.production.load_search import LoadSession
from pytest_edgeai.records import Threshold, Verdict
from pytest_edgeai.workbench import Workbench, place, title

LOAD = "load"
CI_BUDGET_S = 45.0
RELEASE_BUDGET_S = 600.0
"""LoadGen's own minimum duration of a run by the MLPerf rules, here for all runs together."""

OUTPUT_TOKENS = 16
KEPT = ("lane", "scheduled_ns", "latency_ns", "service_ns", "undisturbed_ns", "failed", "token_ns")


def decide_load(bench: Workbench, candidate: PlannedCandidate, threshold: Threshold) -> Verdict:
    """Runs of LoadGen's scenarios, at rates that close in on what the candidate sustains."""
    return judge_load(_measured(bench, candidate, threshold), threshold)


def _measured(bench: Workbench, candidate: PlannedCandidate, threshold: Threshold) -> LoadSamples:
    bench.artifact(candidate)
    plan = load_plan(bench, candidate, threshold)
    folder = bench.scratch / candidate.model.name / LOAD / candidate.comparison
    with bench.heavy(title(candidate)), ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)

        def opened(runnable: Callable[[], Runnable], name: str) -> Driven:
            bench.progress.step(title(candidate), f"loading the {name} for LoadGen")
            driven = _open(bench, candidate, runnable(), plan)
            stack.callback(driven.close)
            return driven

        session = LoadSession(
            plan,
            opened(lambda: bench.candidate_runnable(candidate), "candidate"),
            None
            if plan.states_bounds and not plan.is_relative
            else lambda: opened(lambda: bench.baseline_runnable(candidate), candidate.counterpart),
            folder,
            lambda what: bench.progress.step(title(candidate), what),
        )
        measured = session.measure()
        _keep(bench, candidate, measured)
    return measured


def load_plan(bench: Workbench, candidate: PlannedCandidate, threshold: Threshold) -> LoadPlan:
    """Return what is asked of a candidate under load, by its settings and the profile."""

    def stated(key: str) -> float | None:
        value = bench.session.gate_setting(candidate, key)
        return None if value is None else float(value)

    def bound_ns(key: str) -> float | None:
        value = stated(key)
        return None if value is None else value * 1e6

    settings = bench.session.settings
    is_release = settings.profile == RELEASE
    is_language = bench.model(candidate.model.name).language is not None
    budget_s = RELEASE_BUDGET_S if is_release else min(CI_BUDGET_S, settings.budget)
    return LoadPlan(
        ratio=threshold.value or 0.0,
        percentile=stated("load_percentile"),
        queries_per_second=stated("load_queries_per_second"),
        latency_ns=bound_ns("load_latency_limit_ms"),
        first_token_ns=bound_ns("load_first_token_limit_ms") if is_language else None,
        interval_ns=bound_ns("load_token_interval_limit_ms") if is_language else None,
        streams=int(stated("load_streams") or 1),
        output_tokens=int(stated("load_output_tokens") or OUTPUT_TOKENS) if is_language else 0,
        budget_s=stated("load_seconds") or budget_s,
        has_every_scenario=is_release,
    )


def _open(
    bench: Workbench, candidate: PlannedCandidate, runnable: Runnable, plan: LoadPlan
) -> Driven:
    model = bench.model(candidate.model.name)
    limit_s = bench.session.settings.time_limit
    if model.language is not None:
        return DrivenLanguage(
            runnable, model.language, plan.streams, plan.output_tokens, time_limit_s=limit_s
        )
    return DrivenTensors(runnable, model.samples, plan.streams, time_limit_s=limit_s)


def _keep(bench: Workbench, candidate: PlannedCandidate, measured: LoadSamples) -> None:
    """Keep LoadGen's logs and the times of every query as evidence."""
    name = place(candidate, LOAD)
    arrays: dict[str, NDArray[Any]] = {}
    for side, runs in (("baseline", measured.baseline), ("candidate", measured.candidate)):
        for index, run in enumerate(runs):
            stem = f"{side}-{index:02d}-{run.scenario}"
            for column in KEPT:
                values = getattr(run, column)
                if values is not None:
                    arrays[f"{stem}-{column}"] = values
            _keep_logs(bench.evidence.directory / name, stem, run)
    bench.evidence.write_arrays(f"{name}/queries", arrays or {"none": np.zeros(0)})


def _keep_logs(folder: Path, stem: str, run: LoadRun) -> None:
    lanes: Sequence[str] = run.logs
    for position, log in enumerate(lanes):
        source = Path(log)
        lane = f"-{position // 2}" if len(lanes) > 2 else ""
        if source.is_file():
            write_atomically(folder / f"{stem}{lane}-{source.name}", source.read_bytes())
