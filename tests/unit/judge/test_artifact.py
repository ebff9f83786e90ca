from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_edgeai.judge.artifact import judge_artifact_size, judge_precision
from pytest_edgeai.records import PrecisionFacts, Threshold, Verdict

NO_LIMIT = Threshold(None, "at_most")
CUT = Threshold(0.5, "at_least", "edgeai.toml")


def size(candidate: int, baseline: int, limit: float | None, small: bool = False) -> Verdict:
    return judge_artifact_size(
        candidate,
        baseline,
        Threshold(limit, "at_most"),
        memory_verdict_is_not_applicable=small,
        memory_cut=CUT,
    )


def facts(
    weights: dict[str, int],
    executed: dict[str, int] | None = None,
    devices: tuple[str, ...] = ("CPU",),
    claimed_device: str = "CPU",
    operators: dict[str, int] | None = None,
) -> PrecisionFacts:
    return PrecisionFacts(weights, operators or {}, executed or {}, claimed_device, devices)


@given(st.integers(1, 10**9), st.integers(1, 10**9))
def test_limit_in_bytes(candidate: int, limit: int) -> None:
    assert size(candidate, 10**9, limit).outcome == ("pass" if candidate <= limit else "fail")


@pytest.mark.parametrize(("candidate", "outcome"), [(500, "pass"), (501, "fail")])
def test_stands_in_for_memory_of_a_small_model(candidate: int, outcome: str) -> None:
    verdict = size(candidate, 1000, None, small=True)
    assert verdict.outcome == outcome
    assert verdict.threshold == 500
    assert verdict.threshold_origin == "edgeai.toml"
    assert "too small to compare memory" in verdict.reason


def test_without_a_limit_both_sizes_are_reported() -> None:
    verdict = size(5 * 2**20, 20 * 2**20, None)
    assert verdict.outcome == "not_applicable"
    assert "5.0 MiB; the baseline takes 20.0 MiB; no limit is set" in verdict.reason


@pytest.mark.parametrize(("candidate", "baseline"), [(0, 10), (10, 0), (-1, 10)])
def test_impossible_sizes_are_an_error(candidate: int, baseline: int) -> None:
    assert size(candidate, baseline, 100).outcome == "error"
    assert size(candidate, baseline, None, small=True).outcome == "error"


def test_impossible_limits_are_an_error() -> None:
    assert size(5, 10, math.nan).outcome == "error"
    verdict = judge_artifact_size(
        5,
        10,
        NO_LIMIT,
        memory_verdict_is_not_applicable=True,
        memory_cut=Threshold(math.nan, "at_least"),
    )
    assert verdict.outcome == "error"


@pytest.mark.parametrize(
    ("weights", "claim", "outcome"),
    [
        ({"int8": 98, "float32": 2}, "int8", "pass"),
        ({"i8": 60, "u8": 38, "f32": 2}, "int8", "pass"),
        ({"int8": 78, "float32": 22}, "int8", "pass"),  # float embeddings of a BERT
        ({"int8": 73, "float32": 27}, "int8", "fail"),  # float convolutions, dense layers in int8
        ({"float32": 100}, "int8", "fail"),
        ({"float32": 100}, "float32", "pass"),
        ({"float16": 100}, "float32", "fail"),  # the silent compression of an "FP32" export
        ({"f16": 99, "f32": 1}, "float16", "pass"),
        ({"float32": 99, "f16": 1}, "fp16", "fail"),
        ({"int4": 90, "float32": 10}, "int4", "pass"),
        ({"int4": 90, "float32": 10}, "int8", "fail"),
        ({"int8": 90, "float32": 10}, "int4", "fail"),
        ({"bf16": 100}, "bfloat16", "pass"),
    ],
)
def test_share_of_weights(weights: dict[str, int], claim: str, outcome: str) -> None:
    verdict = judge_precision(facts(weights), claim)
    assert verdict.outcome == outcome
    assert verdict.threshold == 0.75
    assert bool(verdict.advice) == (outcome == "fail")


def test_biases_shapes_and_indices_do_not_count() -> None:
    verdict = judge_precision(facts({"int8": 90, "float32": 10, "int32": 500, "i64": 9}), "int8")
    assert (verdict.outcome, verdict.observed) == ("pass", 0.9)


def test_simulated_quantization_is_named() -> None:
    verdict = judge_precision(facts({"float32": 100}, operators={"Conv": 5}), "int8")
    assert verdict.outcome == "fail"
    assert "only simulate quantization" in verdict.reason


