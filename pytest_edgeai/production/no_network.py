"""The gate ``no_network``: the candidate runs where there is no network, and is watched."""

from __future__ import annotations

import shutil

from pytest_edgeai.errors import NotCertified
from pytest_edgeai.gate_selection import RELEASE
from pytest_edgeai.judge.no_network import GATE, judge_no_network, uncertified
from pytest_edgeai.measure.network import Trial, watch_network
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.privacy_records import NetworkAttempt, NetworkWatch
from pytest_edgeai.records import Threshold, Verdict
from pytest_edgeai.workbench import Workbench, place, title

CI_BUDGET_S = 8.0
"""How long the evaluation samples may take under ``--edge-profile=ci``; starts come on top."""
WATCH = "no_network_watch_s"
"""Key of the ``[gates]`` table: how long the process is watched at least."""
CI_WATCH_S = 12.0
"""ONNX Runtime 1.31 with its telemetry on was seen to report 9 s after its import."""
RELEASE_WATCH_S = 120.0


def decide_no_network(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold
) -> Verdict:
    """Import, load and inference in a process without network; every attempt is named."""
    key = (GATE, candidate.model.name, candidate.recipe.id)
    watch = bench.once(key, lambda: _measure(bench, candidate))
    missing = uncertified(watch)
    if missing:
        raise NotCertified(
            missing,
            advice="run this gate on Linux 5.6 or newer, where a process may filter its own system "
            "calls (a container's default profile permits it)",
        )
    return judge_no_network(watch, threshold)


def _measure(bench: Workbench, candidate: PlannedCandidate) -> NetworkWatch:
    runnable = bench.candidate_runnable(candidate)
    model = bench.model(candidate.model.name)
    settings = bench.session.settings
    budget_s = None if settings.profile == RELEASE else min(CI_BUDGET_S, settings.budget)
    stated = bench.session.gate_setting(candidate, WATCH)
    usual_s = RELEASE_WATCH_S if settings.profile == RELEASE else CI_WATCH_S
    trial = Trial(
        runnable,
        model.samples,
        model.language,
        budget_s,
        settings.time_limit,
        usual_s if stated is None else float(stated),
    )
    name = place(candidate, GATE)
    folder = bench.scratch / candidate.model.name / GATE / candidate.recipe.id
    with bench.heavy(title(candidate)):
        kept = bench.evidence.read_record(name)
        if kept is not None:
            return _watch(kept)
        try:
            watch = watch_network(
                trial,
                folder,
                lambda what, done: bench.progress.step(title(candidate), what, done),
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    bench.evidence.write_record(name, watch)
    return watch


def _watch(kept: dict[str, object]) -> NetworkWatch:
    """Return the record that the evidence holds."""
    fields: dict[str, object] = dict(kept)
    attempts = fields["attempts"]
    assert isinstance(attempts, list)
    fields["attempts"] = tuple(NetworkAttempt(**attempt) for attempt in attempts)
    for key in ("guards", "local_sockets"):
        held = fields[key]
        assert isinstance(held, list)
        fields[key] = tuple(held)
    return NetworkWatch(**fields)  # type: ignore[arg-type]
