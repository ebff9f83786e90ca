"""The default recipes cover every class of model."""

from __future__ import annotations

from typing import get_args

import pytest

from pytest_edgeai.plan.recipes import NEEDS_CALIBRATION, default_recipes
from pytest_edgeai.records import Architecture


@pytest.mark.parametrize("architecture", get_args(Architecture))
@pytest.mark.parametrize("framework", ["onnxruntime", "openvino"])
def test_every_class_has_a_recipe(framework: str, architecture: Architecture) -> None:
    (with_data,) = default_recipes(framework, architecture, calibrated=True)
    (without,) = default_recipes(framework, architecture, calibrated=False)
    assert with_data.framework == without.framework == framework
    assert with_data.reason
    assert without.scheme not in NEEDS_CALIBRATION
