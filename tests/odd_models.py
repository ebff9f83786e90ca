"""Model files that a reader meets rarely: nested graphs, functions, sparse weights, broken bytes.

The models of the first part are valid and executable; those of the second must be refused. None of
them comes with data. ``models`` holds the classifiers with data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from model_parts import IR_VERSION, OPSET
from onnx import TensorProto, checker, helper, numpy_helper


@dataclass(frozen=True)
class OddModel:
    """One model file and what a reader must find in it.

    Attributes:
        path: the file.
        operators: operator type to number of nodes, nested graphs and functions included; a call
            of a function does not count, the nodes of its body count once.
        parameters: number of elements of all float weights, nested ones included.
        output_of_ones: output for an input of ones; ``None`` where the file is not executable.
    """

    path: Path
    operators: Mapping[str, int] = field(default_factory=dict)
    parameters: int = 0
    output_of_ones: tuple[float, ...] | None = None


def _save(
    path: Path,
    nodes: Sequence[Any],
    weights: Mapping[str, Any],
    *,
    sparse: Sequence[Any] = (),
    functions: Sequence[Any] = (),
    domains: Mapping[str, int] | None = None,
) -> Path:
    """Write a model from ``x`` float32 ``(batch, 4)`` to ``y`` float32 ``(batch, 4)``."""
    shape = ["batch", 4]
    graph = helper.make_graph(
        list(nodes),
        "odd",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
        sparse_initializer=list(sparse),
    )
    opsets = {"": OPSET, **(domains or {})}
    model = helper.make_model(
        graph,
        functions=list(functions),
        opset_imports=[helper.make_opsetid(name, version) for name, version in opsets.items()],
    )
    model.ir_version = IR_VERSION
    # Shape inference, which the full check adds, does not see sparse initializers.
    checker.check_model(model, full_check=not sparse)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def nested_subgraphs(directory: Path) -> OddModel:
    """``If`` whose branches are graphs; one holds a ``Loop``; each level has a weight of its own.

    The loop adds its weight (0.5) three times where the mean of ``x`` is positive.
    """
    floats = ["batch", 4]
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["state", "loop_w"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, floats),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, floats),
        ],
        [numpy_helper.from_array(np.full(4, 0.5, np.float32), "loop_w")],
    )
    then_branch = helper.make_graph(
        [helper.make_node("Loop", ["trips", "always", "hidden"], ["looped"], body=body)],
        "then",
        [],
        [helper.make_tensor_value_info("looped", TensorProto.FLOAT, floats)],
        [
            numpy_helper.from_array(np.int64(3), "trips"),
            numpy_helper.from_array(np.bool_(True), "always"),
        ],
    )
    else_branch = helper.make_graph(
        [helper.make_node("Mul", ["hidden", "else_w"], ["scaled"])],
        "else",
        [],
        [helper.make_tensor_value_info("scaled", TensorProto.FLOAT, floats)],
        [numpy_helper.from_array(np.full(4, 2.0, np.float32), "else_w")],
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["hidden"]),
        helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0),
        helper.make_node("Greater", ["mean", "zero"], ["positive"]),
        helper.make_node(
            "If", ["positive"], ["y"], then_branch=then_branch, else_branch=else_branch
        ),
    ]
    weights = {"w": np.eye(4, dtype=np.float32), "zero": np.float32(0)}
    kinds = ("MatMul", "ReduceMean", "Greater", "If", "Loop", "Identity", "Add", "Mul")
    return OddModel(
        _save(directory / "nested.onnx", nodes, weights),
        operators=dict.fromkeys(kinds, 1),
        parameters=16 + 1 + 4 + 4,
        output_of_ones=(2.5,) * 4,
    )


def local_function(directory: Path) -> OddModel:
    """A function of the model's own (``test.zoo::ScaledRelu``), called twice.

    ONNX Runtime executes it; OpenVINO does not convert it.
    """
    function = helper.make_function(
        "test.zoo",
        "ScaledRelu",
        ["value", "factor"],
        ["result"],
        [
            helper.make_node("Relu", ["value"], ["positive"]),
            helper.make_node("Mul", ["positive", "factor"], ["result"]),
        ],
        [helper.make_opsetid("", OPSET)],
    )
    nodes = [
        helper.make_node("ScaledRelu", ["x", "a"], ["hidden"], domain="test.zoo"),
        helper.make_node("ScaledRelu", ["hidden", "b"], ["y"], domain="test.zoo"),
    ]
    weights = {"a": np.full(4, 2.0, np.float32), "b": np.full(4, 3.0, np.float32)}
    path = directory / "function.onnx"
    return OddModel(
        _save(path, nodes, weights, functions=[function], domains={"test.zoo": 1}),
        operators={"Relu": 1, "Mul": 1},
        parameters=8,
        output_of_ones=(6.0,) * 4,
    )


def sparse_initializer(directory: Path) -> OddModel:
    """A 4x4 weight stored with its three non-zero values alone.

    ONNX Runtime executes it; OpenVINO does not read it.
    """
    values = helper.make_tensor("w", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    indices = helper.make_tensor("w_indices", TensorProto.INT64, [3], [0, 5, 10])
    sparse = helper.make_sparse_tensor(values, indices, [4, 4])
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    return OddModel(
        _save(directory / "sparse.onnx", nodes, {}, sparse=[sparse]),
        operators={"MatMul": 1},
        parameters=16,
        output_of_ones=(1.0, 2.0, 3.0, 0.0),
    )


def constant_weights(directory: Path) -> OddModel:
    """Weights in ``Constant`` nodes instead of initializers, as some exporters write them."""
    value = numpy_helper.from_array(np.eye(4, dtype=np.float32) * 2, "value")
    nodes = [
        helper.make_node("Constant", [], ["w"], value=value),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    return OddModel(
        _save(directory / "constants.onnx", nodes, {}),
        operators={"Constant": 1, "MatMul": 1},
        parameters=16,
        output_of_ones=(2.0,) * 4,
    )


def unknown_opset(directory: Path) -> OddModel:
    """A well-formed file that claims operator set 999.

    ONNX Runtime refuses it; OpenVINO reads it as the newest operator set that it knows.
    """
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "future",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 999)])
    model.ir_version = IR_VERSION
    return _raw(directory / "future.onnx", model.SerializeToString())


def truncated(directory: Path, source: Path) -> OddModel:
    """The first half of the file ``source``, as a broken download leaves it."""
    content = source.read_bytes()
    return _raw(directory / "truncated.onnx", content[: len(content) // 2])


def empty(directory: Path) -> OddModel:
    """A file of no bytes, which protobuf alone would read as an empty message."""
    return _raw(directory / "empty.onnx", b"")


def not_a_model(directory: Path) -> OddModel:
    """The page that a server sends instead of a file, under the model's name."""
    return _raw(directory / "page.onnx", b"<!doctype html><title>404 Not Found</title>\n")


def _raw(path: Path, content: bytes) -> OddModel:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return OddModel(path)
