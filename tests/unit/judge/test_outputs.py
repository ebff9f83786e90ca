from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pytest_edgeai.judge.outputs import judge_output_sanity
from pytest_edgeai.records import OutputSanity

SANE = OutputSanity(
    samples=540,
    contract_breaches=(),
    nan_outputs={"logits": 0},
    inf_outputs={},
    constant_outputs=(),
    collapsed_classes=(),
    class_support={"three": 54, "rare": 2},
)


def test_sane_outputs_pass() -> None:
    verdict = judge_output_sanity(SANE)
    assert (verdict.outcome, verdict.observed, verdict.threshold) == ("pass", 0, 0)
    assert (verdict.unit, verdict.samples, verdict.advice) == ("faults", 540, "")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"contract_breaches": ("output x has rank 3",)}, "output x has rank 3"),
        ({"nan_outputs": {"logits": 1200}}, '1,200 elements of output "logits" are NaN'),
        ({"inf_outputs": {"logits": 1}}, 'output "logits" are infinite'),
        ({"constant_outputs": ("boxes",)}, 'output "boxes" is constant'),
        ({"collapsed_classes": ("three",)}, 'class "three" is never recognized any more of 54'),
        ({"collapsed_classes": ("unknown",)}, 'class "unknown" is never recognized any more'),
    ],
)
def test_each_fault_fails_and_is_named(change: dict[str, Any], text: str) -> None:
    verdict = judge_output_sanity(dataclasses.replace(SANE, **change))
    assert (verdict.outcome, verdict.observed) == ("fail", 1)
    assert text in verdict.reason
    assert verdict.advice


def test_a_rare_class_is_neither_passed_nor_a_false_alarm() -> None:
    verdict = judge_output_sanity(dataclasses.replace(SANE, collapsed_classes=("rare",)))
    assert verdict.outcome == "inconclusive"
    assert "has only 2 samples, which may be chance" in verdict.reason
    assert "at least 3 of each class" in verdict.advice
    both = judge_output_sanity(dataclasses.replace(SANE, collapsed_classes=("rare", "three")))
    assert (both.outcome, both.observed) == ("fail", 2)


def test_nothing_run_is_an_error() -> None:
    assert judge_output_sanity(dataclasses.replace(SANE, samples=0)).outcome == "error"
    broken = dataclasses.replace(SANE, nan_outputs={"logits": -1})
    assert judge_output_sanity(broken).outcome == "error"
