"""Which candidates may be promoted, and which of them are worth choosing."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pytest_edgeai.judge.verdict import worst_by_gate
from pytest_edgeai.report.content import CandidateReport

PARETO_GATES = ("speedup", "accuracy_retained", "memory_cut")
"""Gates whose observed values are traded against each other; more is better for each."""


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


def _figures(candidate: CandidateReport) -> tuple[float, ...] | None:
    """Return the observed value of each gate in ``PARETO_GATES``; ``None`` where one is missing."""
    worst = worst_by_gate(candidate.verdicts)
    figures = []
    for gate in PARETO_GATES:
        verdict = worst.get(gate)
        if verdict is None or verdict.observed is None or not math.isfinite(verdict.observed):
            return None
        figures.append(verdict.observed)
    return tuple(figures)


def pareto_front(candidates: Sequence[CandidateReport]) -> tuple[CandidateReport, ...]:
    """Return the promotable candidates that no other promotable one dominates, in their order.

    One candidate dominates another where it is at least as good in every figure of ``PARETO_GATES``
    and better in one. A candidate without all of these figures cannot be compared and is left out.
    """
    compared = [
        (candidate, figures)
        for candidate in candidates
        if may_be_promoted(candidate) and (figures := _figures(candidate)) is not None
    ]
    return tuple(
        candidate
        for candidate, figures in compared
        if not any(
            other != figures and all(o >= f for o, f in zip(other, figures, strict=True))
            for _, other in compared
        )
    )


def recommended(candidates: Sequence[CandidateReport]) -> CandidateReport | None:
    """Return the only promotable candidate, or the fastest on the Pareto front, or ``None``."""
    promotable = [candidate for candidate in candidates if may_be_promoted(candidate)]
    if len(promotable) == 1:
        return promotable[0]
    front = [(figures[0], c) for c in pareto_front(candidates) if (figures := _figures(c))]
    return max(front, key=lambda pair: pair[0])[1] if front else None
