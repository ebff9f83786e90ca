"""Both sides of a comparison run in one version of the runtime that they share."""

from __future__ import annotations

from pytest_edgeai.errors import MeasurementError
from pytest_edgeai.history.comparable import runtime_conflict
from pytest_edgeai.history.records import VERSIONS
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.session import Session


def require_one_runtime(session: Session, candidate: PlannedCandidate) -> None:
    """Make sure that a runtime which both sides share has one version, unless that is compared.

    Raises:
        MeasurementError: it has two, and ``--edge-across`` does not name ``versions``.
    """
    mine, other = candidate.recipe.framework, candidate.baseline_framework
    if mine == other or VERSIONS in session.settings.across:
        return
    frameworks = session.catalogue.frameworks
    versions = (session.installations.probe(name).versions for name in (mine, other))
    conflict = runtime_conflict(frameworks[mine], frameworks[other], *versions)
    if conflict:
        raise MeasurementError(
            f"not compared: {conflict}, so that the difference would be one of versions too. "
            "Install one version in both interpreters, or compare across versions with "
            "--edge-across=versions"
        )
