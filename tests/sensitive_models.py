"""Models with a layer that bears quantization badly, though they compute what they did before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from model_parts import IR_VERSION, OPSET
from onnx import TensorProto, helper, numpy_helper

SIDE = 8
CHANNELS = 8
OUTLIER = 1000.0


def deep_cnn(path: Path, *, layers: int = 6, outlier: int | None = 2, named: bool = True) -> Path:
    """Write ``layers`` 3x3 convolutions with ReLU, and a dense layer, on 3x8x8 images.

    Channel 0 that convolution number ``outlier`` makes is a thousand times the others, and the next
    one weighs it by a thousandth: a range for the whole tensor leaves nothing of the others.
    """
    rng = np.random.default_rng(0)
    nodes: list[Any] = []
    weights: dict[str, Any] = {}
    now, channels = "image", 3
    for number in range(layers):
        kernels = rng.normal(size=(CHANNELS, channels, 3, 3)) * (2 / (9 * channels)) ** 0.5
        weights[f"kernels{number}"] = kernels.astype(np.float32)
        weights[f"bias{number}"] = (rng.normal(size=CHANNELS) / 10).astype(np.float32)
        inputs = [now, f"kernels{number}", f"bias{number}"]
        name = f"conv{number}" if named else ""
        nodes.append(helper.make_node("Conv", inputs, [f"c{number}"], name=name, pads=[1] * 4))
        name = f"relu{number}" if named else ""
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"], name=name))
        now, channels = f"r{number}", CHANNELS
    weights["dense"] = rng.normal(size=(CHANNELS, 10)).astype(np.float32)
    weights["offset"] = rng.normal(size=10).astype(np.float32)
    nodes += [
        helper.make_node("GlobalAveragePool", [now], ["pooled"], name="pool" if named else ""),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flat" if named else ""),
        helper.make_node(
            "Gemm", ["flat", "dense", "offset"], ["scores"], name="gemm" if named else ""
        ),
    ]
    if outlier is not None:
        weights[f"kernels{outlier}"][0] *= OUTLIER
        weights[f"bias{outlier}"][0] *= OUTLIER
        weights[f"kernels{outlier + 1}"][:, 0] /= OUTLIER
    graph = helper.make_graph(
        nodes,
        "deep",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def plant_outlier(path: Path, first: str, second: str) -> None:
    """Scale channel 0 between two convolutions of a file; both are named by their weights."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name in (first, second):
            values = numpy_helper.to_array(tensor).copy()
            if tensor.name == first:
                values[0] *= OUTLIER
            else:
                values[:, 0] /= OUTLIER
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, path)
