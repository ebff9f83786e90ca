"""Pruned, and block-wise quantized, artifacts of real frameworks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_edgeai.assess.model import read_structure
from pytest_edgeai.descriptors import FrameworkDescriptor
from pytest_edgeai.errors import ModelError
from pytest_edgeai.judge.artifact import judge_precision
from pytest_edgeai.optimize.frameworks.catalogue import OLIVE, ONNXRUNTIME, OPENVINO
from pytest_edgeai.records import PrecisionFacts

onnx = pytest.importorskip("onnx", reason=f"run: {ONNXRUNTIME.install}")

Drive = Callable[..., Any]
MakeModel = Callable[..., Any]


def proof(path: str, execution: Any, claim: str) -> Any:
    """Return the verdict on what an artifact holds and executes."""
    structure = read_structure(Path(path))
    facts = PrecisionFacts(
        structure.weight_elements,
        structure.quantized_operators,
        execution["executed_precisions"],
        "CPU",
        tuple(execution["executed_devices"]),
    )
    return judge_precision(facts, claim)


@pytest.mark.parametrize("framework", [ONNXRUNTIME, OPENVINO, OLIVE], ids=lambda each: each.name)
def test_channels_go_before_quantization(
    drive: Drive, convolution: MakeModel, framework: FrameworkDescriptor
) -> None:
    model = convolution()
    driver = drive(framework)
    whole = driver.optimize(model, "int8-static")
    before = read_structure(Path(whole["path"])).parameters
    driver.folder /= "pruned"
    made = driver.optimize(model, "int8-static", prune_ratio=0.5)
    assert "pruned 4 output channels of 1 of 2 layers: 3,106 parameters became 1,558" in str(
        made["log"]
    )
    after = read_structure(Path(made["path"])).parameters
    assert after < 0.6 * before
    driver.load(made["path"])
    outputs = driver.evaluate(model)
    assert outputs["scores"].shape == model.expected.shape
    assert proof(made["path"], driver.execution(), "int8").outcome == "pass"
    # What is left are the strongest half of the filters, so that much of the answer is.
    correlation = np.corrcoef(outputs["scores"].ravel(), model.expected.ravel())[0, 1]
    assert 0.5 < correlation < 0.999


@pytest.mark.parametrize("framework", [ONNXRUNTIME, OPENVINO], ids=lambda each: each.name)
def test_full_precision_can_be_pruned(
    drive: Drive, convolution: MakeModel, framework: FrameworkDescriptor
) -> None:
    """A quarter of the filters made zero beforehand is a quarter that costs nothing."""
    model = convolution()
    graph = onnx.load(model.path)
    (kernels,) = (tensor for tensor in graph.graph.initializer if tensor.name == "kernels")
    values = onnx.numpy_helper.to_array(kernels).copy()
    values[[2, 5]] = 0
    kernels.CopyFrom(onnx.numpy_helper.from_array(values, "kernels"))
    onnx.save(graph, model.path)
    driver = drive(framework)
    driver.load(model.path)
    expected = driver.evaluate(model)["scores"]
    made = driver.optimize(model, "convert", calibrated=False, prune_ratio=0.25)
    driver.load(made["path"])
    np.testing.assert_allclose(driver.evaluate(model)["scores"], expected, rtol=1e-4, atol=1e-4)
    assert proof(made["path"], driver.execution(), "float32").outcome == "pass"


@pytest.mark.parametrize(
    ("framework", "ratio", "message"),
    [
        (ONNXRUNTIME, 0.6, "a number from 0.05 to 0.5"),
        (OPENVINO, 0.04, "a number from 0.05 to 0.5"),
        (OPENVINO, 0.1, "no layer can lose output channels: 0.1 of 8 channels is none"),
    ],
    ids=lambda each: getattr(each, "name", str(each)),
)
def test_wrong_ratios(
    drive: Drive,
    convolution: MakeModel,
    framework: FrameworkDescriptor,
    ratio: float,
    message: str,
) -> None:
    driver = drive(framework)
    with pytest.raises(ModelError, match=message.replace(".", r"\.")):
        driver.optimize(convolution(), "int8-static", prune_ratio=ratio)


@pytest.mark.parametrize(
    ("scheme", "options", "most"),
    [
        ("int8-weights", {}, 0.02),
        ("int8-weights", {"symmetric": False, "block_size": 128, "accuracy_level": 1}, 0.02),
        ("int4-weights", {"block_size": 16}, 0.2),
        ("int4-weights", {"symmetric": False, "accuracy_level": 0}, 0.2),
    ],
)
def test_weights_in_blocks(
    drive: Drive, convolution: MakeModel, scheme: str, options: dict[str, Any], most: float
) -> None:
    pytest.importorskip("onnx_ir", reason="run: pip install onnx-ir")
    model = convolution()
    onnxruntime = drive(ONNXRUNTIME)
    made = onnxruntime.optimize(model, scheme, calibrated=False, **options)
    structure = read_structure(Path(made["path"]))
    assert structure.quantized_operators == {"MatMulNBits": 1}
    assert not [line for line in made["log"] if "start to quantize" in line]
    onnxruntime.load(made["path"])
    outputs = onnxruntime.evaluate(model)
    error = np.linalg.norm(outputs["scores"] - model.expected) / np.linalg.norm(model.expected)
    assert 0 < error < most
    claim = {"int8-weights": "int8", "int4-weights": "int4"}[scheme]
    assert proof(made["path"], onnxruntime.execution(), claim).outcome == "pass"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_size": 48}, "16, 32, 64, 128, 256"),
        ({"nodes_to_exclude": ["gemm"]}, "no operator was quantized"),
        ({"per_channel": True}, 'unknown option "per_channel"'),
    ],
)
def test_wrong_blocks(
    drive: Drive, convolution: MakeModel, options: dict[str, Any], message: str
) -> None:
    pytest.importorskip("onnx_ir", reason="run: pip install onnx-ir")
    with pytest.raises(ModelError, match=message):
        drive(ONNXRUNTIME).optimize(convolution(), "int4-weights", calibrated=False, **options)
