"""What the rules of advice are told about a candidate: read from its evidence, never measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_edgeai.advice_records import Advice, FixAttempt
from pytest_edgeai.errors import UserError
from pytest_edgeai.evidence import EvidenceStore
from pytest_edgeai.judge.advice import advise
from pytest_edgeai.judge.advice_situation import Calibration, Schemes, Situation
from pytest_edgeai.measurements import memory_from_json
from pytest_edgeai.optimize.frameworks.support import DEFAULT_CALIBRATION_CALLS
from pytest_edgeai.plan.compatibility import CONVERT, framework_refusal, scheme_fits
from pytest_edgeai.plan.recipes import NEEDS_CALIBRATION
from pytest_edgeai.plan.selection import PlannedCandidate, wrong_system
from pytest_edgeai.planning import INT8_FEATURES
from pytest_edgeai.profile_json import profile_from_json
from pytest_edgeai.provenance import DATA_RECORD, INPUT_RECORD
from pytest_edgeai.records import (
    JSON,
    OutputSanity,
    PrecisionFacts,
    Stage,
    Verdict,
)
from pytest_edgeai.sensitivity_records import LAYER_OPTIONS, LayerSensitivity, Sensitivity
from pytest_edgeai.session import Session
from pytest_edgeai.specification import DataSource

SENSITIVITY_RECORD = "sensitivity"
"""Name of the record in a candidate's evidence, beside what was measured of it."""
FIXES_RECORD = "fixes"
_HELPLESS = frozenset({"fail", "error", "inconclusive", "proxy"})


def advice_for(
    session: Session,
    evidence: EvidenceStore,
    candidate: PlannedCandidate,
    verdicts: Sequence[Verdict],
    stages: Sequence[Stage],
) -> tuple[Advice, ...]:
    """Return what to change about a candidate, the most promising first.

    Nothing is measured for it: without a profile the rules that need one say nothing.
    """
    if all(verdict.outcome not in _HELPLESS for verdict in verdicts):
        return ()
    return advise(situation_of(session, evidence, candidate, verdicts, stages))


def situation_of(
    session: Session,
    evidence: EvidenceStore,
    candidate: PlannedCandidate,
    verdicts: Sequence[Verdict],
    stages: Sequence[Stage],
) -> Situation:
    """Return everything that is known of a candidate."""
    spec = candidate.model
    facts = session.facts[spec.name]
    place = f"{spec.name}/{candidate.comparison}"
    artifact = evidence.read_record(f"{place}/artifact") or {}
    memory = evidence.read_record(f"{place}/memory")
    quality = evidence.read_record(f"{place}/quality")
    profiled = evidence.read_record(f"{place}/profile")
    data = evidence.read_record(f"{spec.name}/{DATA_RECORD}") or {}
    fed = evidence.read_record(f"{spec.name}/{INPUT_RECORD}") or {}
    usable = usable_schemes(session, candidate)
    return Situation(
        model=spec.name,
        task=spec.task,
        recipe=candidate.recipe,
        host=session.host,
        facts=facts,
        verdicts={verdict.gate: verdict for verdict in verdicts},
        usable=usable,
        listed=tuple(recipe.id for recipe in spec.recipes or ()),
        taken=tuple(c.recipe.id for c in session.candidates if c.model.name == spec.name),
        claimed_precision=artifact.get("claimed_precision", ""),
        precision=_precision(evidence.read_record(f"{place}/precision")),
        artifact_bytes=artifact.get("size_bytes"),
        log=tuple(artifact.get("log", ())),
        versions=session.installations.probe(candidate.recipe.framework).versions,
        profile=profile_from_json(profiled) if profiled is not None else None,
        stages={stage.name: stage for stage in stages},
        memory=memory_from_json(memory["samples"]) if memory is not None else None,
        sanity=_sanity(quality["sanity"]) if quality is not None else None,
        sensitivity=_sensitivity(evidence.read_record(f"{place}/{SENSITIVITY_RECORD}")),
        calibration=_calibration(session, candidate, data.get("calibration"), fed),
        evaluation_samples=(data.get("evaluation") or {}).get("samples"),
        data_source=_source(spec.data, session),
        samples_per_call=fed.get("samples_per_call", 1),
        batch_is_open=fed.get("batch_is_open", False),
        threads=candidate.threads(session.settings.threads),
        clock=session.settings.clock,
        budget_s=session.settings.budget,
        context_length=spec.context_length
        or (facts.language.context_length if facts.language else None),
        baseline_framework=candidate.baseline_framework,
        multiplies_int8=bool(INT8_FEATURES & set(session.host.simd)) if session.host.simd else None,
        accelerated_by={
            name: framework.accelerators
            for name, framework in session.catalogue.frameworks.items()
            if framework.accelerators and name in usable
        },
        layer_option=layer_option_of(session, candidate),
    )


