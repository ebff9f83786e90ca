"""The planted cases say of themselves what is true of them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.selfcheck.cases import (
    CASES,
    STEPS,
    CheckedCase,
    TimedCase,
    UncoveredCase,
    WatchedCase,
    share_of_time,
    shares,
)
from pytest_edgeai.selfcheck.planted import PlantedModel

TIMED = [case for case in CASES if isinstance(case, TimedCase)]


def test_every_case_has_its_own_name_and_a_truth() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    assert all(case.truth for case in CASES)
    assert all(case.reason for case in CASES if isinstance(case, UncoveredCase))


def test_every_case_is_documented() -> None:
    page = Path(__file__).parents[3] / "docs" / "self-check.md"
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [case.name for case in CASES]


def test_every_check_is_planted_once() -> None:
    checks = [case.check for case in CASES if isinstance(case, CheckedCase)]
    assert sorted(checks) == [
        "accuracy",
        "artifacts",
        "memory",
        "outputs",
        "precision",
        "unmeasurable",
    ]


@pytest.mark.parametrize("case", TIMED, ids=lambda case: case.name)
def test_the_truth_follows_from_the_work(case: TimedCase) -> None:
    ratio = STEPS / case.work
    for question in case.questions:
        if question.gate == "speedup":
            assert question.truth == ("met" if ratio >= question.limit else "missed")
            assert abs(ratio / question.limit - 1) > 0.04, "closer than can be told apart"
        else:
            assert question.truth == ("missed" if case.candidate.tail_every else "met")
    baseline, candidate = case.models(10 * STEPS)
    assert candidate.repetitions * STEPS == baseline.repetitions * case.work


def test_every_gate_of_stability_has_a_fault_to_find() -> None:
    watched = [case for case in CASES if isinstance(case, WatchedCase)]
    assert sorted(case.missed for case in watched) == [
        "latency_drift",
        "latency_tail",
        "memory_growth",
    ]
    for case in watched:
        baseline, candidate = case.models(10 * STEPS)
        assert baseline == PlantedModel(repetitions=10 * STEPS)
        assert candidate == replace(case.candidate, repetitions=10 * STEPS) != baseline


def test_work_that_is_no_whole_number_is_refused() -> None:
    case = next(case for case in TIMED if case.name == "slower-5")
    with pytest.raises(ValueError, match="no multiple of 20"):
        case.models(STEPS + 1)


@given(
    st.lists(st.floats(0, 10), min_size=1, max_size=10).map(
        lambda weights: {str(index): weight for index, weight in enumerate(weights)}
    ),
    st.floats(-10, 500),
)
def test_no_case_takes_the_time_of_those_after_it(
    weights: dict[str, float], remaining: float
) -> None:
    taken = sum(share_of_time(weights, name, remaining) for name in weights)
    assert 0 <= taken <= max(0.0, remaining) * (1 + 1e-9)


def test_the_last_case_gets_what_is_left() -> None:
    assert share_of_time({"last": 3.0}, "last", 7.0) == 7.0
    assert shares(CASES)["same-model"] == max(shares(CASES).values())
