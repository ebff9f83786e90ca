"""The records of the history, and what makes two of them comparable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pytest_edgeai.records import JSON, Outcome, Relation, Verdict, to_json
from pytest_edgeai.report.content import CandidateReport, ModelReport, Report

ABSENT = "absent"
HOST, VERSIONS, THREADS = "host", "versions", "threads"
"""What two environments can differ in, as ``--edge-across`` names it."""
_HOST_WORDS = {
    "system": "system",
    "architecture": "architecture",
    "cpu_vendor": "CPU vendor",
    "cpu_model": "CPU",
    "logical_cores": "cores",
    "memory_gib": "memory in GiB",
    "simd": "SIMD features",
    "virtualization": "virtualization",
    "cpu_limit": "CPU limit",
    "power_source": "power source",
    "accelerators": "accelerators",
}
_NAMES = ("cpu_model", "cpu_vendor", "architecture")
_DIGITS = 16


@dataclass(frozen=True)
class Environment:
    """What has to be the same before two measurements may stand in one line.

    Attributes:
        host: :func:`host_identity` of the measuring machine.
        versions: tool name to version: this package, Python and the frameworks' distributions.
        threads: threads of both models while they were compared.
    """

    host: Mapping[str, JSON]
    versions: Mapping[str, str]
    threads: int

    @cached_property
    def host_fingerprint(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of the host's identity."""
        return _fingerprint(self.host)

    @cached_property
    def tools_fingerprint(self) -> str:
        """The same of the tool versions."""
        return _fingerprint(self.versions)

    @property
    def label(self) -> str:
        """A few words that tell environments apart: ``on AMD EPYC, 1 thread [3f2a1b0c]``."""
        name = next((self.host[key] for key in _NAMES if self.host.get(key)), "an unknown host")
        noun = "thread" if self.threads == 1 else "threads"
        digits = _fingerprint({"all": list(self.key())})[: _DIGITS // 2]
        return f"on {name}, {self.threads} {noun} [{digits}]"

    def key(self, across: Collection[str] = ()) -> tuple[str, str, int]:
        """Return what is equal exactly where two environments are comparable.

        Args:
            across: what may differ: ``host``, ``versions`` or ``threads``.
        """
        return (
            "" if HOST in across else self.host_fingerprint,
            "" if VERSIONS in across else self.tools_fingerprint,
            0 if THREADS in across else self.threads,
        )


@dataclass(frozen=True)
class Row:
    """One gate of one candidate in one session.

    Attributes:
        created: ISO 8601 time in UTC of the session's report.
        run_id: the session.
        environment: where it was measured.
        model: name in the manifest.
        model_sha256: digest of the baseline's files.
        target: the target.
        candidate: id of the candidate.
        framework: the framework that runs it.
        artifact_sha256: digest of the artifact; empty where none was made.
        artifact_path: the file that is loaded; empty likewise.
        gate: name of the gate.
        outcome: what was decided.
        observed: what was observed; ``None`` where nothing was.
        interval: its bounds; ``None`` where there is none, or for an open side.
        threshold: the limit; ``None`` where the gate has none.
        relation: how ``observed`` must stand to it.
        unit: unit of the three.
        promoted: whether the session promoted the candidate.
        bundle: where to; empty where it was not promoted.
        report: the session's JSON report; empty where none was written.
        evidence: directory of the session's raw samples, which may have been swept since.
    """

    created: str
    run_id: str
    environment: Environment
    model: str
    model_sha256: str
    target: str
    candidate: str
    framework: str
    artifact_sha256: str
    artifact_path: str
    gate: str
    outcome: Outcome
    observed: float | None
    interval: tuple[float | None, float | None]
    threshold: float | None
    relation: Relation
    unit: str
    promoted: bool
    bundle: str
    report: str
    evidence: str

    @property
    def recipe_id(self) -> str:
        """The candidate's id without the target, which ids name in sessions of several targets."""
        return self.candidate.removesuffix(f"@{self.target}")


CandidateKey = tuple[str, str, str]
"""Model, target and id of a candidate."""


def candidate_key(model: ModelReport, candidate: CandidateReport) -> CandidateKey:
    """Return what names a candidate within one report."""
    return model.name, candidate.target, candidate.id


def host_identity(facts: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return what measurements depend on of :class:`~pytest_edgeai.records.HostFacts` in JSON.

    The host's name and the battery's charge are left out: containers get a new name each time.
    Memory counts in whole GiB, because what the system keeps for itself varies from boot to boot.
    """
    memory_bytes = facts.get("memory_bytes")
    plain = (name for name in _HOST_WORDS if name not in ("memory_gib", "accelerators"))
    return {
        **{name: facts.get(name) for name in plain},
        "memory_gib": None if memory_bytes is None else round(memory_bytes / 2**30),
        "accelerators": [each["name"] for each in facts.get("accelerators", ())],
    }


def differences(
    here: Environment, there: Environment, across: Collection[str] = ()
) -> tuple[str, ...]:
    """Return what keeps ``there`` from being compared with ``here``, one phrase each.

    Empty exactly where both are comparable: ``onnxruntime 1.30.0 instead of 1.31.1``.

    Args:
        here: where something would be measured.
        there: where it was measured.
        across: what may differ: ``host``, ``versions`` or ``threads``.
    """
    found: list[str] = []
    if HOST not in across:
        found += [
            f"{_HOST_WORDS.get(name, name)} {_text(theirs)} instead of {_text(ours)}"
            for name in dict.fromkeys((*_HOST_WORDS, *here.host, *there.host))
            if (theirs := there.host.get(name)) != (ours := here.host.get(name))
        ]
    for name in () if VERSIONS in across else sorted({*here.versions, *there.versions}):
        theirs, ours = there.versions.get(name, ABSENT), here.versions.get(name, ABSENT)
        if theirs != ours:
            found.append(f"{name} {theirs} instead of {ours}")
    if here.threads != there.threads and THREADS not in across:
        found.append(f"threads {there.threads} instead of {here.threads}")
    return tuple(found)


def rows_of(
    report: Report,
    run_id: str,
    environments: Mapping[CandidateKey, Environment],
    *,
    report_path: Path | None,
    bundles: Mapping[CandidateKey, Path],
) -> tuple[Row, ...]:
    """Return one row per candidate and gate that a session decided.

    Args:
        report: the report, promotions included.
        run_id: the session.
        environments: where each candidate was measured; candidates without one are left out.
        report_path: the JSON report, where one was asked for.
        bundles: where promoted candidates lie.
    """
    return tuple(
        _row(report, run_id, environments[key], model, candidate, verdict, report_path, bundles)
        for model in report.models
        for candidate in model.candidates
        if (key := candidate_key(model, candidate)) in environments
        for verdict in candidate.verdicts
    )


def _row(
    report: Report,
    run_id: str,
    environment: Environment,
    model: ModelReport,
    candidate: CandidateReport,
    verdict: Verdict,
    report_path: Path | None,
    bundles: Mapping[CandidateKey, Path],
) -> Row:
    artifact = candidate.artifact
    bundle = bundles.get(candidate_key(model, candidate))
    values = to_json(verdict)
    return Row(
        created=report.created,
        run_id=run_id,
        environment=environment,
        model=model.name,
        model_sha256=model.sha256,
        target=candidate.target,
        candidate=candidate.id,
        framework=candidate.recipe.framework,
        artifact_sha256=artifact.sha256 if artifact else "",
        artifact_path=artifact.path.as_posix() if artifact else "",
        gate=verdict.gate,
        outcome=verdict.outcome,
        observed=values["observed"],
        interval=tuple(values["interval"] or (None, None)),
        threshold=values["threshold"],
        relation=verdict.relation,
        unit=verdict.unit,
        promoted=candidate.promoted,
        bundle=bundle.as_posix() if bundle else "",
        report=report_path.as_posix() if report_path else "",
        evidence=report.evidence_directory.as_posix(),
    )


def _fingerprint(facts: Mapping[str, JSON]) -> str:
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _text(value: JSON) -> str:
    if isinstance(value, list):
        return "/".join(map(str, value)) or "none"
    return "unknown" if value in (None, "") else str(value)
