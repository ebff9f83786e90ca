from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from models import linear_classifier, require, string_output

from pytest_edgeai.assess.model import read_model
from pytest_edgeai.facts import ModelFacts
from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS
from pytest_edgeai.plan.selection import Choice, choose
from pytest_edgeai.plan.targets import TARGETS
from pytest_edgeai.specification import DataSource, ModelSpec


@pytest.fixture
def facts(tmp_path: Path) -> ModelFacts:
    require("onnx", "onnx")
    return read_model(linear_classifier(tmp_path).model)


def spec(facts: ModelFacts, *, calibrated: bool = True, baseline: str = "native") -> ModelSpec:
    source = DataSource(facts.path, None, "data")
    return ModelSpec(
        name="m",
        path=facts.path,
        task="tabular-classification",
        data=source,
        calibration=source if calibrated else None,
        metric="accuracy",
        baseline=baseline,
        targets=None,
        gates={},
        recipes=None,
        output=None,
        classes=None,
        batch=1,
        where="here",
    )


def chosen(
    model: ModelSpec,
    facts: ModelFacts,
    *,
    target: str = "intel",
    requested: tuple[str, ...] = ("primary",),
    missing: tuple[str, ...] = (),
) -> Choice:
    return choose(
        model,
        facts,
        TARGETS[target],
        frameworks=FRAMEWORKS,
        requested=requested,
        choose_recipes=lambda *arguments: None,
        missing=lambda name: f"{name} is absent" if name in missing else "",
        several_targets=False,
        proxy_reason="",
    )


def test_the_first_framework_of_the_target_is_primary(facts: ModelFacts) -> None:
    for target, first in (("intel", "openvino"), ("cross", "onnxruntime")):
        [candidate] = chosen(spec(facts), facts, target=target).candidates
        assert candidate.recipe.id == f"{first}-int8-static"
        assert candidate.baseline_framework == "onnxruntime"
        assert not candidate.demanded


def test_all_takes_every_framework_and_says_which_are_not_there(facts: ModelFacts) -> None:
    choice = chosen(spec(facts), facts, requested=("all",))
    assert [c.recipe.framework for c in choice.candidates] == ["openvino", "onnxruntime"]
    assert "olive: not part of this installation" in choice.path


def test_an_absent_framework_stays_visible_and_yields_to_the_next(facts: ModelFacts) -> None:
    first, second = chosen(spec(facts), facts, missing=("openvino",)).candidates
    assert (first.recipe.framework, first.unavailable) == ("openvino", "openvino is absent")
    assert (second.recipe.framework, second.unavailable) == ("onnxruntime", "")


def test_a_named_framework_is_demanded(facts: ModelFacts) -> None:
    [candidate] = chosen(
        spec(facts), facts, requested=("openvino",), missing=("openvino",)
    ).candidates
    assert candidate.demanded
    assert candidate.unavailable


def test_an_absent_baseline_makes_the_candidate_unavailable(facts: ModelFacts) -> None:
    first, *_ = chosen(spec(facts), facts, missing=("onnxruntime",)).candidates
    assert first.unavailable == "onnxruntime is absent"
    first, *_ = chosen(
        spec(facts, baseline="same-framework"), facts, missing=("onnxruntime",)
    ).candidates
    assert (first.unavailable, first.baseline_framework) == ("", "openvino")


def test_without_calibration_data_the_recipe_needs_none(facts: ModelFacts) -> None:
    [candidate] = chosen(spec(facts, calibrated=False), facts).candidates
    assert candidate.recipe.scheme == "int8-weights"
    assert "calibration" in candidate.recipe.reason


def test_a_framework_that_does_not_know_an_operator_yields_to_the_next(tmp_path: Path) -> None:
    require("onnx", "onnx")
    facts = read_model(string_output(tmp_path).model)
    choice = chosen(spec(facts), facts)
    assert [c.recipe.framework for c in choice.candidates] == ["onnxruntime"]
    assert "openvino: does not know the operator LabelEncoder" in choice.path


def test_a_format_that_no_framework_takes_has_no_candidate(facts: ModelFacts) -> None:
    choice = chosen(spec(facts), dataclasses.replace(facts, format="gguf"))
    assert choice.candidates == ()
    assert "openvino: does not take gguf models" in choice.path
