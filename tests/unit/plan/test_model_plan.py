"""One model for several targets: what is gated once, what is left out, what cannot be."""

from __future__ import annotations

from typing import Any

import pytest
from plan_parts import CHAT, chat_facts, classifier_facts, model_spec, surroundings

from pytest_edgeai.errors import ModelError
from pytest_edgeai.plan.model_plan import Planned, plan_model
from pytest_edgeai.plan.targets import TARGETS
from pytest_edgeai.records import ModelFacts, Recipe
from pytest_edgeai.specification import ModelSpec


def planned(
    *names: str,
    facts: ModelFacts | None = None,
    model: ModelSpec | None = None,
    only_served: bool = True,
    **around: Any,
) -> Planned:
    found = facts if facts is not None else classifier_facts()
    spec = model if model is not None else model_spec(*([CHAT] if found.language else []))
    return plan_model(
        spec,
        found,
        [TARGETS[name] for name in names or TARGETS],
        surroundings(**{"name_target": True, **around}),
        only_served=only_served,
    )


def test_every_target_that_can_be_served() -> None:
    plan = planned(missing=("olive", "mlx", "llamacpp"))
    assert {each.target.name for each in plan.candidates} == set(TARGETS)
    assert not plan.unserved
    assert not any(each.unavailable for each in plan.candidates)


def test_candidates_of_one_recipe_lie_side_by_side() -> None:
    plan = planned("intel", "cross", "edge-tpu", "arm-mobile")
    assert [each.node for each in plan.candidates] == [
        "openvino-int8-static@intel",
        "openvino-int8-static@edge-tpu",
        "onnxruntime-int8-static@cross",
        "onnxruntime-int8-static@arm-mobile",
    ]


def test_what_is_left_out_says_why() -> None:
    plan = planned("intel", "cross", "edge-tpu", facts=chat_facts(format="gguf"))
    assert {each.target.name for each in plan.candidates} == {"intel", "cross"}
    [left] = plan.unserved
    assert (left.model, left.target) == ("m", "edge-tpu")
    assert left.reason == ("openvino: does not take gguf models; olive: does not take gguf models")


def test_an_absent_framework_leaves_its_target_out() -> None:
    plan = planned("enterprise", "cross", missing=("olive", "openvino"))
    assert [each.node for each in plan.candidates] == ["onnxruntime-int8-static@cross"]
    assert [each.target for each in plan.unserved] == ["enterprise"]
    assert "olive is absent" in plan.unserved[0].reason
    assert "openvino is absent" in plan.unserved[0].reason


def test_named_targets_keep_what_cannot_be_made() -> None:
    plan = planned("enterprise", missing=("olive", "openvino"), only_served=False)
    assert [bool(each.unavailable) for each in plan.candidates] == [True, True]
    assert not plan.unserved


def test_the_targets_of_the_manifest_are_the_only_ones() -> None:
    plan = planned(model=model_spec(targets=("cross", "intel")))
    assert {each.target.name for each in plan.candidates} == {"cross", "intel"}
    assert not plan.unserved


def test_a_named_framework_gates_the_targets_that_list_it() -> None:
    plan = planned(requested=("onnxruntime",), only_listed=True)
    assert {each.target.name for each in plan.candidates} == {
        "intel",
        "apple",
        "arm-mobile",
        "arm-embedded",
        "cross",
        "qualcomm",
    }
    assert {each.reason for each in plan.unserved} == {"none of its frameworks was asked for"}


def test_the_path_names_the_target_of_each_step() -> None:
    assert planned("apple").path[0] == "apple: mlx: does not take onnx models"
    assert planned("apple", name_target=False).path[0] == "mlx: does not take onnx models"


def test_nothing_at_all_is_an_error_of_the_model() -> None:
    facts = chat_facts(format="gguf", quantization="q4_k_m")
    with pytest.raises(ModelError, match=r"here: no framework can take it \(the model: its weig"):
        planned("cross", facts=facts, only_served=False, name_target=False)
    with pytest.raises(ModelError, match="this host can serve none of 9 targets"):
        planned(facts=facts)


def test_a_recipe_without_its_calibration_data() -> None:
    recipes = (Recipe("onnxruntime", "int8-static"),)
    with pytest.raises(ModelError, match='"onnxruntime-int8-static" needs calibration data'):
        planned("cross", model=model_spec(calibrated=False, recipes=recipes))


def test_two_recipes_of_one_name_are_refused() -> None:
    def choose(model: ModelSpec, facts: ModelFacts, framework: str, target: str) -> list[Recipe]:
        return [Recipe(framework, "int8-static", {"preset": target})]

    with pytest.raises(ModelError, match='two different recipes are named "openvino-int8-static"'):
        planned("intel", "edge-tpu", choose_recipes=choose)
    assert len(planned("intel", "cross", choose_recipes=choose).candidates) == 2
