"""The JSON report: schema ``pytest-edgeai/report/1``, described by ``schema-1.json``."""

from __future__ import annotations

import json

from pytest_edgeai.records import JSON, Stage, Verdict, to_json
from pytest_edgeai.report.content import (
    SCHEMA,
    CandidateReport,
    HostReport,
    ModelReport,
    Report,
)
from pytest_edgeai.report.ranking import pareto_front, recommended


def render_json(report: Report) -> str:
    """Return the report as strict JSON (no NaN, ASCII only), indented, with a final newline."""
    text = json.dumps(report_to_json(report), indent=2, allow_nan=False, ensure_ascii=True)
    return text + "\n"


def report_to_json(report: Report) -> dict[str, JSON]:
    """Return the report as plain JSON types; every number is finite or ``None``.

    ``host`` is the host as seen from the first target, ``hosts`` from each.
    """
    hosts = [_host(host) for host in report.hosts]
    return {
        "schema": SCHEMA,
        "created": report.created,
        "tool": {"name": "pytest-edgeai", "version": report.tool_version},
        "host": hosts[0] if hosts else None,
        "hosts": hosts,
        "command": list(report.command),
        "settings": {
            name: {"value": value, "origin": origin}
            for name, (value, origin) in report.settings.items()
        },
        "models": [_model(model) for model in report.models],
        "evidence": {
            "directory": report.evidence_directory.as_posix(),
            "sha256": report.evidence_sha256,
        },
        "notes": list(report.notes),
    }


def _host(host: HostReport) -> JSON:
    return {
        **to_json(host.facts),
        "target": host.target,
        "proxy": host.proxy,
        "proxy_reason": host.proxy_reason,
    }


def _model(model: ModelReport) -> JSON:
    best = recommended(model.candidates, model.weights)
    return {
        "name": model.name,
        "sha256": model.sha256,
        "task": model.task,
        "problem": model.problem,
        "effort": model.effort,
        "baseline": {
            "framework": model.baseline_framework,
            "artifact": {
                "path": model.baseline_path.as_posix(),
                "sha256": model.sha256,
                "precision": model.baseline_precision,
            },
            "measurements": _measurements(model.baseline_stage),
        },
        "candidates": [_candidate(candidate) for candidate in model.candidates],
        # The same recipe can stand for two targets, and then has one id.
        "pareto": list(dict.fromkeys(c.id for c in pareto_front(model.candidates))),
        "recommended": best.id if best else None,
        "weights": to_json(model.weights),
        "searches": to_json(model.searches),
    }


def _candidate(candidate: CandidateReport) -> JSON:
    made = candidate.artifact
    return {
        "id": candidate.id,
        "target": candidate.target,
        "framework": candidate.recipe.framework,
        "recipe": to_json(candidate.recipe),
        "artifact": None
        if made is None
        else {
            "path": made.path.as_posix(),
            "files": [file.as_posix() for file in made.files],
            "sha256": made.sha256,
            "size_bytes": made.size_bytes,
            "precision": made.claimed_precision,
            "from_cache": made.from_cache,
            "key": made.key,
            "seconds": to_json(made.seconds),
            "versions": to_json(made.versions),
            "log": list(made.log),
        },
        "stages": [
            {"name": stage.name, "measurements": _measurements(stage)} for stage in candidate.stages
        ],
        "gates": [_gate(verdict) for verdict in candidate.verdicts],
        "required_gates": list(candidate.required_gates),
        "known_failures": dict(candidate.known_failures),
        "promoted": candidate.promoted,
        "promotion_blocked_by": list(candidate.promotion_blocked_by),
        "energy": to_json(candidate.energy),
        "profile": to_json(candidate.profile),
        "advice": to_json(candidate.advice),
        "fixes": to_json(candidate.fixes),
        "runtime": to_json(candidate.runtime),
    }


def _measurements(stage: Stage | None) -> JSON:
    if stage is None:
        return None
    measured = to_json(stage)
    del measured["name"]
    return measured


def _gate(verdict: Verdict) -> JSON:
    fields = to_json(verdict)
    return {"name": fields.pop("gate"), **fields}
