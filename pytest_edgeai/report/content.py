"""The content of a report: what every format of it is rendered from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_edgeai.advice_records import Advice, FixAttempt
from pytest_edgeai.energy_records import EnergyReport
from pytest_edgeai.profile_records import CandidateProfile
from pytest_edgeai.records import JSON, Artifact, HostFacts, Recipe, RuntimeOptions, Stage, Verdict
from pytest_edgeai.search_records import DEFAULT_WEIGHTS, SearchReport

SCHEMA = "pytest-edgeai/report/1"


@dataclass(frozen=True)
class HostReport:
    """The measuring host, seen from one target.

    Attributes:
        facts: the host.
        target: name of the target.
        proxy: whether the host is not of the target's kind.
        proxy_reason: why it is a proxy; empty where it is not.
    """

    facts: HostFacts
    target: str
    proxy: bool
    proxy_reason: str = ""


@dataclass(frozen=True)
class CandidateReport:
    """One candidate with everything that was decided about it.

    Attributes:
        id: recipe id, unique within its model and target.
        target: name of the target that it was planned for.
        recipe: how it was made.
        artifact: what was made; ``None`` where making it failed or was not reached.
        stages: measured stages in order; empty where they were not measured.
        verdicts: one per gate that ran, in the order of the gates.
        required_gates: names of every gate that this candidate has to pass.
        promoted: whether it was promoted in this session.
        promotion_blocked_by: required gates that did not run or whose outcome blocks promotion.
        known_failures: gate name to the reason that the manifest states.
        unavailable: why it was not made, with what to do; empty where its framework is there.
        demanded: whether the user named its framework, so that being unavailable is a failure.
        gate_seconds: gate name to how long its test took.
        profile: what its calls and its baseline's do with their time; ``None`` where that was not
            looked into.
        advice: what to change, the most promising first.
        fixes: remedies that were applied.
        runtime: how it runs where a search found more than a recipe; ``None``: as the settings say.
        energy: energy per inference of both models; ``None`` where it was not looked into.
    """

    id: str
    target: str
    recipe: Recipe
    artifact: Artifact | None
    stages: tuple[Stage, ...]
    verdicts: tuple[Verdict, ...]
    required_gates: tuple[str, ...]
    promoted: bool
    promotion_blocked_by: tuple[str, ...]
    known_failures: Mapping[str, str] = field(default_factory=dict)
    unavailable: str = ""
    demanded: bool = False
    gate_seconds: Mapping[str, float] = field(default_factory=dict)
    profile: CandidateProfile | None = None
    advice: tuple[Advice, ...] = ()
    fixes: tuple[FixAttempt, ...] = ()
    energy: EnergyReport | None = None
    runtime: RuntimeOptions | None = None


@dataclass(frozen=True)
class ModelReport:
    """One model of the manifest.

    Attributes:
        name: its name in the manifest.
        sha256: digest of the model's files; empty where they could not be read.
        task: Hugging Face task name.
        baseline_framework: the framework that runs the baseline.
        baseline_path: the baseline's file.
        baseline_precision: the dtype of most of its weights; empty where it is not known.
        effort: what its gates take in data and time, planned before anything was optimized, as the
            JSON of :class:`~pytest_edgeai.report.effort.ModelEffort`; ``None`` where that was not
            planned.
        baseline_stage: how the baseline measured; ``None`` where it was not measured.
        candidates: in the order of the plan.
        problem: why no candidate could be gated; empty where there is no such problem.
        searches: target name to the search for it.
        weights: objective name to what it counts for in the recommendation.
    """

    name: str
    sha256: str
    task: str
    baseline_framework: str
    baseline_path: Path
    baseline_stage: Stage | None
    candidates: tuple[CandidateReport, ...]
    problem: str = ""
    baseline_precision: str = ""
    effort: JSON = None
    searches: Mapping[str, SearchReport] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_WEIGHTS))


@dataclass(frozen=True)
class Report:
    """One session.

    Attributes:
        created: ISO 8601 time in UTC.
        tool_version: version of this package.
        hosts: the host seen from each target of the session.
        command: the command line.
        settings: setting name to ``(value, origin)`` for what differs from the default.
        models: in the order of the manifest.
        evidence_directory: raw samples and facts.
        evidence_sha256: digest over the names and bytes of the evidence files.
        notes: what the reader should know about this session, one sentence each.
    """

    created: str
    tool_version: str
    hosts: tuple[HostReport, ...]
    command: tuple[str, ...]
    settings: Mapping[str, tuple[str, str]]
    models: tuple[ModelReport, ...]
    evidence_directory: Path
    evidence_sha256: str
    notes: tuple[str, ...] = ()