def layer_option_of(session: Session, candidate: PlannedCandidate) -> str:
    """Return the option of a recipe that leaves layers alone; empty where it has none."""
    framework = session.catalogue.frameworks[candidate.recipe.framework]
    known = framework.options.get(candidate.recipe.scheme, ())
    return next((name for name in LAYER_OPTIONS if name in known), "")


def usable_schemes(session: Session, candidate: PlannedCandidate) -> dict[str, Schemes]:
    """Return framework name to the schemes that can be made of a candidate's model here."""
    spec, facts = candidate.model, session.facts[candidate.model.name]
    usable: dict[str, Schemes] = {}
    for name, framework in session.catalogue.frameworks.items():
        if framework_refusal(facts, framework, spec.task) or wrong_system(framework, session.host):
            continue
        if _is_missing(session, name):
            continue
        usable[name] = {
            scheme: framework.options.get(scheme)
            for scheme, fit in scheme_fits(facts, framework, spec.task).items()
            if fit.possible
            and scheme != CONVERT
            and (scheme not in NEEDS_CALIBRATION or spec.calibration is not None)
        }
    return usable


def _is_missing(session: Session, framework: str) -> bool:
    try:
        return bool(session.installations.missing(framework))
    except UserError:
        # The manifest names an interpreter that cannot be used, for a framework not asked for.
        return True


def _calibration(
    session: Session, candidate: PlannedCandidate, facts: JSON, fed: Mapping[str, JSON]
) -> Calibration | None:
    source = candidate.model.calibration
    if facts is None or source is None:
        return None
    available = max(1, facts["samples"] // fed.get("samples_per_call", 1))
    asked = candidate.recipe.options.get("calibration_calls", DEFAULT_CALIBRATION_CALLS)
    return Calibration(
        samples=facts["samples"],
        source=_source(source, session),
        calls_used=min(int(asked), available),
        calls_available=available,
        not_finite=fed.get("not_finite"),
        outlier_ratio=fed.get("outlier_ratio"),
    )


def _source(source: DataSource, session: Session) -> str:
    """Return a source of samples as the manifest may name it."""
    if source.path is None:
        return source.reference or ""
    directory = session.manifest.directory
    inside = source.path.is_relative_to(directory)
    return (source.path.relative_to(directory) if inside else source.path).as_posix()


def _precision(record: Mapping[str, Any] | None) -> PrecisionFacts | None:
    if record is None:
        return None
    return PrecisionFacts(**{**record, "executed_devices": tuple(record["executed_devices"])})


def _sanity(record: Mapping[str, Any]) -> OutputSanity:
    names = ("contract_breaches", "constant_outputs", "collapsed_classes")
    return OutputSanity(**{**record, **{name: tuple(record[name]) for name in names}})


def _sensitivity(record: Mapping[str, Any] | None) -> Sensitivity | None:
    if record is None:
        return None
    return Sensitivity(
        **{**record, "layers": tuple(LayerSensitivity(**each) for each in record["layers"])}
    )


def fixes_of(evidence: EvidenceStore, candidate: PlannedCandidate) -> tuple[FixAttempt, ...]:
    """Return the remedies that were applied to a candidate in this session."""
    record = evidence.read_record(f"{candidate.model.name}/{candidate.node}/{FIXES_RECORD}")
    return tuple(attempt_from_json(raw) for raw in (record or {}).get("attempts", ()))


def attempt_from_json(raw: Mapping[str, Any]) -> FixAttempt:
    """Return the record that :func:`~pytest_edgeai.records.to_json` was given."""
    figures = {
        side: {gate: tuple(figure) for gate, figure in raw[side].items()}
        for side in ("before", "after")
    }
    return FixAttempt(**{**raw, **figures, "applied": tuple(raw["applied"])})
