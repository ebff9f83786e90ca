"""Which candidates may be promoted, and which of them are worth choosing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pytest_edgeai.judge.verdict import worst_by_gate
from pytest_edgeai.plan.pareto import Point, front, recommend
from pytest_edgeai.report.content import CandidateReport
from pytest_edgeai.search_records import DEFAULT_WEIGHTS, Figure

PARETO_GATES = ("speedup", "accuracy_retained", "memory_cut")
"""Gates whose observed values are traded against each other, under the names of the objectives."""
ENERGY = "energy_retained"
OBJECTIVES = (*PARETO_GATES, ENERGY)
"""Likewise, with what is compared only where it was measured of every candidate."""


def gates_not_run(candidate: CandidateReport) -> tuple[str, ...]:
    """Return the required gates that have no verdict, in their order."""
    ran = {verdict.gate for verdict in candidate.verdicts}
    return tuple(dict.fromkeys(g for g in candidate.required_gates if g not in ran))


def may_be_promoted(candidate: CandidateReport) -> bool:
    """Return whether there is an artifact, a required gate, and nothing that blocks promotion."""
    return (
        candidate.artifact is not None
        and bool(candidate.required_gates)
        and not candidate.promotion_blocked_by
    )


def figures_of(candidate: CandidateReport) -> dict[str, Figure]:
    """Return objective name to what was measured: by its gate, or of energy by counters.

    Energy that was estimated from CPU time counts for nothing here. An estimate without an interval
    is open on both sides: nothing is said of how far it can be trusted, so it surpasses nothing and
    is surpassed by nothing.
    """
    worst = worst_by_gate(candidate.verdicts)
    found = {}
    for gate in PARETO_GATES:
        verdict = worst.get(gate)
        if verdict is None or verdict.observed is None or not math.isfinite(verdict.observed):
            continue
        low, high = (_bound(bound) for bound in verdict.interval or (None, None))
        found[gate] = Figure(verdict.observed, low, high)
    energy = candidate.energy
    if energy is not None and energy.method.measured and math.isfinite(energy.ratio):
        low, high = (_bound(bound) for bound in energy.interval)
        found[ENERGY] = Figure(energy.ratio, low, high)
    return found


def _bound(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _compared(candidates: Sequence[CandidateReport]) -> list[tuple[CandidateReport, Point]]:
    """Return the promotable candidates that can be compared, as points.

    Compared is what the gates of any of them observed; a candidate that lacks one of these is left
    out. Energy counts where it was measured of all that are left.
    """
    known = [(c, figures_of(c)) for c in candidates if may_be_promoted(c)]
    gates = {gate for _, figures in known for gate in figures if gate in PARETO_GATES}
    able = [(c, figures) for c, figures in known if gates and gates <= set(figures)]
    shared = set(gates).union(
        gate for gate in OBJECTIVES if able and all(gate in figures for _, figures in able)
    )
    return [
        (
            candidate,
            Point(
                # Two targets can have the same recipe; the number keeps even those apart.
                f"{candidate.id}\0{candidate.target}\0{number:06d}",
                {gate: figure for gate, figure in figures.items() if gate in shared},
                candidate.artifact.size_bytes if candidate.artifact else 0,
            ),
        )
        for number, (candidate, figures) in enumerate(able)
    ]


def pareto_front(candidates: Sequence[CandidateReport]) -> tuple[CandidateReport, ...]:
    """Return the promotable candidates that no other promotable one dominates, in their order.

    A candidate is dominated only where the intervals say so, see
    :func:`pytest_edgeai.plan.pareto.dominates`. One that lacks a figure which another one has
    cannot be compared and is left out.
    """
    compared = _compared(candidates)
    kept = {point.id for point in front([point for _, point in compared])}
    return tuple(candidate for candidate, point in compared if point.id in kept)


def recommended(
    candidates: Sequence[CandidateReport], weights: Mapping[str, float] = DEFAULT_WEIGHTS
) -> CandidateReport | None:
    """Return the only promotable candidate, or the one that serves the weights best, or ``None``.

    Measuring again does not move the choice between candidates that the intervals cannot tell
    apart, see :func:`pytest_edgeai.plan.pareto.recommend`.
    """
    promotable = [candidate for candidate in candidates if may_be_promoted(candidate)]
    if len(promotable) == 1:
        return promotable[0]
    compared = _compared(candidates)
    best = recommend([point for _, point in compared], weights)
    return next((c for c, point in compared if best is not None and point.id == best.id), None)
