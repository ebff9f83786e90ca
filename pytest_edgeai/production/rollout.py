"""Gate ``rollout``: the candidate replaces the baseline behind a splitter, and faults go back."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_edgeai.digests import digest_file
from pytest_edgeai.errors import MeasurementError, NotCertified
from pytest_edgeai.judge.rollout import UNIT, judge_rollout, next_action, old_latency
from pytest_edgeai.judge.verdict import make_verdict
from pytest_edgeai.measure.rollout import PlantedFault, roll_out
from pytest_edgeai.measure.rollout_servers import ServedVersion, request_body, served
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.promote.server import EDGE_SERVERS, SERVED, server_sources
from pytest_edgeai.records import Threshold, Verdict, artifact_root
from pytest_edgeai.rollout_records import RolloutPolicy, RolloutRun
from pytest_edgeai.workbench import Workbench, place, title
from pytest_edgeai.worker.arrays import open_arrays, take

GATE = "rollout"
ERROR_RATIO = "rollout_error_ratio"
LATENCY_FACTOR = "rollout_latency_factor"
MOST_BODIES = 32
MOST_BODY_BYTES = 64 << 20
COMPARED_BODIES = 4
TOLERANCE = 1e-3
"""Of the largest number in an output: the server answers what was measured, to rounding in JSON."""
RELEASE_FACTOR = 10
_SEED = 7
_RUN_SHARE = 0.25


def decide_rollout(bench: Workbench, candidate: PlannedCandidate, threshold: Threshold) -> Verdict:
    """Roll the candidate out on this host, then once more for each planted fault."""
    if candidate.target.name not in EDGE_SERVERS:
        return make_verdict(
            GATE,
            "not_applicable",
            threshold,
            unit=UNIT,
            reason=f"{candidate.target.name} runs no server; roll-outs there are the app store's",
        )
    key = (GATE, candidate.model.name, candidate.comparison)
    runs = bench.once(key, lambda: _simulate(bench, candidate))
    return judge_rollout(runs, threshold, _policy(bench, candidate))


def _policy(bench: Workbench, candidate: PlannedCandidate) -> RolloutPolicy:
    def stated(key: str, default: float) -> float:
        value = bench.session.gate_setting(candidate, key)
        return default if value is None else float(value)

    policy = RolloutPolicy()
    policy = replace(
        policy,
        error_ratio=stated(ERROR_RATIO, policy.error_ratio),
        latency_factor=stated(LATENCY_FACTOR, policy.latency_factor),
    )
    if bench.session.settings.profile == "release":
        policy = replace(policy, stage_requests=RELEASE_FACTOR * policy.stage_requests)
    return policy


def _simulate(bench: Workbench, candidate: PlannedCandidate) -> tuple[RolloutRun, ...]:
    for framework in (candidate.baseline_framework, candidate.recipe.framework):
        known = SERVED.get(framework)
        if known is None or not known.own:
            raise NotCertified(
                f"the server of a bundle does not run {framework}",
                advice="simulate the roll-out on your own serving stack",
            )
    policy = _policy(bench, candidate)
    bench.artifact(candidate)
    runs: list[RolloutRun] = []
    home = bench.scratch / candidate.model.name / GATE / candidate.comparison
    with bench.heavy(title(candidate)):
        folders = _folders(bench, candidate, home)
        for name, fault, plan in (
            ("gradual ramp", None, policy),
            ("gradual ramp, killed", _killed, policy),
            ("gradual ramp, slowed", _slowed, policy),
            ("blue-green switch, killed", _killed, replace(policy, shares=(1.0,))),
        ):
            with _both(bench, candidate, folders) as (old, new, bodies):
                runs.append(
                    roll_out(
                        name,
                        old,
                        new,
                        bodies,
                        plan,
                        decide=next_action,
                        fault=fault(old, new, bodies[0]) if fault else None,
                        generator=random.Random(_SEED),
                        limit_s=_limit_s(bench),
                        progress=lambda what: bench.progress.step(title(candidate), what),
                    )
                )
    _write(bench, candidate, runs)
    return tuple(runs)


def _limit_s(bench: Workbench) -> float:
    share = 1.0 if bench.session.settings.profile == "release" else _RUN_SHARE
    return bench.session.settings.budget * share


def _killed(old: ServedVersion, new: ServedVersion, body: bytes) -> PlantedFault:
    return PlantedFault("its server was killed", new.kill)


def _slowed(old: ServedVersion, new: ServedVersion, body: bytes) -> PlantedFault:
    """Delay each answer by ten times what the old version takes, and by 50 ms at least."""

    def plant() -> None:
        new.planted_delay_s = max(0.05, 10 * old.ask(body)[1])

    return PlantedFault("its answers were delayed", plant)


def _folders(
    bench: Workbench, candidate: PlannedCandidate, home: Path
) -> Mapping[str, tuple[str, Path]]:
    """Lay out both versions as bundles; return version to framework and folder."""
    artifact = bench.artifact(candidate)
    baseline = bench.baseline_runnable(candidate)
    files: tuple[Path, ...]
    if candidate.reference is None and candidate.baseline_recipe is None:
        files = bench.model(candidate.model.name).facts.files
    else:
        root = artifact_root(baseline.path)
        files = tuple(path for path in root.rglob("*") if path.is_file())
    laid_out = (
        ("baseline", candidate.baseline_framework, baseline.path, files),
        ("candidate", candidate.recipe.framework, artifact.path, artifact.files),
    )
    return {
        name: (framework, _bundle(home / name, name, framework, path, parts))
        for name, framework, path, parts in laid_out
    }


def _bundle(folder: Path, name: str, framework: str, path: Path, files: tuple[Path, ...]) -> Path:
    """Lay out a model with the server, as a bundle has them; files are linked where possible."""
    shutil.rmtree(folder, ignore_errors=True)
    root = artifact_root(path)
    facts = {}
    for source in files:
        inside = source.relative_to(root).as_posix()
        destination = folder / "artifact" / inside
        destination.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, destination)
        except OSError:
            shutil.copyfile(source, destination)
        facts[inside] = {"sha256": digest_file(destination)}
    for inside, text in server_sources().items():
        (folder / inside).parent.mkdir(parents=True, exist_ok=True)
        (folder / inside).write_text(text, encoding="utf-8")
    digest = facts[path.relative_to(root).as_posix()]["sha256"] if path != root else name
    description = {
        "model": {"name": name},
        "artifact": {
            "main": path.relative_to(root).as_posix(),
            "sha256": digest,
            "framework": framework,
        },
        "files": facts,
    }
    (folder / "bundle.json").write_text(json.dumps(description), encoding="utf-8")
    return folder


@contextlib.contextmanager
def _both(
    bench: Workbench, candidate: PlannedCandidate, folders: Mapping[str, tuple[str, Path]]
) -> Iterator[tuple[ServedVersion, ServedVersion, list[bytes]]]:
    """Serve both versions, check what the new one answers, and make the requests."""
    with contextlib.ExitStack() as stack:
        versions = [
            stack.enter_context(served(name, bench.session.interpreter(framework), folder))
            for name, (framework, folder) in folders.items()
        ]
        old, new = versions
        bodies = _bodies(bench, candidate, new.metadata()["inputs"])
        bench.once(
            ("rollout answers", candidate.model.name, candidate.comparison),
            lambda: _compared_answers(bench, candidate, new, bodies),
        )
        for version in versions:
            for body in bodies[:COMPARED_BODIES]:
                version.ask(body)
        yield old, new, bodies


def _bodies(
    bench: Workbench, candidate: PlannedCandidate, inputs: list[dict[str, Any]]
) -> list[bytes]:
    """Return requests with evaluation samples, one call each.

    Raises:
        NotCertified: a call is larger than what the server takes.
    """
    samples = bench.model(candidate.model.name).samples
    arrays = open_arrays(samples.arrays)
    bodies: list[bytes] = []
    for first in _first_samples(bench, candidate):
        feeds = take(arrays, first, samples.batching.batch)
        body = request_body(inputs, feeds)
        if len(body) > MOST_BODY_BYTES:
            raise NotCertified(
                f"a request takes {len(body) >> 20} MiB as JSON, and the server at most "
                f"{MOST_BODY_BYTES >> 20}",
                advice="simulate the roll-out on your own serving stack",
            )
        bodies.append(body)
        if sum(map(len, bodies)) > MOST_BODY_BYTES:
            break
    return bodies


def _first_samples(bench: Workbench, candidate: PlannedCandidate) -> range:
    samples = bench.model(candidate.model.name).samples
    step = samples.batching.batch or 1
    return range(0, min(samples.count, MOST_BODIES * step), step)


def _compared_answers(
    bench: Workbench, candidate: PlannedCandidate, new: ServedVersion, bodies: list[bytes]
) -> int:
    """Return how many answers of the server are what the candidate answers in its worker.

    Raises:
        MeasurementError: they differ: what would be served is not what was measured.
    """
    samples = bench.model(candidate.model.name).samples
    step = samples.batching.batch or 1
    compared = bodies[:COMPARED_BODIES]
    some = replace(samples, count=min(samples.count, step * len(compared)))
    output = bench.scratch / candidate.model.name / GATE / candidate.comparison / "outputs"
    expected, _ = bench.loaded_candidate(candidate).evaluate(output, lambda _, __: None, some)
    for index, body in enumerate(compared):
        answered = new.answer(body)
        for name, values in expected.items():
            wanted = values[index * step : (index + 1) * step]
            given = answered[name].reshape(-1)[: wanted.size]
            if not _agree(given, wanted.reshape(-1)):
                raise MeasurementError(
                    f'the server answers "{name}" of sample {index * step} otherwise than the '
                    "candidate that was measured"
                )
    return len(compared)


def _agree(given: NDArray[Any], wanted: NDArray[Any]) -> bool:
    if wanted.dtype.kind != "f":
        return bool(np.array_equal(given.astype(str), wanted.astype(str)))
    scale = float(np.abs(wanted).max(initial=0.0)) or 1.0
    return given.shape == wanted.shape and bool(
        np.allclose(given, wanted, rtol=0, atol=TOLERANCE * scale)
    )


def _write(bench: Workbench, candidate: PlannedCandidate, runs: list[RolloutRun]) -> None:
    arrays: dict[str, NDArray[np.generic]] = {}
    for index, run in enumerate(runs):
        traffic = run.traffic
        for column in ("stage", "is_new", "failed", "lost", "seconds"):
            arrays[f"{index}_{column}"] = getattr(traffic, column)
    bench.evidence.write_arrays(place(candidate, GATE), arrays)
    bench.evidence.write_record(
        place(candidate, GATE),
        {
            "runs": [
                {
                    "name": run.name,
                    "fault": run.fault,
                    "end": run.end,
                    "reason": run.reason,
                    "back_s": run.back_s,
                    "old_p95_s": old_latency(run.traffic),
                }
                for run in runs
            ]
        },
    )
