"""Which verdict of several counts for the report and for promotion."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.judge.verdict import worst
from pytest_edgeai.ledger import Ledger, verdict_from_json
from pytest_edgeai.plan.selection import PlannedCandidate
from pytest_edgeai.records import Outcome, Verdict, to_json

CANDIDATE = cast(PlannedCandidate, SimpleNamespace(model=SimpleNamespace(name="m"), node="c"))
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


def verdict(outcome: str, gate: str = "speedup", origin: str = "default") -> Verdict:
    return Verdict(
        gate=gate,
        outcome=cast(Outcome, outcome),
        observed=2.5,
        interval=(2.0, 3.0),
        confidence=0.95,
        threshold=2.0,
        relation="at_least",
        unit="times",
        samples=45,
        reason="why",
        threshold_origin=origin,
    )


def entry(made: Verdict) -> dict[str, Any]:
    return {"model": "m", "node": "c", "verdict": to_json(made)}


def outcome_after(*outcomes: str) -> str:
    ledger = Ledger()
    for outcome in outcomes:
        ledger.add(entry(verdict(outcome)))
    (kept,) = ledger.of(CANDIDATE, ["speedup"])
    return kept.outcome


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_verdict_survives_the_way_through_json(outcome: str) -> None:
    made = verdict(outcome)
    assert verdict_from_json(to_json(made)) == made


@given(st.lists(st.sampled_from([o for o in OUTCOMES if o != "inconclusive"]), min_size=1))
def test_of_decided_verdicts_the_worst_counts_in_any_order(outcomes: list[str]) -> None:
    expected = worst(cast(Outcome, outcome) for outcome in outcomes)
    assert outcome_after(*outcomes) == expected
    assert outcome_after(*reversed(outcomes)) == expected


@pytest.mark.parametrize("later", OUTCOMES)
def test_what_was_inconclusive_may_be_settled_by_a_rerun(later: str) -> None:
    assert outcome_after("inconclusive", later) == later


@pytest.mark.parametrize("first", ["fail", "error"])
def test_a_failure_is_settled_by_no_rerun(first: str) -> None:
    assert outcome_after(first, "inconclusive") == first
    assert outcome_after(first, "pass") == first


def test_limits_of_tests_and_other_gates_do_not_count() -> None:
    ledger = Ledger()
    ledger.add(entry(verdict("pass", origin="marker")))
    ledger.add(entry(verdict("pass", gate="memory_cut")))
    assert ledger.of(CANDIDATE, ["speedup"]) == ()
    assert [v.gate for v in ledger.of(CANDIDATE, ["speedup", "memory_cut"])] == ["memory_cut"]
