"""Reach one verdict: measure and judge a gate, weigh the host, and keep the evidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pytest_edgeai.descriptors import GateDescriptor
from pytest_edgeai.errors import EdgeAIError, NotCertified
from pytest_edgeai.gate_selection import other_task
from pytest_edgeai.judge.verdict import make_verdict
from pytest_edgeai.measure.dataset import import_reference
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.profiling import is_asked, try_profile
from pytest_edgeai.records import Threshold, Verdict
from pytest_edgeai.workbench import Workbench


def reach_verdict(
    bench: Workbench, candidate: PlannedCandidate, gate_name: str, *, marker: float | None = None
) -> Verdict:
    """Measure, judge and record one gate; every failure to measure is an ``error`` verdict.

    Args:
        bench: makes and measures.
        candidate: what is judged.
        gate_name: name of the gate.
        marker: the limit that a marker or a call set; ``None`` for the session's.
    """
    gate = bench.session.catalogue.gates[gate_name]
    threshold, on = bench.session.threshold(candidate, gate_name, marker=marker)
    if not on:
        verdict = make_verdict(
            gate_name,
            "not_applicable",
            threshold,
            unit=gate.unit,
            reason=f"switched off ({threshold.origin})",
        )
    elif missing := bench.session.not_asked(candidate, gate) or other_task(gate, candidate.model):
        verdict = make_verdict(
            gate_name, "not_applicable", threshold, unit=gate.unit, reason=missing
        )
    else:
        try:
            decide = import_reference(
                gate.decide, bench.session.manifest.directory, f"gate {gate_name}"
            )
            verdict = _decided(bench, candidate, gate, threshold, decide)
        except NotCertified as error:
            verdict = make_verdict(
                gate_name,
                "inconclusive",
                threshold,
                unit=gate.unit,
                reason=f"not certified: {' '.join(error.what.split())}",
                advice=error.advice,
            )
        except EdgeAIError as error:
            tail = getattr(error, "output_tail", "")
            verdict = make_verdict(
                gate_name,
                "error",
                threshold,
                unit=gate.unit,
                reason=f"could not be measured: {' '.join(str(error).split())}",
                details={"output_tail": tail} if tail else {},
            )
    verdict = replace(verdict, threshold_origin=threshold.origin)
    if gate.measures_speed and candidate.proxy_reason:
        verdict = on_proxy(
            verdict, candidate.proxy_reason, allowed=bench.session.settings.allow_proxy
        )
    name = f"{gate_name}-marker" if marker is not None else gate_name
    place = f"{candidate.model.name}/{candidate.node}/verdicts/{name}"
    verdict = _recorded(bench, place, verdict)
    bench.on_verdict(candidate, verdict)
    was_measured = verdict.outcome not in ("error", "not_applicable")
    if was_measured and is_asked(bench, timed=gate.measures_speed):
        try_profile(bench, candidate)
    return verdict


def _decided(
    bench: Workbench,
    candidate: PlannedCandidate,
    gate: GateDescriptor,
    threshold: Threshold,
    decide: Callable[[Workbench, PlannedCandidate, Threshold], Verdict],
) -> Verdict:
    """Return what a gate decides; targets that share a recipe share what was timed, too.

    Deciding anew would spend the budget once more where the first one was inconclusive. A test that
    is run again decides anew, because that is what it is run again for.
    """
    if not gate.measures_speed or gate.only_against:
        # What was promoted before can differ from target to target.
        return decide(bench, candidate, threshold)
    key = ("speed", candidate.model.name, candidate.recipe.id, gate.name, repr(threshold))
    known: dict[str, Verdict] = bench.once(key, dict)
    if candidate.node in known or not known:
        known[candidate.node] = decide(bench, candidate, threshold)
    else:
        settled = [verdict for verdict in known.values() if verdict.outcome != "inconclusive"]
        known[candidate.node] = (settled or list(known.values()))[0]
    return known[candidate.node]


def _recorded(bench: Workbench, place: str, verdict: Verdict) -> Verdict:
    """Return the verdict with its evidence written; one that cannot be traced is no pass."""
    try:
        bench.evidence.write_record(place, verdict)
    except EdgeAIError as error:
        if verdict.outcome != "pass":
            bench.progress.note(f"the evidence is incomplete: {error}")
            return verdict
        return replace(verdict, outcome="error", reason=f"its evidence cannot be kept: {error}")
    return verdict


def on_proxy(verdict: Verdict, proxy_reason: str, *, allowed: bool) -> Verdict:
    """Return what a speed verdict is worth on a host that is not of the target's kind.

    A proxy never certifies speed, so a pass always reads ``proxy``. A failure does so too, unless
    the user asked for the proxy's word: then its "no" counts.
    """
    if verdict.outcome in ("error", "not_applicable"):
        return verdict
    if allowed and verdict.outcome in ("fail", "inconclusive"):
        return replace(verdict, reason=f"{verdict.reason}; measured on a proxy: {proxy_reason}")
    if verdict.outcome == "proxy":
        return replace(verdict, reason=f"{verdict.reason}; this host is a proxy: {proxy_reason}")
    return replace(
        verdict,
        outcome="proxy",
        reason=(
            f"this host is a proxy: {proxy_reason}. "
            f"Here it would be {verdict.outcome}: {verdict.reason}"
        ),
        advice="measure on a host of the target's kind, or accept this one with --edge-allow-proxy",
        details={**verdict.details, "outcome_on_proxy": verdict.outcome},
    )
