"""Which framework makes the candidate, against what, and why."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from models import linear_classifier, require, string_output
from plan_parts import (
    CHAT,
    HOST,
    MAC,
    WITH_GPU,
    chat_facts,
    chosen,
    classifier_facts,
    model_spec,
)

from pytest_edgeai.assess.model import read_model
from pytest_edgeai.errors import ModelError
from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS
from pytest_edgeai.plan.targets import TARGETS
from pytest_edgeai.records import ModelFacts, Recipe

BIG = 7_240_000_000
TAKES_CHAT = {
    **FRAMEWORKS,
    "olive": dataclasses.replace(
        FRAMEWORKS["olive"],
        formats=("onnx", "huggingface"),
        schemes={**FRAMEWORKS["olive"].schemes, "int4-genai": "int4"},
        tasks=(),
    ),
}
TAKES_CHAT["olive"] = dataclasses.replace(TAKES_CHAT["olive"], tasks=("image-classification", CHAT))


def gguf(**changes: object) -> ModelFacts:
    return chat_facts(format="gguf", **changes)


@pytest.mark.parametrize(
    ("target", "recipe"),
    [
        ("intel", "openvino-int8-static"),
        ("nvidia", "olive-int8-static"),
        ("apple", "onnxruntime-int8-static"),
        ("arm-mobile", "onnxruntime-int8-static"),
        ("arm-embedded", "openvino-int8-static"),
        ("edge-tpu", "openvino-int8-static"),
        ("cross", "onnxruntime-int8-static"),
        ("enterprise", "olive-int8-static"),
        ("qualcomm", "onnxruntime-int8-static"),
    ],
)
def test_a_classifier_on_every_target(target: str, recipe: str) -> None:
    [candidate] = chosen(target).candidates
    assert candidate.recipe.id == recipe
    assert candidate.baseline_framework == "onnxruntime"
    assert candidate.baseline_recipe is None
    assert not candidate.demanded


@pytest.mark.parametrize(
    ("target", "recipe"),
    [
        ("apple", "mlx-int4-g64"),
        ("arm-mobile", "llamacpp-q4_k_m"),
        ("arm-embedded", "llamacpp-q4_k_m"),
        ("cross", "llamacpp-q4_k_m"),
        ("qualcomm", "llamacpp-q4_k_m"),
        ("nvidia", "olive-int4-genai"),
        ("enterprise", "olive-int4-genai"),
    ],
)
def test_a_language_model_on_every_target(target: str, recipe: str) -> None:
    [candidate] = chosen(target, facts=chat_facts(), frameworks=TAKES_CHAT).candidates
    assert candidate.recipe.id == recipe
    assert candidate.baseline_framework == candidate.recipe.framework
    assert candidate.baseline_recipe == Recipe(
        candidate.recipe.framework, "convert", reason="the baseline at full precision"
    )


@pytest.mark.parametrize("target", [name for name in TARGETS if name != "edge-tpu"])
def test_a_gguf_file_is_taken_by_llamacpp_and_is_its_own_baseline(target: str) -> None:
    [candidate] = chosen(target, facts=gguf()).candidates
    assert candidate.recipe.id == "llamacpp-q4_k_m"
    assert candidate.baseline_framework == "llamacpp"
    assert candidate.baseline_recipe is None


def test_what_cannot_take_the_model_yields_and_the_path_says_why() -> None:
    assert chosen("apple").path[:2] == (
        "mlx: does not take onnx models",
        "llamacpp: does not take onnx models",
    )
    path = chosen("apple", facts=gguf()).path
    assert path[0] == "mlx: does not take gguf models"
    assert path[1].startswith("llamacpp-q4_k_m: 4 bits")
    odd = chosen("apple", facts=chat_facts(row_elements={100: 1}))
    assert odd.path[0] == "mlx: no row of its weights is a multiple of 64"
    assert odd.candidates[0].recipe.framework == "llamacpp"
    assert "stored as float16 instead" not in odd.path[0]


def test_a_task_that_a_framework_does_not_serve() -> None:
    facts = chat_facts()
    path = chosen("apple", facts=facts, model=model_spec("feature-extraction")).path
    assert "mlx: does not serve feature-extraction" in path


def test_large_models_are_offered_to_olive_first() -> None:
    large = chosen("apple", facts=chat_facts(parameters=BIG), frameworks=TAKES_CHAT)
    assert large.candidates[0].recipe.id == "olive-int4-genai"
    assert large.path[0] == ("the model: 7.24 billion parameters, so that olive is asked first")
    yielded = chosen("apple", facts=gguf(parameters=BIG))
    assert yielded.path[1] == "olive: does not take gguf models"
    assert yielded.candidates[0].recipe.framework == "llamacpp"


def test_all_takes_every_framework_and_says_which_are_not_there() -> None:
    without = {name: each for name, each in FRAMEWORKS.items() if name != "olive"}
    choice = chosen(requested=("all",), frameworks=without)
    assert [c.recipe.framework for c in choice.candidates] == ["openvino", "onnxruntime"]
    assert "olive: not part of this installation" in choice.path
    every = chosen(requested=("all",))
    assert [c.recipe.framework for c in every.candidates] == ["openvino", "olive", "onnxruntime"]


def test_an_absent_framework_stays_visible_and_yields_to_the_next() -> None:
    first, second = chosen("nvidia", missing=("olive",)).candidates
    assert (first.recipe.framework, first.unavailable) == ("olive", "olive is absent")
    assert (second.recipe.framework, second.unavailable) == ("openvino", "")


def test_a_framework_that_does_not_run_on_this_system_yields_to_the_next() -> None:
    windows = dataclasses.replace(HOST, system="Windows 11")
    first, second = chosen("apple", facts=chat_facts(), host=windows).candidates
    assert first.unavailable == "mlx does not run on Windows, only on Darwin and Linux"
    assert (second.recipe.framework, second.unavailable) == ("llamacpp", "")


def test_a_named_framework_is_demanded() -> None:
    [candidate] = chosen(requested=("openvino",), missing=("openvino",)).candidates
    assert candidate.demanded
    assert candidate.unavailable


def test_a_named_framework_that_the_target_does_not_list() -> None:
    [candidate] = chosen("cross", requested=("olive",)).candidates
    assert candidate.recipe.framework == "olive"
    assert chosen("cross", requested=("olive",), only_listed=True).candidates == ()


def test_an_absent_baseline_makes_the_candidate_unavailable() -> None:
    first, *_ = chosen(missing=("onnxruntime",)).candidates
    assert first.unavailable == "onnxruntime is absent"
    same = model_spec(baseline="same-framework")
    first, *_ = chosen(model=same, missing=("onnxruntime",)).candidates
    assert (first.unavailable, first.baseline_framework) == ("", "openvino")
    assert first.baseline_recipe is not None
    assert first.baseline_recipe.id == "openvino-convert"


def test_a_baseline_in_a_named_framework() -> None:
    model = model_spec(CHAT, baseline="llamacpp")
    [candidate] = chosen("apple", facts=chat_facts(), model=model).candidates
    assert (candidate.recipe.framework, candidate.baseline_framework) == ("mlx", "llamacpp")
    assert candidate.baseline_recipe is not None
    assert candidate.baseline_recipe.id == "llamacpp-convert"


@pytest.mark.parametrize(
    ("baseline", "reason", "able"),
    [
        ("mlx", '"mlx" does not take onnx models', "onnxruntime, openvino, olive"),
        ("llamacpp", '"llamacpp" does not take onnx models', "onnxruntime, openvino, olive"),
    ],
)
def test_a_named_baseline_that_cannot_run_the_model(baseline: str, reason: str, able: str) -> None:
    with pytest.raises(ModelError) as caught:
        chosen(model=model_spec(baseline=baseline))
    assert str(caught.value) == (
        f"here baseline: {reason}; allowed: native, same-framework, {able}"
    )


def test_the_proxy_reason_joins_host_and_framework() -> None:
    [candidate] = chosen("apple", facts=chat_facts()).candidates
    assert candidate.proxy_reason.startswith('its CPU is "Core" (GenuineIntel)')
    assert candidate.proxy_reason.endswith("through Metal on Apple silicon")
    [candidate] = chosen("apple", facts=chat_facts(), host=MAC).candidates
    assert candidate.proxy_reason == ""
    [candidate] = chosen("cross", facts=chat_facts(), requested=("mlx",)).candidates
    assert candidate.proxy_reason.startswith("MLX computes on the CPU")


def test_an_idle_accelerator_is_a_proxy_reason() -> None:
    [candidate] = chosen("nvidia", host=WITH_GPU).candidates
    assert candidate.proxy_reason == (
        "olive computes on the CPU here and leaves the NVIDIA H100 idle"
    )


def test_without_calibration_data_the_recipe_needs_none() -> None:
    [candidate] = chosen(model=model_spec(calibrated=False)).candidates
    assert candidate.recipe.scheme == "int8-weights"
    assert "calibration" in candidate.recipe.reason


def test_a_default_that_nothing_comes_of_yields_to_the_next() -> None:
    facts = classifier_facts(operators={"Conv": 3, "Relu": 3})
    choice = chosen("cross", facts=facts, model=model_spec(calibrated=False))
    assert choice.path[0].startswith("onnxruntime: the model has no operator that it quantizes")
    assert choice.candidates[0].recipe.id == "openvino-int8-weights"


@pytest.mark.parametrize("target", ["nvidia", "qualcomm"])
def test_a_target_may_prefer_another_default(target: str) -> None:
    facts = classifier_facts(architecture="transformer", operators={"MatMul": 9})
    [candidate] = chosen(target, facts=facts).candidates
    assert candidate.recipe.scheme == "int8-static"
    assert candidate.recipe.reason == f"{TARGETS[target].title} calls for int8-static"
    [candidate] = chosen("cross", facts=facts).candidates
    assert candidate.recipe.scheme == "int8-dynamic"
    [candidate] = chosen(target, facts=facts, model=model_spec(calibrated=False)).candidates
    assert candidate.recipe.scheme == "int8-dynamic"


def test_recipes_of_the_manifest_are_planned_as_they_are() -> None:
    recipes = (Recipe("onnxruntime", "int8-dynamic"), Recipe("openvino", "int8-weights"))
    choice = chosen(model=model_spec(recipes=recipes), requested=("all",))
    assert [c.recipe.id for c in choice.candidates] == [
        "openvino-int8-weights",
        "onnxruntime-int8-dynamic",
    ]


def test_a_quantized_model_is_said_to_be_one() -> None:
    choice = chosen(facts=classifier_facts(operators={"QLinearConv": 3, "Relu": 1}))
    assert choice.path[0] == "the model: its weights are quantized already (QLinearConv)"
    assert "; but its weights are quantized already" in choice.path[1]
    assert len(choice.candidates) == 1
    refused = chosen("cross", facts=gguf(quantization="q4_k_m"))
    assert refused.candidates == ()
    assert refused.path[1] == (
        "llamacpp: its weights are quantized already (q4_k_m), and llamacpp takes full precision"
    )


def test_rows_that_do_not_fit_are_said_with_the_recipe() -> None:
    choice = chosen("cross", facts=gguf(row_elements={256: 66, 160: 34}))
    assert choice.path[0].endswith("and are stored as q5_0 instead")


def test_a_format_that_no_framework_takes_has_no_candidate() -> None:
    choice = chosen(facts=classifier_facts(format="gguf"))
    assert choice.candidates == ()
    assert "openvino: does not take gguf models" in choice.path


def test_a_framework_that_does_not_know_an_operator_yields_to_the_next(tmp_path: Path) -> None:
    require("onnx", "onnx")
    facts = read_model(string_output(tmp_path).model)
    choice = chosen(facts=facts, requested=("all",), missing=("olive",))
    assert "onnxruntime" in [c.recipe.framework for c in choice.candidates]
    assert "openvino: does not know the operator LabelEncoder" in choice.path


def test_a_real_model_is_planned_like_its_facts(tmp_path: Path) -> None:
    require("onnx", "onnx")
    facts = read_model(linear_classifier(tmp_path).model)
    [candidate] = chosen(facts=facts).candidates
    assert candidate.recipe.id == "openvino-int8-static"
