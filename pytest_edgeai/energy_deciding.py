"""The gate of energy: what is measured and which rule judges it."""

from __future__ import annotations

from pytest_edgeai.energy_measurements import energy, keep_report
from pytest_edgeai.judge.energy import GATE, energy_decided, judge_energy
from pytest_edgeai.judge.verdict import make_verdict
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.records import Threshold, Verdict
from pytest_edgeai.workbench import Workbench


def decide_energy_retained(
    bench: Workbench, candidate: PlannedCandidate, threshold: Threshold
) -> Verdict:
    """Energy per inference in turns with the baseline, by counters; an estimate never passes."""
    if threshold.value is None:
        # Nobody waits for a measurement that nothing is asked of.
        return make_verdict(
            GATE, "not_applicable", threshold, unit="ratio", reason="no limit is set"
        )
    samples, spent = energy(
        bench,
        candidate,
        lambda taken: energy_decided(taken, threshold),
        budget_s=bench.session.settings.budget,
    )
    keep_report(bench, candidate, samples)
    return judge_energy(samples, threshold, budget_spent=spent)
