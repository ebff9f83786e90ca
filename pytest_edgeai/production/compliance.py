"""The gate ``compliance``: what the manifest declares, and the documents made of it."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_edgeai.certifying import provenance_of
from pytest_edgeai.digests import digest_file
from pytest_edgeai.errors import MeasurementError, NotCertified, UserError
from pytest_edgeai.judge.findings import judge_findings
from pytest_edgeai.judge.model_card import SECTIONS, card_findings
from pytest_edgeai.ledger import Ledger, build_report
from pytest_edgeai.licenses import ALLOWED_BY_DEFAULT, PACKAGE, denied_licenses, is_available
from pytest_edgeai.measure.bom_check import INSTALL, schema_fault
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.production.sizes import size_findings
from pytest_edgeai.production_records import Finding, Inspection
from pytest_edgeai.promote.bom import BOM, render_bom
from pytest_edgeai.records import Threshold, Verdict, artifact_root
from pytest_edgeai.specification import ModelSpec
from pytest_edgeai.workbench import Workbench, place, title

GATE = "compliance"
_LICENSE_KEYS = {
    "license": "the licence of the model",
    "data_license": "the licence of its training data",
}
_OTHER_REQUIREMENTS = 2
"""The schema of the ML-BOM, and the size."""


def decide_compliance(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold
) -> Verdict:
    """Licences, model card, ML-BOM and size; every finding in one verdict."""
    bench.progress.step(title(candidate), "checking licences, card and bill of materials")
    model = candidate.model
    table = bench.session.manifest.production
    allowed = table.allowed_licenses if table is not None else None
    findings: list[Finding] = []
    unread: list[str] = []
    if is_available() or not any(getattr(model, key) for key in _LICENSE_KEYS):
        findings += _license_findings(model, allowed)
    else:
        unread.append(f"the licences cannot be judged: {PACKAGE} is not installed")
    findings += card_findings(model.card, card_place(model))
    findings += size_findings(bench, candidate)
    try:
        findings += _bom_findings(bench, candidate)
    except NotCertified as error:
        unread.append(f"the ML-BOM cannot be validated: {error.what}")
    seen = Inspection(
        subjects=len(_LICENSE_KEYS) + len(SECTIONS) + _OTHER_REQUIREMENTS,
        noun="requirement",
        findings=tuple(findings),
        unread=tuple(unread),
        notes=tuple(f"{key}: {getattr(model, key) or 'not declared'}" for key in _LICENSE_KEYS),
    )
    bench.evidence.write_record(place(candidate, GATE), seen)
    return judge_findings(
        GATE,
        seen,
        threshold,
        advice="complete the manifest: docs/production-compliance.md lists every key",
        unread_advice=f"run: {INSTALL}",
    )


def card_place(model: ModelSpec) -> str:
    """Return where the manifest holds the card of a model."""
    return f"{model.where.removesuffix(']')}.card]"


def _license_findings(model: ModelSpec, allowed: tuple[str, ...] | None) -> Iterator[Finding]:
    for key, what in _LICENSE_KEYS.items():
        text = getattr(model, key)
        where = f"{model.where} {key}"
        if not text:
            yield Finding("licence", where, f"{what} is not declared")
            continue
        try:
            denied = denied_licenses(text, allowed or ALLOWED_BY_DEFAULT, where)
        except UserError as error:
            yield Finding("licence", where, f"{error.what}. {error.advice}".strip(". "))
            continue
        if denied:
            named = "[production] allowed_licenses"
            yield Finding(
                "licence",
                where,
                f"{', '.join(denied)} is not allowed"
                + ("" if allowed else " by default")
                + f"; {named} {'lists what is' if allowed else 'can allow it'}",
            )


def _bom_findings(bench: Workbench, candidate: PlannedCandidate) -> Iterator[Finding]:
    """Yield what is wrong with the bill of materials that a promotion would write.

    Raises:
        NotCertified: the validator is not installed.
    """
    artifact = bench.artifact(candidate)
    root = artifact_root(artifact.path)
    report = build_report(bench.session, Ledger(), command=(), notes=(), problems={})
    model, made = next(
        (
            (each, candidate_report)
            for each in report.models
            for candidate_report in each.candidates
            if (each.name, candidate_report.target, candidate_report.id)
            == (candidate.model.name, candidate.target.name, candidate.node)
        ),
        (None, None),
    )
    if model is None or made is None:
        raise MeasurementError(f"{title(candidate)} is not part of the report")
    text = render_bom(
        report,
        model,
        made,
        artifact,
        provenance_of(bench.session, model, made),
        {
            f"artifact/{file.relative_to(root).as_posix()}": digest_file(file)
            for file in artifact.files
        },
    )
    if fault := schema_fault(text):
        yield Finding("bom", BOM, f"it does not keep to the schema of CycloneDX 1.6: {fault}")
