"""The server runs a bundle with the hints that it was measured with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from models import linear_classifier, require

from pytest_edgeai.serving.bundle import _measured_runtime
from pytest_edgeai.serving.runtimes import LOADERS


@pytest.mark.parametrize(
    ("framework", "extra", "hints"),
    [
        ("onnxruntime", "onnx", {"graph_optimization_level": "basic", "memory_mapping": "off"}),
        ("onnxruntime", "onnx", {"session.set_denormal_as_zero": "1"}),
        ("openvino", "intel", {"PERFORMANCE_HINT": "THROUGHPUT"}),
    ],
)
def test_hints_reach_the_runtime(
    framework: str, extra: str, hints: dict[str, str], tmp_path: Path
) -> None:
    require(framework, extra)
    project = linear_classifier(tmp_path)
    with np.load(project.data) as archive:
        feeds = {"features": archive["features"][:3]}
    plain = LOADERS[framework](project.model, 1, "CPU", {})
    hinted = LOADERS[framework](project.model, 1, "CPU", hints)
    (name,) = (output.name for output in plain.outputs)
    np.testing.assert_allclose(hinted.run(feeds)[name], plain.run(feeds)[name], rtol=1e-5)


def test_a_hint_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    require("onnxruntime", "onnx")
    project = linear_classifier(tmp_path)
    with pytest.raises(KeyError):
        LOADERS["onnxruntime"](project.model, 1, "CPU", {"graph_optimization_level": "much"})


def test_a_bundle_tells_the_hints(tmp_path: Path) -> None:
    runtime = {"threads": 2, "device": "CPU", "hints": {"a": "b"}}
    text = json.dumps({"framework": {"runtime": runtime}})
    (tmp_path / "deployment.json").write_text(text, encoding="utf-8")
    assert _measured_runtime(tmp_path) == runtime
