"""The bill of materials of a promoted model, as CycloneDX 1.6 in JSON.

https://cyclonedx.org/docs/1.6/json/. The model is the component that the document is about, with a
model card of what was measured; its files, what it was made from, the data by digest and the tools
are the components. The same promotion gives the same bytes.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from urllib.parse import quote

from pytest_edgeai.promote.certificate import Provenance
from pytest_edgeai.records import JSON, Artifact, Verdict
from pytest_edgeai.report.content import CandidateReport, ModelReport, Report

BOM = "bom.cdx.json"
TRAINING_DATA = "training_data"
ETHICS = "ethical_considerations"
_SECTIONS = {"intended_use": "useCases", "limitations": "technicalLimitations"}
_SPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:pytest-edgeai:bom")


def render_bom(
    report: Report,
    model: ModelReport,
    candidate: CandidateReport,
    artifact: Artifact,
    provenance: Provenance,
    files: Mapping[str, str],
) -> str:
    """Return the document.

    Args:
        report: the session's.
        model: the candidate's model.
        candidate: what is promoted.
        artifact: its artifact.
        provenance: the data and the tools.
        files: name in the bundle to hex SHA-256 of each file of the artifact.
    """
    subject = f"model:{artifact.sha256}"
    materials = [*_materials(model, provenance), *_tools(artifact, provenance)]
    datasets = [{"ref": each["bom-ref"]} for each in materials if each["type"] == "data"]
    content = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_SPACE, artifact.sha256 + report.created)}",
        "version": 1,
        "metadata": {
            "timestamp": report.created,
            "tools": {
                "components": [
                    {
                        "type": "application",
                        "name": "pytest-edgeai",
                        "version": report.tool_version,
                    }
                ]
            },
            "component": {
                "type": "machine-learning-model",
                "bom-ref": subject,
                "name": f"{model.name} {candidate.id}",
                "version": artifact.sha256[:12],
                "description": f"{model.name} for {candidate.target}, in {artifact.framework}",
                **_licenses(provenance.license),
                "modelCard": {
                    "modelParameters": {"task": model.task, "datasets": datasets},
                    "quantitativeAnalysis": {
                        "performanceMetrics": [
                            _metric(each, each.observed)
                            for each in candidate.verdicts
                            if each.observed is not None
                        ]
                    },
                    **_considerations(provenance.card),
                },
                "components": [
                    {
                        "type": "file",
                        "bom-ref": f"file:{name}",
                        "name": name,
                        "hashes": [{"alg": "SHA-256", "content": files[name]}],
                    }
                    for name in sorted(files)
                ],
            },
        },
        "components": materials,
        "dependencies": [
            {"ref": subject, "dependsOn": [each["bom-ref"] for each in materials]},
        ],
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _materials(model: ModelReport, provenance: Provenance) -> list[dict[str, JSON]]:
    """Return what the artifact was made from and judged with."""
    found: list[dict[str, JSON]] = [
        {
            "type": "machine-learning-model",
            "bom-ref": f"baseline:{model.sha256}",
            "name": model.name,
            "version": model.sha256[:12],
            "description": f"the original, {model.baseline_precision or 'of unknown precision'}",
            **_licenses(provenance.license),
            "properties": [{"name": "pytest-edgeai:sha256", "value": model.sha256}],
        }
    ]
    for name, facts in sorted(provenance.data.items()):
        if facts is not None:
            found.append(
                {
                    "type": "data",
                    "bom-ref": f"data:{name}",
                    "name": f"{model.name} {name} data",
                    "version": facts["sha256"][:12],
                    "data": [{"type": "dataset", "name": name}],
                    "properties": [
                        {"name": "pytest-edgeai:sha256", "value": facts["sha256"]},
                        {"name": "pytest-edgeai:samples", "value": str(facts["samples"])},
                    ],
                }
            )
    if provenance.data_license or TRAINING_DATA in provenance.card:
        about = provenance.card.get(TRAINING_DATA)
        found.append(
            {
                "type": "data",
                "bom-ref": "data:training",
                "name": f"{model.name} training data",
                **({"description": about} if about else {}),
                **_licenses(provenance.data_license),
                "data": [{"type": "dataset", "name": "training"}],
            }
        )
    return found


def _licenses(expression: str) -> dict[str, JSON]:
    return {"licenses": [{"expression": expression}]} if expression else {}


def _considerations(card: Mapping[str, str]) -> dict[str, JSON]:
    """Return the sections of a model card that the schema has a place for."""
    found: dict[str, JSON] = {
        place: [card[section]] for section, place in _SECTIONS.items() if section in card
    }
    if ETHICS in card:
        found["ethicalConsiderations"] = [{"name": card[ETHICS]}]
    return {"considerations": found} if found else {}


def _tools(artifact: Artifact, provenance: Provenance) -> list[dict[str, JSON]]:
    """Return the tools, with a package URL where the name is one of a distribution."""
    versions = {**artifact.versions, **provenance.versions}
    return [
        {
            "type": "library",
            "bom-ref": f"tool:{name}",
            "name": name,
            "version": versions[name],
            **_purl(name, versions[name]),
        }
        for name in sorted(versions)
    ]


def _purl(name: str, version: str) -> dict[str, str]:
    """Return the package URL of a distribution; what is none, as the interpreter, has none."""
    if name == "python" or " " in name:
        return {}
    return {"purl": f"pkg:pypi/{quote(name.lower().replace('_', '-'))}@{quote(version)}"}


def _metric(verdict: Verdict, observed: float) -> dict[str, JSON]:
    low, high = verdict.interval or (None, None)
    bounds = {"lowerBound": low, "upperBound": high}
    known = {name: f"{value:.6g}" for name, value in bounds.items() if value is not None}
    return {
        "type": f"{verdict.gate} ({verdict.unit})",
        "value": f"{observed:.6g}",
        **({"confidenceInterval": known} if known else {}),
    }
