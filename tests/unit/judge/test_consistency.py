from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import pytest

from pytest_edgeai.judge.consistency import judge_consistency, needs_baseline
from pytest_edgeai.production_records import ConditionAnswers, ConsistencySamples
from pytest_edgeai.records import Threshold

LIMIT = Threshold(0.001, "at_most")
Kind = Literal["repeat", "reload", "threads", "batch"]


def answers(kind: Kind, apart: float, **changes: Any) -> ConditionAnswers:
    return ConditionAnswers(kind, f"with another {kind}", {"y": apart}, **changes)


def measured(*candidate: ConditionAnswers, **changes: Any) -> ConsistencySamples:
    plain = ConsistencySamples(
        samples=64,
        candidate=candidate,
        baseline=None,
        resolution={"y": 1e-6},
        error=None,
        discrete={},
        computes_scales=False,
    )
    return replace(plain, **changes)


def beside(apart: float, kind: Kind) -> dict[str, Any]:
    return {"baseline": (answers(kind, apart),), "error": {"y": 0.1}}


@pytest.mark.parametrize("kind", ["repeat", "reload", "threads", "batch"])
def test_equal_answers_pass_and_others_fail(kind: Kind) -> None:
    assert judge_consistency(measured(answers(kind, 0.0)), LIMIT).outcome == "pass"
    assert judge_consistency(measured(answers(kind, 0.0009)), LIMIT).outcome == "pass"
    verdict = judge_consistency(measured(answers(kind, 0.3)), LIMIT)
    assert verdict.outcome == "fail"
    assert verdict.observed == pytest.approx(0.3, abs=1e-5)
    assert f"with another {kind}" in verdict.reason


def test_quantizing_explains_another_batch_and_no_other_process() -> None:
    """The error of the candidate is 0.1, and its scales follow the batch: up to 0.2 is rounding."""
    cases: list[tuple[Kind, float, str]] = [
        ("batch", 0.19, "pass"),
        ("batch", 0.22, "fail"),
        ("threads", 0.19, "pass"),
        ("repeat", 0.19, "fail"),
        ("reload", 0.01, "fail"),
    ]
    for kind, apart, outcome in cases:
        found = measured(answers(kind, apart), computes_scales=True, **beside(0.0, kind))
        assert judge_consistency(found, LIMIT).outcome == outcome, (kind, apart)


def test_constant_scales_explain_a_quarter_of_it() -> None:
    for apart, outcome in ((0.049, "pass"), (0.06, "fail")):
        found = measured(answers("batch", apart), **beside(0.0, "batch"))
        assert judge_consistency(found, LIMIT).outcome == outcome
        assert judge_consistency(found, LIMIT, rounding=0.001).outcome == "fail"


def test_what_the_baseline_does_as_well_is_no_fault() -> None:
    found = measured(answers("repeat", 0.3), **beside(0.16, "repeat"))
    assert judge_consistency(found, LIMIT).outcome == "pass"
    found = measured(answers("repeat", 0.3), **beside(0.1, "repeat"))
    assert judge_consistency(found, LIMIT).outcome == "fail"


def test_nan_is_a_fault_unless_the_baseline_has_it() -> None:
    found = measured(answers("batch", math.inf), **beside(0.0, "batch"))
    verdict = judge_consistency(found, LIMIT)
    assert (verdict.outcome, verdict.observed) == ("fail", None)
    assert "not a number" in verdict.reason
    both = measured(answers("batch", math.inf), **beside(math.inf, "batch"))
    assert judge_consistency(both, LIMIT).outcome == "pass"


def test_one_sample_of_discrete_answers_may_change_with_the_batch() -> None:
    cases: list[tuple[Kind, float, str]] = [
        ("batch", 1 / 64, "pass"),
        ("batch", 2 / 64, "fail"),
        ("repeat", 1 / 64, "fail"),
    ]
    for kind, apart, outcome in cases:
        found = measured(answers(kind, apart), discrete={"y": 64})
        assert judge_consistency(found, LIMIT).outcome == outcome, (kind, apart)


def test_decided_classes_that_changed_are_counted_and_named() -> None:
    found = answers("batch", 0.04, changed_decisions=2, widest_margin=0.003)
    verdict = judge_consistency(measured(found, **beside(0.0, "batch")), LIMIT)
    assert verdict.outcome == "pass"
    assert "the decided class changes for 2 samples" in verdict.reason
    assert "0.003 of the spread" in verdict.reason
    assert verdict.details["changed_decisions"] == 2


def test_a_condition_that_is_refused_is_said_and_none_at_all_is_an_error() -> None:
    refused = answers("batch", 0.0, refused="only batches of 1")
    verdict = judge_consistency(measured(answers("repeat", 0.0), refused), LIMIT)
    assert verdict.outcome == "pass"
    assert "not answered: with another batch (only batches of 1)" in verdict.reason
    assert "batch sizes" not in verdict.reason
    assert judge_consistency(measured(refused), LIMIT).outcome == "error"
    assert judge_consistency(measured(samples=0), LIMIT).outcome == "error"


def test_the_baseline_is_asked_only_where_something_varies() -> None:
    assert not needs_baseline(measured(answers("batch", 0.0005)), 0.001)
    assert needs_baseline(measured(answers("batch", 0.002)), 0.001)
