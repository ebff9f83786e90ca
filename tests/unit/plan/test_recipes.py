"""The default recipes cover every class of model."""

from __future__ import annotations

from typing import get_args

import pytest

from pytest_edgeai.optimize.frameworks.catalogue import FRAMEWORKS
from pytest_edgeai.plan.recipes import DEFAULTS, NEEDS_CALIBRATION, default_recipes
from pytest_edgeai.records import Architecture


@pytest.mark.parametrize("architecture", get_args(Architecture))
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_class_has_a_recipe(framework: str, architecture: Architecture) -> None:
    with_data = default_recipes(framework, architecture, calibrated=True)
    without = default_recipes(framework, architecture, calibrated=False)
    for recipes in (with_data, without):
        assert {recipe.framework for recipe in recipes} == {framework}
        assert all(recipe.reason for recipe in recipes)
        assert len({recipe.id for recipe in recipes}) == len(recipes)
    assert not NEEDS_CALIBRATION & {recipe.scheme for recipe in without}


@pytest.mark.parametrize(
    ("framework", "architecture", "calibrated", "scheme"),
    [
        ("mlx", "language-model", False, "int4-g64"),
        ("openvino", "convolutional", True, "int8-static"),
        ("openvino", "language-model", False, "int8-weights"),
        ("llamacpp", "language-model", False, "q4_k_m"),
        ("llamacpp", "mixture-of-experts", False, "q4_k_m"),
        ("onnxruntime", "convolutional", True, "int8-static"),
        ("onnxruntime", "transformer", True, "int8-dynamic"),
        ("olive", "language-model", False, "int4-genai"),
        ("olive", "convolutional", True, "int8-static"),
        ("olive", "convolutional", False, "int8-dynamic"),
    ],
)
def test_the_default_of_each_platform(
    framework: str, architecture: Architecture, calibrated: bool, scheme: str
) -> None:
    assert default_recipes(framework, architecture, calibrated=calibrated)[0].scheme == scheme


def test_an_unknown_framework_has_none() -> None:
    assert default_recipes("tvm", "convolutional", calibrated=True) == ()
    assert set(DEFAULTS) == set(FRAMEWORKS)
