from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.energy_records import EnergyMethod, EnergyReport
from pytest_edgeai.judge.verdict import worst_by_gate
from pytest_edgeai.records import Artifact, Recipe, Verdict
from pytest_edgeai.report.content import CandidateReport, Report
from pytest_edgeai.report.ranking import PARETO_GATES, pareto_front, recommended


@pytest.fixture(name="passed")
def passed_fixture(typical: Report) -> CandidateReport:
    return typical.models[0].candidates[0]


def with_figures(
    candidate: CandidateReport,
    name: str,
    figures: tuple[float | None, ...],
    half: float = 0.0,
) -> CandidateReport:
    """Return the candidate with other figures, each within ``half`` to both sides."""
    by_gate = worst_by_gate(candidate.verdicts)
    verdicts = tuple(
        dataclasses.replace(
            by_gate[gate],
            observed=value,
            interval=None if value is None else (value - half, value + half),
        )
        for gate, value in zip(PARETO_GATES, figures, strict=True)
    )
    return dataclasses.replace(candidate, id=name, verdicts=verdicts)


def test_the_front_is_what_no_other_candidate_beats(passed: CandidateReport) -> None:
    fast = with_figures(passed, "fast", (3.0, 0.96, 0.6))
    small = with_figures(passed, "small", (2.0, 0.96, 0.8))
    beaten = with_figures(passed, "beaten", (1.9, 0.96, 0.8))
    unknown = with_figures(passed, "unknown", (9.0, None, 0.9))
    blocked = dataclasses.replace(
        with_figures(passed, "blocked", (9.0, 1.0, 0.9)), promotion_blocked_by=("speedup",)
    )
    everyone = (beaten, small, unknown, fast, blocked)
    assert pareto_front(everyone) == (small, fast)
    assert recommended(everyone) == fast


def test_intervals_that_overlap_dominate_nothing(passed: CandidateReport) -> None:
    sure = tuple(
        with_figures(passed, name, figures, 0.01)
        for name, figures in (("good", (3.0, 0.98, 0.6)), ("bad", (2.0, 0.98, 0.6)))
    )
    assert [c.id for c in pareto_front(sure)] == ["good"]
    unsure = tuple(
        with_figures(passed, name, figures, 0.6)
        for name, figures in (("good", (3.0, 0.98, 0.6)), ("bad", (2.0, 0.98, 0.6)))
    )
    assert pareto_front(unsure) == unsure


def test_an_estimate_without_an_interval_surpasses_nothing(passed: CandidateReport) -> None:
    sound = with_figures(passed, "sound", (2.0, 0.98, 0.6))
    fast = with_figures(passed, "fast", (4.0, 0.98, 0.6))
    bare = dataclasses.replace(
        fast, verdicts=tuple(dataclasses.replace(v, interval=None) for v in fast.verdicts)
    )
    assert pareto_front((sound, fast)) == (fast,)
    assert pareto_front((sound, bare)) == (sound, bare)


def test_a_gate_that_nobody_met_keeps_nobody_out(passed: CandidateReport) -> None:
    """Models below 8 MiB have no figure of memory."""
    fast = with_figures(passed, "fast", (3.0, 0.96, None))
    slow = with_figures(passed, "slow", (2.0, 0.96, None))
    assert pareto_front((slow, fast)) == (fast,)
    assert recommended((slow, fast)) == fast


def test_weights_choose_on_the_front(passed: CandidateReport) -> None:
    fast = with_figures(passed, "fast", (4.0, 0.96, 0.5), 0.001)
    exact = with_figures(passed, "exact", (2.0, 1.0, 0.5), 0.001)
    assert pareto_front((fast, exact)) == (fast, exact)
    assert recommended((fast, exact), {"speedup": 1.0}) == fast
    assert recommended((fast, exact), {"accuracy_retained": 1.0}) == exact


def test_energy_counts_only_where_all_have_it(passed: CandidateReport) -> None:
    def with_energy(
        candidate: CandidateReport, ratio: float, *, measured: bool = True
    ) -> CandidateReport:
        method = EnergyMethod(("RAPL",) if measured else ("CPU time",), measured, {}, "")
        energy = EnergyReport(1.0, ratio, ratio, (ratio, ratio), 0.95, 40, method)
        return dataclasses.replace(candidate, energy=energy)

    fast = with_figures(passed, "fast", (3.0, 0.96, 0.6))
    slow = with_figures(passed, "slow", (2.0, 0.96, 0.6))
    assert pareto_front((fast, with_energy(slow, 0.1))) == (fast,)
    assert len(pareto_front((with_energy(fast, 0.5), with_energy(slow, 0.1)))) == 2
    assert len(pareto_front((with_energy(fast, 0.1), with_energy(slow, 0.5)))) == 1
    estimated = tuple(with_energy(c, r, measured=False) for c, r in ((fast, 0.5), (slow, 0.1)))
    assert pareto_front(estimated) == estimated[:1], "an estimate decides nothing"


def test_measuring_again_does_not_move_the_recommendation(passed: CandidateReport) -> None:
    """Of two that the intervals cannot tell apart, the smaller artifact is chosen every time."""
    chance = random.Random(11)
    assert passed.artifact is not None
    small = dataclasses.replace(passed.artifact, size_bytes=1000)
    chosen = []
    for _ in range(100):
        first = with_figures(passed, "a", (chance.gauss(2.5, 0.02), 0.98, 0.6), 0.05)
        second = with_figures(passed, "b", (chance.gauss(2.5, 0.02), 0.98, 0.6), 0.05)
        best = recommended((first, dataclasses.replace(second, artifact=small)))
        chosen.append(best.id if best else "")
    assert set(chosen) == {"b"}


def test_equals_share_the_front(passed: CandidateReport) -> None:
    twins = tuple(with_figures(passed, name, (2.0, 0.97, 0.6)) for name in "ab")
    assert pareto_front(twins) == twins
    assert recommended(twins) == twins[0]


def test_the_only_promotable_candidate_is_recommended_whatever_is_known(
    passed: CandidateReport,
) -> None:
    only = with_figures(passed, "only", (None, None, None))
    assert pareto_front((only,)) == ()
    assert recommended((only,)) == only
    assert recommended((only, dataclasses.replace(only, id="other"))) is None
    assert recommended(()) is None


FIGURES = st.lists(st.tuples(*[st.integers(0, 3).map(float)] * 3), min_size=1, max_size=6)


@given(figures=FIGURES)
def test_every_candidate_left_out_is_beaten_by_one_on_the_front(
    figures: list[tuple[float, float, float]],
) -> None:
    path = Path("m")
    artifact = Artifact(path, (path,), "f", "int8", "ab", 1, "k", False, 0.0, {})
    verdicts = tuple(
        Verdict(gate, "pass", 1.0, None, None, None, "at_least", "ratio", 1, "")
        for gate in PARETO_GATES
    )
    base = CandidateReport(
        "x", "intel", Recipe("f", "s"), artifact, (), verdicts, PARETO_GATES, False, ()
    )
    candidates = [with_figures(base, str(i), f) for i, f in enumerate(figures)]
    front = {int(c.id) for c in pareto_front(candidates)}
    assert front
    for index, own in enumerate(figures):
        beaten = any(
            figures[f] != own and all(a >= b for a, b in zip(figures[f], own, strict=True))
            for f in front
        )
        assert beaten == (index not in front)
