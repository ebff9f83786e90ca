from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.judge.verdict import worst_by_gate
from pytest_edgeai.records import Artifact, Recipe, Verdict
from pytest_edgeai.report.content import CandidateReport, Report
from pytest_edgeai.report.ranking import PARETO_GATES, pareto_front, recommended


@pytest.fixture(name="passed")
def passed_fixture(typical: Report) -> CandidateReport:
    return typical.models[0].candidates[0]


def with_figures(
    candidate: CandidateReport, name: str, figures: tuple[float | None, ...]
) -> CandidateReport:
    by_gate = worst_by_gate(candidate.verdicts)
    verdicts = tuple(
        dataclasses.replace(by_gate[gate], observed=value)
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
