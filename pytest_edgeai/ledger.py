"""The verdicts of a session, as the controlling process hears of them, and the report of them."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_edgeai import __version__
from pytest_edgeai.configuration import describe_origins
from pytest_edgeai.energy_records import energy_from_json
from pytest_edgeai.evidence import EvidenceStore
from pytest_edgeai.judge.score import Side, score
from pytest_edgeai.judge.verdict import chance_of_a_wrong_verdict, worst_by_gate
from pytest_edgeai.measure.quality import quality_from_arrays
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.profile_json import profile_from_json
from pytest_edgeai.profile_records import CandidateProfile
from pytest_edgeai.promote.decision import blocked_by
from pytest_edgeai.records import (
    JSON,
    Artifact,
    LatencySummary,
    ModelFacts,
    PairedQuality,
    RuntimeOptions,
    Stage,
    Verdict,
)
from pytest_edgeai.report.content import CandidateReport, HostReport, ModelReport, Report
from pytest_edgeai.search_reading import REPORTS, reports_from_json
from pytest_edgeai.session import Session

Key = tuple[str, str, str]

_SIDES: Mapping[str, Side] = {"baseline": "baseline", "quantized": "candidate"}
"""The stages that the gates compare."""


class Ledger:
    """Which verdicts were reached in this session, by model, candidate and gate."""

    def __init__(self) -> None:
        """Start empty."""
        self._verdicts: dict[Key, Verdict] = {}

    def add(self, entry: Mapping[str, JSON]) -> None:
        """Add a verdict that a test reached.

        A limit that a marker or a call set is that test's own and decides no promotion. A rerun may
        only settle what was inconclusive, since its rounds are added to the earlier ones; otherwise
        the worse of two verdicts counts.
        """
        verdict = verdict_from_json(entry["verdict"])
        if verdict.threshold_origin == "marker":
            return
        key = (entry["model"], entry["node"], verdict.gate)
        known = self._verdicts.get(key)
        if known is None or known.outcome == "inconclusive":
            self._verdicts[key] = verdict
        else:
            self._verdicts[key] = worst_by_gate((known, verdict))[verdict.gate]

    def of(self, candidate: PlannedCandidate, gates: Sequence[str]) -> tuple[Verdict, ...]:
        """Return the verdicts of a candidate in the order of ``gates``."""
        found = (self._verdicts.get((candidate.model.name, candidate.node, gate)) for gate in gates)
        return tuple(verdict for verdict in found if verdict is not None)


def verdict_from_json(raw: Mapping[str, JSON]) -> Verdict:
    """Return the record that :func:`~pytest_edgeai.records.to_json` was given."""
    values = dict(raw)
    values["interval"] = tuple(values["interval"]) if values["interval"] is not None else None
    return Verdict(**values)


def stage_from_json(raw: Mapping[str, Any]) -> Stage:
    """Return the record that :func:`~pytest_edgeai.records.to_json` was given."""
    values = dict(raw)
    values["runtime"] = RuntimeOptions(**values["runtime"])
    values["latency"] = LatencySummary(**values["latency"])
    return Stage(**values)


def artifact_from_json(raw: Mapping[str, Any] | None) -> Artifact | None:
    """Return the record that :func:`~pytest_edgeai.records.to_json` was given, or ``None``."""
    if raw is None:
        return None
    paths = {"path": Path(raw["path"]), "files": tuple(Path(file) for file in raw["files"])}
    return Artifact(**{**raw, **paths, "log": tuple(raw["log"])})


def build_report(
    session: Session,
    ledger: Ledger,
    *,
    command: Sequence[str],
    notes: Iterable[str],
    problems: Mapping[str, str],
) -> Report:
    """Return the report of a finished session; nothing in it is promoted yet.

    Args:
        session: what was planned.
        ledger: what was decided.
        command: the command line.
        notes: what the reader should know.
        problems: model name to why it could not be gated.
    """
    evidence = EvidenceStore(session.evidence_directory)
    models: list[ModelReport] = []
    for name in (*session.facts, *(name for name in session.problems if name not in session.facts)):
        candidates = [c for c in session.candidates if c.model.name == name]
        reports = tuple(_candidate(session, ledger, evidence, c) for c in candidates)
        stages = [
            stage for report in reports for stage in report.stages if stage.name == "baseline"
        ]
        spec = next((model for model in session.manifest.models if model.name == name), None)
        models.append(
            ModelReport(
                name=name,
                sha256=(evidence.read_record(f"{name}/model") or {}).get("sha256", ""),
                task=spec.task if spec else "",
                baseline_framework=candidates[0].baseline_framework if candidates else "",
                baseline_path=spec.path if spec else session.manifest.path,
                baseline_stage=stages[0] if stages else None,
                candidates=reports,
                problem=problems.get(name, ""),
                baseline_precision=_precision(session.facts.get(name)),
                effort=evidence.read_record(f"{name}/effort"),
                searches=reports_from_json(evidence.read_record(f"{name}/{REPORTS}")),
                weights=session.manifest.search.weights,
            )
        )
    return Report(
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        tool_version=__version__,
        hosts=tuple(
            HostReport(
                session.host,
                target.name,
                bool(session.proxies[target.name]),
                session.proxies[target.name],
            )
            for target in session.targets
        ),
        command=tuple(command),
        settings=describe_origins(session.settings),
        models=tuple(models),
        evidence_directory=session.evidence_directory,
        evidence_sha256=evidence.digest(),
        notes=(*notes, *_chance_of_error(models)),
    )


def _chance_of_error(models: Iterable[ModelReport]) -> Iterator[str]:
    """Yield how likely a session is to hold a wrong verdict, where any was reached by a test."""
    verdicts = [v for model in models for candidate in model.candidates for v in candidate.verdicts]
    chance, count = chance_of_a_wrong_verdict(verdicts)
    if count:
        yield (
            f"{count} {'verdict was' if count == 1 else 'verdicts were'} reached by statistical "
            f"tests; the chance that any of them is wrong is at most {chance:.0%}, with every "
            "candidate exactly at its threshold"
        )


def _precision(facts: ModelFacts | None) -> str:
    """Return the dtype of most weights of a model; empty where it has none or is not known."""
    counts = facts.weight_elements if facts else {}
    return max(counts, key=lambda name: counts[name], default="")


def _candidate(
    session: Session,
    ledger: Ledger,
    evidence: EvidenceStore,
    candidate: PlannedCandidate,
) -> CandidateReport:
    # Collecting tests and workers that report to a controller need no rules of advice.
    from pytest_edgeai.advising import advice_for, fixes_of

    gates = session.gates_of(candidate)
    required = session.required_gates_of(candidate)
    verdicts = ledger.of(candidate, gates)
    place = f"{candidate.model.name}/{candidate.recipe.id}"
    known = {gate: session.known_failure(candidate, gate) for gate in gates}
    stages = stages_of(evidence, place)
    return CandidateReport(
        id=candidate.node,
        target=candidate.target.name,
        recipe=candidate.recipe,
        artifact=artifact_from_json(evidence.read_record(f"{place}/artifact")),
        stages=stages,
        verdicts=verdicts,
        required_gates=required,
        promoted=False,
        promotion_blocked_by=blocked_by(
            required, verdicts, allow_proxy=session.settings.allow_proxy
        ),
        known_failures={gate: reason for gate, reason in known.items() if reason},
        unavailable=candidate.unavailable,
        demanded=candidate.demanded,
        energy=energy_from_json(evidence.read_record(f"{place}/energy")),
        profile=_profile(evidence, place),
        advice=advice_for(session, evidence, candidate, verdicts, stages),
        fixes=fixes_of(evidence, candidate),
        runtime=candidate.runtime,
    )


def stages_of(evidence: EvidenceStore, place: str) -> tuple[Stage, ...]:
    """Return the stages of a candidate, with memory and score where those were measured."""
    record = evidence.read_record(f"{place}/stages")
    if record is None:
        return ()
    memory = evidence.read_record(f"{place}/memory")
    quality = _quality(evidence, place)
    stages: list[Stage] = []
    for raw in record["stages"]:
        stage = stage_from_json(raw)
        side = _SIDES.get(stage.name)
        if side is not None and memory is not None:
            peaks, steady = (
                sorted(memory["samples"][f"{side}{kind}_bytes"]) for kind in ("", "_steady")
            )
            stage = replace(
                stage,
                memory_bytes=int(peaks[len(peaks) // 2]),
                steady_bytes=int(steady[len(steady) // 2]) if steady else None,
            )
        if side is not None and quality is not None:
            stage = replace(stage, score=score(quality, side))
        stages.append(stage)
    return tuple(stages)


def _profile(evidence: EvidenceStore, place: str) -> CandidateProfile | None:
    record = evidence.read_record(f"{place}/profile")
    return None if record is None else profile_from_json(record)


def _quality(evidence: EvidenceStore, place: str) -> PairedQuality | None:
    record = evidence.read_record(f"{place}/quality")
    arrays = evidence.read_arrays(f"{place}/quality")
    if record is None or arrays is None:
        return None
    return quality_from_arrays(record["metric"], record["kind"], arrays)
