"""The gate ``shadow``: replay recorded traffic through baseline and candidate."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.errors import EdgeAIError, MeasurementError, NotCertified
from pytest_edgeai.gate_selection import RELEASE
from pytest_edgeai.judge.quality import judge_accuracy
from pytest_edgeai.judge.shadow import judge_shadow, shadow_decided
from pytest_edgeai.measure.bench import Runnable
from pytest_edgeai.measure.dataset import Dataset, batching, stage_arrays
from pytest_edgeai.measure.language import LoadedLanguageRunnable, tokenize
from pytest_edgeai.measure.overlap import sample_keys
from pytest_edgeai.measure.quality import (
    compared_quality,
    encode_labels,
    name_classes,
    select_outputs,
)
from pytest_edgeai.measure.shadow import Replay, joined, replay_tensors, replay_text, windows
from pytest_edgeai.measure.shadow_answers import DEFAULT_TOLERANCE, same_answer
from pytest_edgeai.measure.tokens import INPUT_IDS, load_blocks
from pytest_edgeai.measure.traffic import Traffic
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.production.sampling import SEED
from pytest_edgeai.production_records import ShadowReplay
from pytest_edgeai.recordings import SHADOW, traffic_of
from pytest_edgeai.records import Threshold, Verdict
from pytest_edgeai.specification import DataSource
from pytest_edgeai.workbench import Workbench, place, title

TOLERANCE = "shadow_tolerance"
BUDGET_S = 15.0
BUDGET_OF_A_RELEASE_S = 600.0
LANGUAGE_LIMIT = 0.8
"""Default limit for language models: of four-bit weights a healthy model predicts the same token
for nine in ten, and each of the others is one that it nearly preferred."""
SAME_TOKENS = "the share of tokens for which both would have chosen the same one"


def decide_shadow(bench: Workbench, candidate: PlannedCandidate, threshold: Threshold) -> Verdict:
    """Recorded requests through both models, until what they agree on is decided."""
    source = candidate.model.traffic
    if source is None:
        raise NotCertified(
            f"no recorded traffic to replay: {candidate.model.where} has no traffic",
            advice='add traffic = "requests.npz", or "package.module:callable"',
        )
    is_text = bench.model(candidate.model.name).language is not None
    if is_text and threshold.origin == "default":
        threshold = replace(threshold, value=LANGUAGE_LIMIT)
    # Targets that share a recipe and a limit share the replay.
    key = (SHADOW, candidate.model.name, candidate.comparison, repr(threshold.value))
    replay, metric = bench.once(key, lambda: _replay(bench, candidate, threshold, source))
    return judge_shadow(replay, threshold, metric=metric)


def _replay(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold, source: DataSource
) -> tuple[ShadowReplay, Verdict | None]:
    bench.artifact(candidate)
    folder = bench.scratch / candidate.model.name / SHADOW
    try:
        if bench.model(candidate.model.name).language is not None:
            return _replay_text(bench, candidate, threshold, source, folder), None
        return _replay_tensors(bench, candidate, threshold, source, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _replay_tensors(
    bench: Workbench,
    candidate: PlannedCandidate,
    threshold: Threshold,
    source: DataSource,
    folder: Path,
) -> tuple[ShadowReplay, Verdict | None]:
    model = bench.model(candidate.model.name)
    bench.progress.step(title(candidate), "reading the recorded traffic")
    traffic = traffic_of(bench, candidate.model.name, source)
    requests = traffic.requests
    calls = batching(requests, model.facts.inputs, open_batch=model.spec.batch)
    stated = bench.session.gate_setting(candidate, TOLERANCE)
    tolerance = DEFAULT_TOLERANCE if stated is None else float(stated)
    with bench.heavy(title(candidate)):
        replayed, same = replay_tensors(
            (bench.loaded_baseline(candidate), bench.loaded_candidate(candidate)),
            requests.arrays,
            calls,
            folder,
            choose_same=lambda outputs: same_answer(
                model.spec.task,
                model.metric_kind,
                select_outputs(outputs, model.spec.output),
                tolerance,
            ),
            selected=model.spec.output,
            decided=lambda agreement: shadow_decided(agreement, threshold),
            keeps=requests.labels is not None and model.metric is not None,
            budget_s=_budget_s(bench),
            seed=SEED,
            progress=_progress(bench, candidate, requests.samples),
        )
    record = _record(replayed, traffic, same.words)
    _keep(bench, candidate, replayed, record)
    return record, _metric(bench, candidate, requests, replayed)


def _budget_s(bench: Workbench) -> float:
    settings = bench.session.settings
    if settings.profile == RELEASE:
        return max(BUDGET_OF_A_RELEASE_S, settings.budget)
    return min(BUDGET_S, settings.budget)


def _progress(bench: Workbench, candidate: PlannedCandidate, recorded: int) -> Any:
    return lambda done: bench.progress.step(
        title(candidate), f"replaying {done} of {recorded} recorded requests", done / recorded
    )


def _record(replayed: Replay, traffic: Traffic, how: str) -> ShadowReplay:
    agreement, order = np.asarray(replayed.agreement), np.asarray(replayed.order, dtype=np.int64)
    times_s = traffic.times_s
    return ShadowReplay(
        agreement=agreement,
        recorded=traffic.requests.samples,
        near_ties=replayed.near_ties,
        how=how,
        windows=() if times_s is None else windows(times_s, order, agreement),
        seconds=_medians(replayed),
        left_out=traffic.left_out,
        repeated=traffic.repeated,
    )


def _medians(replayed: Replay) -> tuple[float, float] | None:
    """Return the median seconds of a request, less the first part, in which the models warm up."""
    seconds = np.asarray(replayed.seconds[1:] or replayed.seconds)
    if not len(seconds):
        return None
    return float(np.median(seconds[:, 0])), float(np.median(seconds[:, 1]))


def _keep(
    bench: Workbench, candidate: PlannedCandidate, replayed: Replay, record: ShadowReplay
) -> None:
    arrays: dict[str, NDArray[Any]] = {
        "request": np.asarray(replayed.order, dtype=np.int64),
        "agreement": record.agreement,
        "seconds_per_request": np.asarray(replayed.seconds, dtype=np.float64),
    }
    bench.evidence.write_arrays(place(candidate, SHADOW), arrays)


def _metric(
    bench: Workbench, candidate: PlannedCandidate, requests: Dataset, replayed: Replay
) -> Verdict | None:
    """Return what the metric says of the requests that were replayed; it decides nothing."""
    model = bench.model(candidate.model.name)
    if requests.labels is None or model.metric is None:
        return None
    stated = Threshold(None, "more_than", "traffic")
    if not replayed.is_kept:
        bench.progress.note(
            f"{title(candidate)}: answers to the traffic are too large to hold for a metric"
        )
        return None
    labels = requests.labels[replayed.order]
    try:
        baseline, outputs = (
            select_outputs(joined(parts), model.spec.output) for parts in replayed.kept
        )
        encoded = labels
        if model.metric_kind != "embedding":
            names = model.spec.classes or requests.classes or model.evaluation.classes
            encoded, _ = encode_labels(labels, names, baseline)
        quality = compared_quality(
            model.metric, model.metric_name, model.metric_kind, baseline, outputs, encoded
        )
    except EdgeAIError as error:
        bench.progress.note(f"{title(candidate)}: no metric of the recorded traffic: {error}")
        return None
    verdict = judge_accuracy(name_classes(quality, labels), stated)
    return replace(verdict, reason=verdict.reason.replace(", no threshold is set", ""))


def _replay_text(
    bench: Workbench,
    candidate: PlannedCandidate,
    threshold: Threshold,
    source: DataSource,
    folder: Path,
) -> ShadowReplay:
    model = bench.model(candidate.model.name)
    sides = (bench.baseline_runnable(candidate), bench.candidate_runnable(candidate))
    plan = model.language
    if plan is None:
        raise MeasurementError("the model is not fed with text")
    requests = load_blocks(
        source,
        model.facts.language,
        directory=bench.session.manifest.directory,
        context_length=model.spec.context_length,
        context_where=f"{model.spec.where} context_length",
        tokenize=lambda text: _tokenize(bench, sides[0], text),
    )
    ids = stage_arrays(requests.arrays, folder / "inputs")[INPUT_IDS]
    recorded = replace(
        plan,
        ids=ids,
        blocks=requests.samples,
        context_tokens=requests.arrays[INPUT_IDS].shape[1],
    )
    with bench.heavy(title(candidate)), ExitStack() as stack:
        loaded = []
        for runnable in sides:
            bench.progress.step(title(candidate), "loading both models for the recorded traffic")
            one = LoadedLanguageRunnable(
                runnable, None, recorded, time_limit_s=bench.session.settings.time_limit
            )
            stack.callback(one.close)
            loaded.append(one)
        replayed = replay_text(
            (loaded[0], loaded[1]),
            requests.samples,
            folder,
            decided=lambda agreement: shadow_decided(agreement, threshold),
            budget_s=_budget_s(bench),
            seed=SEED,
            progress=_progress(bench, candidate, requests.samples),
        )
    repeated = requests.samples - len(set(sample_keys(requests)))
    record = replace(
        _record(replayed, Traffic(requests, None, 0, repeated), SAME_TOKENS), is_text=True
    )
    _keep(bench, candidate, replayed, record)
    return record


def _tokenize(bench: Workbench, runnable: Runnable, text: Path) -> list[int]:
    return tokenize(runnable, text, time_limit_s=bench.session.settings.time_limit)
