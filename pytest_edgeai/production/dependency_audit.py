"""The gate ``dependency_audit``: known vulnerabilities of what runs the candidate."""

from __future__ import annotations

import datetime
import tempfile
from dataclasses import replace
from pathlib import Path

from pytest_edgeai.gate_selection import RELEASE
from pytest_edgeai.judge.findings import judge_findings
from pytest_edgeai.measure.audit import audit_offline, audit_online
from pytest_edgeai.measure.audit_runtime import list_installed, required_distributions
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.production_records import Inspection
from pytest_edgeai.records import Threshold, Verdict
from pytest_edgeai.workbench import Workbench, place, title

GATE = "dependency_audit"
CI_LIMIT_S = 60.0
"""Forty distributions take some seconds; a source that answers slower than that is none for CI."""


def decide_dependency_audit(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold
) -> Verdict:
    """The framework's distributions and all that they require, against a source of advisories.

    Raises:
        NotCertified: there is no source that could be asked.
    """
    framework = candidate.recipe.framework
    key = ("dependency audit", framework, str(bench.session.interpreter(framework)))
    seen = bench.once(key, lambda: _audit(bench, framework, title(candidate)))
    bench.evidence.write_record(place(candidate, GATE), seen)
    return judge_findings(
        GATE,
        seen,
        threshold,
        advice="update the distributions in the environment that runs the model",
        unread_advice='use a local export of advisories: [production] advisories = "all.zip"',
    )


def _audit(bench: Workbench, framework: str, name: str) -> Inspection:
    session = bench.session
    bench.progress.step(name, "listing the distributions of its runtime")
    roots = session.catalogue.frameworks[framework].distributions
    listing = list_installed(session.interpreter(framework))
    distributions = required_distributions(roots, listing)
    bench.progress.step(name, f"auditing {len(distributions)} distributions")
    table = session.manifest.production
    if table is not None and table.advisories is not None:
        today = datetime.datetime.now(datetime.UTC).date()
        seen = audit_offline(distributions, table.advisories, today=today)
    else:
        limit_s = session.settings.time_limit
        if session.settings.profile != RELEASE:
            limit_s = min(limit_s, CI_LIMIT_S)
        with tempfile.TemporaryDirectory(dir=bench.scratch) as home:
            seen = audit_online(distributions, Path(home), time_limit_s=limit_s)
    listed = ", ".join(f"{name} {version}" for name, version in distributions.items())
    return replace(seen, notes=(*seen.notes, f"audited: {listed}"))
