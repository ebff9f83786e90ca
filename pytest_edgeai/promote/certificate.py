"""The certificate of a promotion: what was decided, where, with what, and who accepted it."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pytest_edgeai.promote.dsse import render, sign
from pytest_edgeai.promote.keys import SigningKey, encode_raw
from pytest_edgeai.promote.statement import render_statement
from pytest_edgeai.records import JSON, Artifact, Verdict, to_json
from pytest_edgeai.report.content import CandidateReport, ModelReport, Report

DEFAULT_ORIGIN = "default"


@dataclass(frozen=True)
class Provenance:
    """What a certificate states beside the report.

    Attributes:
        data: ``evaluation`` and ``calibration`` to ``{sha256, samples}``; ``None`` where there is
            no such data, or where it is not known.
        versions: tool name to version, of whatever the comparison depends on.
        threads: threads of both models while they were compared.
        allow_proxy: whether verdicts of a proxy host were accepted.
        reference: statistics of the evaluation, for the detection of drift; ``None`` for none.
        license: SPDX expression of the model's licence; empty: not declared.
        data_license: SPDX expression of its training data's licence; empty: not declared.
        license_text: the text of the model's licence; empty for none.
        card: what the manifest says of the model, by section.
    """

    data: Mapping[str, JSON]
    versions: Mapping[str, str]
    threads: int
    allow_proxy: bool
    reference: Mapping[str, JSON] | None = None
    license: str = ""
    data_license: str = ""
    license_text: str = ""
    card: Mapping[str, str] = field(default_factory=dict)


def predicate(
    report: Report,
    model: ModelReport,
    candidate: CandidateReport,
    artifact: Artifact,
    provenance: Provenance,
    signer: SigningKey,
    *,
    days: int,
) -> dict[str, JSON]:
    """Return the predicate of a certificate, as docs/promotion.md describes it.

    Args:
        report: the session's; its time is the certificate's.
        model: the candidate's model.
        candidate: what is promoted.
        artifact: its artifact.
        provenance: what the report does not hold.
        signer: the key; its public half is named.
        days: how long the certificate is valid.
    """
    created = datetime.datetime.fromisoformat(report.created)
    host = next((each for each in report.hosts if each.target == candidate.target), None)
    return {
        "created": created.isoformat(),
        "expires": (created + datetime.timedelta(days=days)).isoformat(),
        "tool": {"name": "pytest-edgeai", "version": report.tool_version},
        "model": {
            "name": model.name,
            "sha256": model.sha256,
            "task": model.task,
            "baseline": {
                "framework": model.baseline_framework,
                "precision": model.baseline_precision,
            },
        },
        "candidate": {
            "id": candidate.id,
            "target": candidate.target,
            "recipe": to_json(candidate.recipe),
            "artifact": {
                "sha256": artifact.sha256,
                "size_bytes": artifact.size_bytes,
                "precision": artifact.claimed_precision,
                "framework": artifact.framework,
            },
        },
        "required_gates": list(candidate.required_gates),
        "gates": [_gate(verdict) for verdict in candidate.verdicts],
        "data": to_json(provenance.data),
        "host": None
        if host is None
        else {**to_json(host.facts), "proxy": host.proxy, "proxy_reason": host.proxy_reason},
        "threads": provenance.threads,
        "versions": {**to_json(artifact.versions), **to_json(provenance.versions)},
        "evidence": {"sha256": report.evidence_sha256},
        "overrides": {
            "allow_proxy": provenance.allow_proxy,
            "settings": {
                name: {"value": value, "origin": origin}
                for name, (value, origin) in report.settings.items()
            },
            "thresholds": {
                verdict.gate: verdict.threshold_origin
                for verdict in candidate.verdicts
                if verdict.threshold_origin != DEFAULT_ORIGIN
            },
        },
        "signer": {"keyid": signer.public.keyid, "public_key": encode_raw(signer.public)},
    }


def _gate(verdict: Verdict) -> JSON:
    fields = to_json(verdict)
    # The details are figures for the report, which the subject binds.
    del fields["details"]
    return {"name": fields.pop("gate"), **fields}


def certifier(
    content: Mapping[str, JSON], signer: SigningKey
) -> Callable[[Mapping[str, str]], bytes]:
    """Return what makes a certificate of the files of a bundle.

    Args:
        content: the predicate.
        signer: the key that signs.
    """

    def certify(files: Mapping[str, str]) -> bytes:
        return render(sign(render_statement(files, content), signer))

    return certify