@pytest.mark.parametrize(
    ("executed", "claim", "weights", "outcome"),
    [
        ({}, "int8", {"int8": 1}, "pass"),
        ({"u8": 12, "f32": 3}, "int8", {"int8": 1}, "pass"),
        ({"f32": 15}, "int8", {"int8": 1}, "fail"),
        ({"f32": 15, "i8": 0}, "int8", {"int8": 1}, "fail"),
        ({"bf16": 15}, "float32", {"float32": 1}, "fail"),
        ({"f32": 15}, "int4", {"int4": 1}, "pass"),
    ],
)
def test_executed_precision(
    executed: dict[str, int], claim: str, weights: dict[str, int], outcome: str
) -> None:
    verdict = judge_precision(facts(weights, executed), claim)
    assert verdict.outcome == outcome
    assert ("executes no operator" in verdict.reason) == (outcome == "fail")


@pytest.mark.parametrize(
    ("claimed", "devices", "outcome"),
    [
        ("CPU", ("CPU",), "pass"),
        ("CPU", ("CPUExecutionProvider",), "pass"),
        ("GPU", ("GPU.0", "CPU"), "pass"),
        ("GPU", ("CPU",), "fail"),
        ("GPU.1", ("GPU.0",), "fail"),
        ("AUTO", ("CPU",), "pass"),
        ("AUTO:GPU,CPU", ("CPU",), "pass"),
    ],
)
def test_device(claimed: str, devices: tuple[str, ...], outcome: str) -> None:
    verdict = judge_precision(facts({"int8": 1}, None, devices, claimed), "int8")
    assert verdict.outcome == outcome


@pytest.mark.parametrize(
    ("found", "claim", "text"),
    [
        (facts({"int8": 9}), "q4_k_m", 'the precision "q4_k_m" is unknown; known are bfloat16'),
        (facts({}), "int8", "no weights"),
        (facts({"int64": 9}), "int8", "no weights"),
        (facts({"int8": -1, "float32": 5}), "int8", "negative"),
        (facts({"int8": 9}, None, ()), "int8", "did not say on which device"),
    ],
)
def test_what_cannot_be_checked_is_an_error(found: PrecisionFacts, claim: str, text: str) -> None:
    verdict = judge_precision(found, claim)
    assert verdict.outcome == "error"
    assert text in verdict.reason


def test_minimum_is_a_setting_with_an_origin() -> None:
    verdict = judge_precision(
        facts({"int8": 40, "float32": 60}),
        "int8",
        minimum_quantized_ratio=0.4,
        threshold_origin="edgeai.toml",
    )
    assert (verdict.outcome, verdict.threshold_origin) == ("pass", "edgeai.toml")
    broken: Any = math.nan
    assert (
        judge_precision(facts({"int8": 1}), "int8", minimum_quantized_ratio=broken).outcome
        == "error"
    )


@pytest.mark.parametrize(
    ("weights", "claim", "outcome"),
    [
        ({"q4_k": 80, "q6_k": 20, "f32": 1}, "q4_k", "pass"),
        ({"q4_k": 40, "q6_k": 60}, "q4_k", "pass"),
        ({"q4_k": 10, "q6_k": 90}, "q4_k", "fail"),
        ({"q5_0": 70, "q8_0": 30}, "q4_k", "fail"),
        ({"q8_0": 100}, "q4_k", "fail"),
        ({"f16": 100}, "q8_0", "fail"),
        ({"q8_0": 99, "f32": 1}, "q8_0", "pass"),
        ({"q2_k": 60, "q3_k": 30, "q6_k": 10}, "q2_k", "pass"),
        ({"uint4": 80, "uint6": 20, "float16": 2}, "int4-int6", "pass"),
    ],
)
def test_a_mix_is_named_by_a_type_that_it_holds(
    weights: dict[str, int], claim: str, outcome: str
) -> None:
    assert judge_precision(facts(weights), claim).outcome == outcome


def test_a_silent_fallback_is_named() -> None:
    verdict = judge_precision(facts({"q5_0": 70, "q8_0": 30}), "q4_k")
    assert "no multiple of 256 elements fall back to q5_0, q8_0" in verdict.reason


def test_layers_that_the_recipe_leaves_alone_are_counted_apart() -> None:
    held = {"int8": 40, "float32": 60}
    assert judge_precision(facts(held), "int8").outcome == "fail"
    apart = PrecisionFacts(held, {}, {"int8": 1}, "CPU", ("CPU",), left_out_elements=58)
    verdict = judge_precision(apart, "int8")
    assert verdict.outcome == "pass"
    assert verdict.observed == pytest.approx(40 / 42)
    assert verdict.details["left_out_elements"] == 58
    assert "of the weights, 58 weights of layers left alone apart, are int8" in verdict.reason
    fewer = PrecisionFacts(held, {}, {"int8": 1}, "CPU", ("CPU",), left_out_elements=20)
    assert judge_precision(fewer, "int8").outcome == "fail"


def test_a_model_of_which_everything_is_left_alone_claims_nothing() -> None:
    verdict = judge_precision(
        PrecisionFacts({"float32": 60}, {}, {}, "CPU", ("CPU",), left_out_elements=60), "int8"
    )
    assert verdict.outcome == "error"
    assert "but in the layers that the recipe leaves alone" in verdict.reason
