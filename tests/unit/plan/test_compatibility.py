"""What speaks against a scheme, from the facts of a file alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from plan_parts import CHAT, IMAGES, chat_facts, classifier_facts

from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS
from pytest_edgeai.plan.compatibility import (
    framework_refusal,
    quantization_compatibility,
    quantized_already,
    scheme_fits,
)
from pytest_edgeai.records import ModelFacts


def reasons(facts: ModelFacts, framework: str, task: str = "") -> dict[str, str]:
    return quantization_compatibility(facts, FRAMEWORKS[framework], task)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_scheme_but_the_conversion_is_judged(framework: str) -> None:
    schemes = [scheme for scheme in FRAMEWORKS[framework].schemes if scheme != "convert"]
    assert list(reasons(classifier_facts(), framework)) == schemes
    assert list(reasons(chat_facts(), framework)) == schemes


@pytest.mark.parametrize("framework", ["onnxruntime", "openvino", "olive"])
def test_a_plain_classifier_fits_whole(framework: str) -> None:
    found = reasons(classifier_facts(), framework, IMAGES)
    assert {found[scheme] for scheme in found if scheme.startswith("int8-static")} == {""}


def test_olive_has_schemes_of_its_own_for_language_models() -> None:
    olive = dataclasses.replace(
        FRAMEWORKS["olive"],
        formats=("onnx", "huggingface"),
        schemes={"convert": "float32", "int8-static": "int8", "int4-genai": "int4"},
    )
    assert quantization_compatibility(classifier_facts(), olive) == {
        "int8-static": "",
        "int4-genai": "is made of Hugging Face language models alone",
    }
    assert quantization_compatibility(chat_facts(), olive) == {
        "int8-static": "is made of ONNX models alone",
        "int4-genai": "",
    }


@pytest.mark.parametrize("framework", ["llamacpp", "mlx"])
def test_a_language_model_with_even_rows_fits_whole(framework: str) -> None:
    assert set(reasons(chat_facts(), framework, CHAT).values()) == {""}


def test_what_a_framework_cannot_take_at_all() -> None:
    onnx = classifier_facts()
    assert set(reasons(onnx, "mlx").values()) == {"does not take onnx models"}
    assert framework_refusal(chat_facts(), FRAMEWORKS["mlx"], IMAGES) == f"does not serve {IMAGES}"
    assert framework_refusal(onnx, FRAMEWORKS["onnxruntime"], CHAT) == f"does not serve {CHAT}"
    trees = classifier_facts(operators={"TreeEnsembleClassifier": 1, "ZipMap": 1})
    assert framework_refusal(trees, FRAMEWORKS["openvino"]) == (
        "does not know the operator TreeEnsembleClassifier"
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"operators": {"QLinearConv": 3}}, "quantized already (QLinearConv)"),
        (
            {"weight_elements": {"int8": 90, "float32": 10, "int64": 500}},
            "quantized already (90% int8)",
        ),
        ({"weight_elements": {"uint4": 90, "float32": 10}}, "quantized already (90% uint4)"),
        ({"quantization": "gptq-int4"}, "quantized already (gptq-int4)"),
        ({"weight_elements": {"float16": 100}}, ""),
        ({"weight_elements": {"int8": 10, "float32": 90}}, ""),
        ({"weight_elements": {}}, ""),
    ],
)
def test_weights_that_are_quantized_already(changes: dict[str, Any], said: str) -> None:
    assert quantized_already(classifier_facts(**changes)) == said


def test_a_quantized_graph_can_still_be_compared() -> None:
    fits = scheme_fits(classifier_facts(operators={"QLinearConv": 3}), FRAMEWORKS["openvino"])
    assert all(fit.possible and "no" in fit.reason for fit in fits.values())


@pytest.mark.parametrize("framework", ["llamacpp", "mlx"])
def test_quantized_language_models_are_refused(framework: str) -> None:
    facts = chat_facts(quantization="mlx-int4-g64")
    for fit in scheme_fits(facts, FRAMEWORKS[framework]).values():
        assert not fit.possible
        assert fit.reason == (
            f"its weights are quantized already (mlx-int4-g64), and {framework} takes full "
            "precision"
        )


def test_rows_that_k_quants_cannot_take() -> None:
    found = reasons(chat_facts(row_elements={256: 660_000, 160: 340_000}), "llamacpp")
    assert found["q4_k_m"] == (
        "34% of its weights lie in rows of 160, no multiple of 256, and are stored as q5_0 instead"
    )
    assert "stored as iq4_nl instead" in found["q2_k"]
    assert found["q8_0"] == found["q4_0"] == ""


def test_rows_that_no_block_takes_stay_float16() -> None:
    found = reasons(chat_facts(row_elements={100: 50, 96: 50}), "llamacpp")
    assert "rows of 96, 100" in found["q4_k_m"]
    assert found["q4_k_m"].endswith("stored as q5_0 or float16 instead")
    assert found["q8_0"].endswith("no multiple of 32, and are stored as float16 instead")


def test_rows_that_groups_cannot_take() -> None:
    some = scheme_fits(chat_facts(row_elements={256: 900, 96: 100}), FRAMEWORKS["mlx"])
    assert some["int4-g64"].possible
    assert some["int4-g64"].reason == (
        "10% of its weights lie in rows of 96, no multiple of 64, and keep their precision "
        "(groups of 32 would fit)"
    )
    none = scheme_fits(chat_facts(row_elements={100: 1000}), FRAMEWORKS["mlx"])
    assert {fit.possible for fit in none.values()} == {False}
    assert none["mixed-4-6"].reason == "no row of its weights is a multiple of 64"


def test_the_group_stands_in_the_name_of_a_scheme() -> None:
    mlx = dataclasses.replace(FRAMEWORKS["mlx"], schemes={"convert": "float", "int4-g32": "int4"})
    assert quantization_compatibility(chat_facts(row_elements={96: 1}), mlx) == {"int4-g32": ""}


def test_dynamic_quantization_needs_a_matrix_product() -> None:
    fits = scheme_fits(
        classifier_facts(operators={"Conv": 3, "Relu": 2}), FRAMEWORKS["onnxruntime"]
    )
    assert fits["int8-static"].possible
    assert not fits["int8-dynamic"].possible
    assert "Attention, Gather, Gemm, LSTM, MatMul" in fits["int8-dynamic"].reason


def test_weights_in_blocks_need_a_matrix_product() -> None:
    fits = scheme_fits(
        classifier_facts(operators={"Conv": 3, "Relu": 2}), FRAMEWORKS["onnxruntime"]
    )
    for scheme in ("int8-weights", "int4-weights"):
        assert not fits[scheme].possible
        assert "no operator whose weights it takes (Gemm, MatMul)" in fits[scheme].reason
    dense = scheme_fits(classifier_facts(operators={"Gemm": 1}), FRAMEWORKS["onnxruntime"])
    assert dense["int4-weights"].possible
    assert not dense["int4-weights"].reason


def test_an_old_opset_is_converted_first() -> None:
    found = reasons(classifier_facts(opset=11), "onnxruntime")
    ranges = {scheme: reason for scheme, reason in found.items() if not scheme.endswith("-weights")}
    assert all(reason.startswith("opset 11 has no scale per channel") for reason in ranges.values())
    assert len(ranges) == 2
    assert set(reasons(classifier_facts(opset=11), "openvino").values()) == {""}
    assert set(reasons(classifier_facts(opset=13), "onnxruntime").values()) == {""}


def test_a_framework_of_a_plugin_gets_the_common_checks() -> None:
    tvm = dataclasses.replace(FRAMEWORKS["onnxruntime"], name="tvm")
    assert set(quantization_compatibility(classifier_facts(opset=9), tvm).values()) == {""}
    assert "full precision" in next(
        iter(quantization_compatibility(classifier_facts(operators={"QGemm": 1}), tvm).values())
    )
