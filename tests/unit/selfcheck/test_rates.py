"""Answers against the truth, counted and with intervals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pytest_edgeai.records import Outcome
from pytest_edgeai.selfcheck.rates import (
    Answer,
    CaseResult,
    Tally,
    Truth,
    breaks_promise,
    falsehoods,
    judge_answer,
    rate,
    tally,
)

OUTCOMES = st.sampled_from(["pass", "fail", "inconclusive", "proxy", "not_applicable", "error"])
ANSWERS = st.lists(
    st.builds(
        Answer,
        gate=st.just("speedup"),
        asked=st.just("speedup at least 2"),
        truth=st.sampled_from(["met", "missed"]),
        outcome=OUTCOMES,
    ),
    max_size=30,
)


@pytest.mark.parametrize(
    ("truth", "outcome", "judgment"),
    [
        ("met", "pass", "right"),
        ("met", "not_applicable", "right"),
        ("met", "fail", "false_fail"),
        ("met", "error", "false_fail"),
        ("met", "inconclusive", "inconclusive"),
        ("missed", "pass", "false_pass"),
        ("missed", "not_applicable", "false_pass"),
        ("missed", "fail", "right"),
        ("missed", "error", "right"),
        ("missed", "proxy", "inconclusive"),
    ],
)
def test_what_lets_a_bad_model_ship_is_a_false_pass(
    truth: Truth, outcome: Outcome, judgment: str
) -> None:
    assert judge_answer(truth, outcome) == judgment


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_that_of_clopper_and_pearson(counts: tuple[int, int]) -> None:
    count, trials = counts
    found = rate(count, trials)
    exact = stats.binomtest(count, trials).proportion_ci(0.95, method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-9)
    assert found.low <= count / trials <= found.high


def test_nothing_is_known_without_trials() -> None:
    assert (rate(0, 0).low, rate(0, 0).high) == (0.0, 1.0)
    with pytest.raises(ValueError, match="no share"):
        rate(2, 1)


@given(ANSWERS, ANSWERS)
def test_counts_add_up(first: list[Answer], second: list[Answer]) -> None:
    both = tally(first) + tally(second)
    assert both == tally([*first, *second])
    assert both.answers == len(first) + len(second)
    wrong = both.false_passes + both.false_fails
    assert wrong == len(falsehoods([*first, *second]))
    assert wrong + both.undecided <= both.answers
    assert breaks_promise(both, 0.0) == (wrong > 0)


def test_a_promise_is_broken_beyond_chance_only() -> None:
    assert not breaks_promise(Tally(missed=100, false_passes=8), 0.05)
    assert breaks_promise(Tally(missed=1000, false_passes=80), 0.05)
    assert breaks_promise(Tally(met=100, false_fails=20), 0.05)


def test_a_case_says_what_was_false() -> None:
    answers = [Answer("speedup", "speedup at least 2", "missed", "pass", "2.10x")]
    result = CaseResult("x", "speed", "", tally(answers), falsehoods=falsehoods(answers))
    assert result.is_wrong
    assert not result.is_undecided
    assert result.falsehoods == ("speedup at least 2 is missed and passed: 2.10x",)
    assert CaseResult("x", "speed", "", Tally(met=1, undecided=1)).is_undecided
