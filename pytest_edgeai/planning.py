"""What a session says of its plan: in pytest's header, in ``--edge-plan`` and in the notes."""

from __future__ import annotations

from pytest_edgeai.plan.compatibility import quantization_compatibility
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.plan.targets import framework_order, framework_proxy_reason
from pytest_edgeai.records import HostFacts
from pytest_edgeai.report.plan import PlanContent, PlannedGate, PlannedModel
from pytest_edgeai.session import Session
from pytest_edgeai.specification import ModelSpec

INT8_FEATURES = frozenset(
    {"avx_vnni", "avx512_vnni", "avx_vnni_int8", "amx_int8", "asimddp", "i8mm", "svei8mm"}
)
"""SIMD features that multiply and add INT8 in one step; INT8 is fast where there is one of them."""


def host_warnings(host: HostFacts) -> tuple[str, ...]:
    """Return what a reader of speed figures should know about the host."""
    if not host.simd or INT8_FEATURES & set(host.simd):
        return ()
    return (
        "this CPU multiplies INT8 in no single step (no VNNI, AMX or ARM dot product), so that an "
        "INT8 model may honestly miss the speed gate here",
    )


def proxied_frameworks(session: Session) -> tuple[str, ...]:
    """Return why the speed of planned frameworks says nothing about their targets, one line each.

    A host that is not of the target's kind is another matter, and the session's ``proxies`` say so.
    """
    lines = []
    for candidate in session.candidates:
        if session.proxies[candidate.target.name] or candidate.unavailable:
            continue
        framework = session.catalogue.frameworks[candidate.recipe.framework]
        reason = framework_proxy_reason(framework, candidate.target, session.host)
        if reason:
            lines.append(
                f"{framework.name} is a proxy for {candidate.target.name} on this host: {reason}"
            )
    return tuple(dict.fromkeys(lines))


def left_out(session: Session) -> tuple[str, ...]:
    """Return what ``--edge-target=all`` does not gate for and why, one line per reason."""
    models: dict[tuple[str, str], list[str]] = {}
    for each in session.unserved:
        models.setdefault((each.target, each.reason), []).append(each.model)
    lines = []
    for (target, reason), names in models.items():
        some = "" if set(names) == set(session.facts) else f"{', '.join(names)} is "
        lines.append(f"{some}not gated for {target}: {reason}")
    return tuple(lines)


def plan_content(session: Session) -> PlanContent:
    """Return everything that ``--edge-plan`` prints."""
    specs = {model.name: model for model in session.manifest.models}
    return PlanContent(
        host=session.host,
        targets=[
            (f"{each.name}: {each.title}", _remarks(session, each.name)) for each in session.targets
        ],
        models=[
            _planned(session, specs[name]) for name in session.facts if name not in session.problems
        ],
        problems={name: str(problem) for name, problem in session.problems.items()},
        warnings=(*left_out(session), *host_warnings(session.host)),
    )


def _remarks(session: Session, target: str) -> list[str]:
    reason = session.proxies[target]
    note = session.catalogue.targets[target].note
    stands = f"this host is a proxy: {reason}" if reason else "this host is of its kind"
    return [text for text in (note, stands) if text]


def _planned(session: Session, model: ModelSpec) -> PlannedModel:
    # Planning judges, which imports SciPy; the header of every session needs none of it.
    from pytest_edgeai.effort import effort_before_run

    facts = session.facts[model.name]
    candidates = [each for each in session.candidates if each.model.name == model.name]
    order = [
        name
        for target in session.targets
        if model.targets is None or target.name in model.targets
        for name in framework_order(target, model.task, facts.parameters)
    ]
    asked = dict.fromkeys([*order, *(each.recipe.framework for each in candidates)])
    frameworks = session.catalogue.frameworks
    return PlannedModel(
        name=model.name,
        task=model.task,
        facts=facts,
        path=session.decisions.get(model.name, ()),
        candidates=[(each, _gates(session, each)) for each in candidates],
        compatibility={
            name: quantization_compatibility(facts, frameworks[name], model.task)
            for name in asked
            if name in frameworks
        },
        effort=effort_before_run(session, model, facts),
    )


def _gates(session: Session, candidate: PlannedCandidate) -> list[PlannedGate]:
    gates = []
    for name in session.gates_of(candidate):
        threshold, is_on = session.threshold(candidate, name)
        gates.append(PlannedGate(name, threshold, session.catalogue.gates[name].unit, is_on))
    return gates
