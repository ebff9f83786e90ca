"""Signing at the edge: the key of a session, and what it certifies of a candidate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pytest_edgeai.configuration import Settings
from pytest_edgeai.errors import UserError
from pytest_edgeai.evidence import EvidenceStore
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.promote.bundle import Certify, Describe
from pytest_edgeai.promote.certificate import Provenance, certifier, predicate
from pytest_edgeai.promote.documents import describer
from pytest_edgeai.promote.keys import SigningKey, read_signing_key
from pytest_edgeai.provenance import DATA_RECORD
from pytest_edgeai.remembering import environment_of
from pytest_edgeai.report.content import CandidateReport, ModelReport, Report
from pytest_edgeai.session import Session
from pytest_edgeai.settings import SIGNING_KEY_VARIABLE

_NO_DATA = {"evaluation": None, "calibration": None}


def read_signer(settings: Settings, environment: Mapping[str, str]) -> SigningKey | None:
    """Return the key that promotions of a session are signed with; ``None`` where none is set.

    A session that promotes nothing reads no key.

    Raises:
        UserError: it cannot sign.
    """
    text = environment.get(SIGNING_KEY_VARIABLE, "")
    if settings.promote is None or (settings.signing_key is None and not text):
        return None
    return read_signing_key(
        settings.signing_key,
        text,
        where=settings.where("signing_key"),
        variable=SIGNING_KEY_VARIABLE,
    )


def signing_remarks(settings: Settings, signer: SigningKey | None) -> tuple[str, ...]:
    """Return what the user should know about the key, one sentence each."""
    if settings.promote is None and settings.signing_key is not None:
        return ("the signing key is not used: nothing is promoted without --edge-promote",)
    return (signer.warning,) if signer is not None and signer.warning else ()


def unsigned_note(report: Report, signer: SigningKey | None) -> Report:
    """Return the report with a note that its bundles are not signed, where that is so."""
    allowed = any(
        candidate.artifact is not None and not candidate.promotion_blocked_by
        for model in report.models
        for candidate in model.candidates
    )
    if signer is not None or not allowed:
        return report
    note = "the bundles are not signed, and nobody can verify them: no --edge-signing-key is given"
    return replace(report, notes=(*report.notes, note))


def provenance_of(session: Session, model: ModelReport, candidate: CandidateReport) -> Provenance:
    """Return what the report of a finished session does not hold of a candidate.

    Raises:
        UserError: its tools cannot be asked for their versions.
    """
    planned = next(
        (
            each
            for each in session.candidates
            if (each.model.name, each.target.name, each.node)
            == (model.name, candidate.target, candidate.id)
        ),
        None,
    )
    evidence = EvidenceStore(session.evidence_directory)
    return Provenance(
        data=evidence.read_record(f"{model.name}/{DATA_RECORD}") or _NO_DATA,
        versions=environment_of(session, planned).versions if planned else {},
        threads=planned.threads(session.settings.threads) if planned else session.settings.threads,
        allow_proxy=session.settings.allow_proxy,
        reference=evidence.read_record(f"{model.name}/{candidate.recipe.id}/reference"),
        license=planned.model.license if planned else "",
        data_license=planned.model.data_license if planned else "",
        license_text=_license_text(planned),
        card=planned.model.card if planned else {},
    )


def _license_text(planned: PlannedCandidate | None) -> str:
    path = planned.model.license_file if planned else None
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot be read: {error}", where=str(path)) from None


def bundle_makers(
    session: Session,
    report: Report,
    model: ModelReport,
    candidate: CandidateReport,
    signer: SigningKey | None,
) -> tuple[Certify | None, Describe | None]:
    """Return what certifies a candidate of a finished session, and what describes it.

    Args:
        session: the session.
        report: its report.
        model: the candidate's model.
        candidate: what is promoted.
        signer: the key; without one there is no certificate.

    Raises:
        UserError: its tools cannot be asked for their versions.
    """
    artifact = candidate.artifact
    if artifact is None:
        return None, None
    provenance = provenance_of(session, model, candidate)
    alone = replace(report, models=(replace(model, candidates=(candidate,)),))
    describe = describer(alone, model, candidate, artifact, provenance)
    if signer is None:
        return None, describe
    days = session.settings.certificate_days
    content = predicate(report, model, candidate, artifact, provenance, signer, days=days)
    return certifier(content, signer), describe
