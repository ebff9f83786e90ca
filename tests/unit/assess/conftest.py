"""Small models of every kind, written by the frameworks' own tools."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

Save: TypeAlias = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Return a function that writes a graph's parts as a checked ``.onnx`` file."""

    def write(
        nodes: list[onnx.NodeProto],
        inputs: list[onnx.ValueInfoProto],
        outputs: list[onnx.ValueInfoProto],
        initializers: list[onnx.TensorProto] | tuple[()] = (),
        *,
        name: str = "model.onnx",
        opset: int = 21,
        check: bool = True,
        functions: list[onnx.FunctionProto] | tuple[()] = (),
        domains: tuple[str, ...] = (),
        **graph: object,
    ) -> Path:
        model = helper.make_model(
            helper.make_graph(nodes, "graph", inputs, outputs, list(initializers), **graph),
            opset_imports=[
                helper.make_opsetid("", opset),
                *(helper.make_opsetid(domain, 1) for domain in domains),
            ],
            functions=list(functions),
            ir_version=10,
        )
        if check:
            onnx.checker.check_model(model)
        path = tmp_path / name
        onnx.save(model, path)
        return path

    return write


def convolutional_model() -> onnx.ModelProto:
    """Return Conv, Relu, pooling and MatMul over 3 x 16 x 16 images, dynamic in the batch."""
    random = np.random.default_rng(0)
    tensors = {
        "w": random.normal(size=(8, 3, 3, 3)),
        "b": random.normal(size=8),
        "f": random.normal(size=(8, 10)),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("GlobalAveragePool", ["r"], ["p"]),
            helper.make_node("Flatten", ["p"], ["l"]),
            helper.make_node("MatMul", ["l", "f"], ["y"]),
        ],
        "convolutional",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(array.astype(np.float32), key) for key, array in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def dense_model() -> onnx.ModelProto:
    """Return MatMul, Relu, MatMul over vectors of 128."""
    random = np.random.default_rng(0)
    shapes = {"w1": (128, 64), "w2": (64, 32)}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w1"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("MatMul", ["b", "w2"], ["y"]),
        ],
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 128])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 32])],
        [
            numpy_helper.from_array(random.normal(size=shape).astype(np.float32), key)
            for key, shape in shapes.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def calibration() -> Iterator[dict[str, np.ndarray]]:
    """Yield four random inputs of the convolutional model."""
    random = np.random.default_rng(1)
    for _ in range(4):
        yield {"x": random.normal(size=(1, 3, 16, 16)).astype(np.float32)}


@pytest.fixture(scope="session")
def convolutional(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The convolutional model as an ONNX file."""
    path = tmp_path_factory.mktemp("convolutional") / "model.onnx"
    onnx.save(convolutional_model(), path)
    return path


@pytest.fixture(scope="session")
def quantized(tmp_path_factory: pytest.TempPathFactory, convolutional: Path) -> dict[str, Path]:
    """Models that ONNX Runtime quantized: ``qdq``, ``qoperator``, ``fake`` and ``dynamic``."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.samples = calibration()

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.samples, None)

    folder = tmp_path_factory.mktemp("quantized")
    dense = folder / "dense.onnx"
    onnx.save(dense_model(), dense)
    paths = {key: folder / f"{key}.onnx" for key in ("qdq", "qoperator", "fake", "dynamic")}
    shared = {"per_channel": True, "weight_type": QuantType.QInt8}
    quantize_static(convolutional, paths["qdq"], Reader(), quant_format=QuantFormat.QDQ, **shared)
    quantize_static(
        convolutional, paths["qoperator"], Reader(), quant_format=QuantFormat.QOperator, **shared
    )
    quantize_static(
        convolutional,
        paths["fake"],
        Reader(),
        quant_format=QuantFormat.QDQ,
        extra_options={"AddQDQPairToWeight": True},
        **shared,
    )
    quantize_dynamic(dense, paths["dynamic"], **shared)
    return paths
