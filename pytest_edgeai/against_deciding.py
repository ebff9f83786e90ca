"""The gates of ``--edge-against``: no slower and no less accurate than what was promoted before.

The judges are those of ``speedup`` and ``accuracy_retained``, with the promoted artifact in the
baseline's place.
"""

from __future__ import annotations

from dataclasses import replace

from pytest_edgeai import measurements, timing
from pytest_edgeai.against import Reference, reference_of
from pytest_edgeai.judge.quality import judge_accuracy
from pytest_edgeai.judge.speed import judge_speed, speed_decided
from pytest_edgeai.judge.verdict import make_verdict
from pytest_edgeai.language_deciding import with_agreement, with_token_rates
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.records import Threshold, Verdict
from pytest_edgeai.workbench import Workbench

NO_SLOWER = "no_slower"
NO_LESS_ACCURATE = "no_less_accurate"


def decide_no_slower(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold
) -> Verdict:
    """Latency of the promoted artifact / the candidate's, timed in turns with each other."""
    found = _nothing_to_compare(bench, candidate, threshold, NO_SLOWER)
    if isinstance(found, Verdict):
        return found
    mode, threads = bench.session.settings.clock, candidate.threads(bench.session.settings.threads)
    timings, spent = timing.timings(
        bench,
        found.candidate,
        lambda rounds: speed_decided(rounds, threshold, mode=mode, threads=threads),
    )
    verdict = judge_speed(
        timings, threshold, budget_spent=spent, mode=mode, threads=threads, gate=NO_SLOWER
    )
    verdict = with_token_rates(bench, found.candidate, verdict, timings, "decode")
    return _told(verdict, found, NO_SLOWER)


def decide_no_less_accurate(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold
) -> Verdict:
    """Paired predictions of the candidate and the promoted artifact on the same samples."""
    found = _nothing_to_compare(bench, candidate, threshold, NO_LESS_ACCURATE)
    if isinstance(found, Verdict):
        return found
    scores, _ = measurements.quality(bench, found.candidate)
    verdict = with_agreement(bench, found.candidate, judge_accuracy(scores, threshold))
    return _told(verdict, found, NO_LESS_ACCURATE)


def _nothing_to_compare(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold, gate: str
) -> Reference | Verdict:
    """Return the reference, or the verdict where there is nothing to compare."""
    unit = bench.session.catalogue.gates[gate].unit
    if bench.session.settings.against is None:
        reason = "compares with a promoted candidate, which --edge-against names"
        return make_verdict(gate, "not_applicable", threshold, unit=unit, reason=reason)
    reference = reference_of(bench, candidate)
    if bench.artifact(candidate).sha256 != reference.promoted.sha256:
        return reference
    verdict = make_verdict(
        gate,
        "not_applicable",
        threshold,
        unit=unit,
        reason="the candidate is the promoted artifact itself, byte for byte",
    )
    return _told(verdict, reference, gate)


def _told(verdict: Verdict, reference: Reference, gate: str) -> Verdict:
    """Return a judge's verdict as that of ``gate``, which says what it compared with."""
    promoted = reference.promoted
    compared = (
        f"compared with {promoted.recipe_id}, promoted {promoted.created[:10]} "
        f"(artifact {promoted.sha256[:12]})"
    )
    if verdict.outcome != "not_applicable":
        compared += " and measured anew here"
    if reference.differences:
        compared += f"; its own figures do not count: {', '.join(reference.differences)}"
    return replace(
        verdict,
        gate=gate,
        reason=f"{_reworded(verdict.reason)}; {compared}",
        advice=_reworded(verdict.advice),
        details={
            **verdict.details,
            "reference": {
                "created": promoted.created,
                "candidate": promoted.recipe_id,
                "framework": promoted.framework,
                "artifact_sha256": promoted.sha256,
                "differences": list(reference.differences),
            },
        },
    )


def _reworded(text: str) -> str:
    """Return a judge's sentence with the name of what stands in the baseline's place."""
    return text.replace("the baseline", "the promoted artifact")
