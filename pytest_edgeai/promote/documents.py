"""What a person and a deployment read of a bundle: the model card and the deployment descriptor."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from pytest_edgeai.plan.targets import PACKAGES
from pytest_edgeai.promote.bom import BOM, render_bom
from pytest_edgeai.promote.certificate import Provenance
from pytest_edgeai.promote.rollout import render_rollout
from pytest_edgeai.promote.server import (
    DOCKERFILE,
    PORT,
    REQUIREMENTS,
    served_by,
    server_documents,
)
from pytest_edgeai.records import JSON, Artifact, Stage, artifact_root, to_json
from pytest_edgeai.report.content import CandidateReport, ModelReport, Report
from pytest_edgeai.report.markdown import escape, render_markdown
from pytest_edgeai.tasks import GENERATION_TASKS

CARD = "README.md"
DEPLOYMENT = "deployment.json"
REFERENCE = "reference.json"
LICENSE = "LICENSE"
DEPLOYMENT_SCHEMA = "pytest-edgeai/deployment/1"
ROLLBACK = "pytest-edgeai registry rollback REGISTRY"


def describer(
    report: Report,
    model: ModelReport,
    candidate: CandidateReport,
    artifact: Artifact,
    provenance: Provenance,
) -> Callable[[Mapping[str, str]], Mapping[str, str]]:
    """Return what makes the documents of a bundle, given the SHA-256 of its artifact's files.

    Args:
        report: the session's, with this candidate alone.
        model: the candidate's model.
        candidate: what is promoted.
        artifact: its artifact.
        provenance: the data and the tools.
    """

    def describe(files: Mapping[str, str]) -> Mapping[str, str]:
        return {
            CARD: render_card(report, model, candidate, artifact, provenance),
            BOM: render_bom(report, model, candidate, artifact, provenance, files),
            DEPLOYMENT: render_deployment(report, model, candidate, artifact),
            **({LICENSE: provenance.license_text} if provenance.license_text else {}),
            **_reference(provenance),
            **render_rollout(candidate, _rollback(model, candidate)),
            **server_documents(
                artifact,
                candidate.target,
                generates_text=model.task in GENERATION_TASKS,
                versions={**artifact.versions, **provenance.versions},
            ),
        }

    return describe


def render_card(
    report: Report,
    model: ModelReport,
    candidate: CandidateReport,
    artifact: Artifact,
    provenance: Provenance,
) -> str:
    """Return the model card in Markdown, with the measured table of the report."""
    lines = [
        f"# {escape(model.name)}: {escape(candidate.id)}",
        "",
        f"- Task: {escape(model.task)}",
        f"- Target: {escape(candidate.target)}",
        f"- Made from: `{model.sha256}` ({escape(model.baseline_precision or 'unknown')} "
        f"in {escape(model.baseline_framework)})",
        f"- Made by: {escape(artifact.framework)}, {escape(candidate.recipe.scheme)}; "
        f"{escape(', '.join(f'{k} {v}' for k, v in sorted(artifact.versions.items())))}",
        f"- Precision: {escape(artifact.claimed_precision)}, {artifact.size_bytes:,} bytes, "
        f"artifact `{artifact.sha256}`",
        *_data(provenance),
        *_licenses(provenance),
        "",
        *_sections(provenance),
    ]
    return "\n".join(lines) + "\n" + render_markdown(report)


def _licenses(provenance: Provenance) -> list[str]:
    stated = {
        "Licence": provenance.license,
        "Licence of its training data": provenance.data_license,
    }
    return [f"- {what}: {escape(text)}" for what, text in stated.items() if text]


def _sections(provenance: Provenance) -> list[str]:
    """Return what the manifest says of the model, a section each, in its order."""
    unsaid = [
        what
        for what, said in (
            ("licence", provenance.license),
            ("purpose beyond this data", provenance.card),
        )
        if not said
    ]
    lines: list[str] = []
    if unsaid:
        lines = [
            f"Its {' and '.join(unsaid)}: as of the original, unless somebody says otherwise; what "
            "was measured does not tell.",
            "",
        ]
    for section, text in provenance.card.items():
        lines += [f"## {escape(section.replace('_', ' ').capitalize())}", ""]
        for paragraph in text.strip().split("\n\n"):
            lines += [escape(paragraph), ""]
    return lines


def _reference(provenance: Provenance) -> dict[str, str]:
    """Return the reference statistics, where there are some."""
    if provenance.reference is None:
        return {}
    return {REFERENCE: json.dumps(provenance.reference, indent=1, allow_nan=False) + "\n"}


def _data(provenance: Provenance) -> list[str]:
    words = {"evaluation": "Judged with", "calibration": "Calibrated with"}
    return [
        f"- {words[name]}: {facts['samples']} samples, data `{facts['sha256']}`"
        for name in words
        if (facts := provenance.data.get(name)) is not None
    ]


def render_deployment(
    report: Report, model: ModelReport, candidate: CandidateReport, artifact: Artifact
) -> str:
    """Return what a deployment has to know, as JSON of :data:`DEPLOYMENT_SCHEMA`."""
    root = artifact_root(artifact.path)
    main = artifact.path.relative_to(root).as_posix()
    quantized = next((stage for stage in candidate.stages if stage.name == "quantized"), None)
    host = next((each for each in report.hosts if each.target == candidate.target), None)
    content = {
        "schema": DEPLOYMENT_SCHEMA,
        "model": model.name,
        "target": candidate.target,
        "candidate": candidate.id,
        "framework": {
            "name": artifact.framework,
            "versions": to_json(artifact.versions),
            "runtime": to_json(quantized.runtime) if quantized else None,
        },
        "quantization": {
            "scheme": candidate.recipe.scheme,
            "precision": artifact.claimed_precision,
        },
        "packaging": {
            "load": "artifact" if main == "." else f"artifact/{main}",
            "size_bytes": artifact.size_bytes,
            "fits": {
                package.name: artifact.size_bytes <= package.limit_bytes
                for package in PACKAGES.values()
                if candidate.target in package.targets
            },
        },
        "measured": {
            "host": host and {"cpu_model": host.facts.cpu_model, "proxy": host.proxy},
            **_measured(quantized),
        },
        "server": _server(model, candidate, artifact),
        "rollback": {"command": _rollback(model, candidate)},
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _rollback(model: ModelReport, candidate: CandidateReport) -> list[str]:
    return [*ROLLBACK.split(), model.name, candidate.target]


def _server(
    model: ModelReport, candidate: CandidateReport, artifact: Artifact
) -> dict[str, JSON] | None:
    """Return how the bundle is served; ``None`` where it has no server."""
    served = served_by(artifact, candidate.target, generates_text=model.task in GENERATION_TASKS)
    if served is None:
        return None
    return {
        "dockerfile": DOCKERFILE,
        "requirements": REQUIREMENTS,
        "port": PORT,
        "ready": served.ready,
    }


def _measured(stage: Stage | None) -> dict[str, JSON]:
    """Return what monitoring can hold against what it sees; ``None`` where it was not measured."""
    latency = to_json(stage.latency) if stage else {}
    return {
        **{name: latency.get(name) for name in ("p50_ns", "p95_ns", "p99_ns")},
        "memory_bytes": stage.memory_bytes if stage else None,
        "metric": stage.metric if stage else None,
        "score": to_json(stage.score) if stage else None,
    }
