"""Which tensors are weights, what is quantized, and the class of a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pytest_edgeai.assess import roles
from pytest_edgeai.assess.dataflow import analyze
from pytest_edgeai.assess.onnx_file import read_onnx
from pytest_edgeai.assess.structure import DTYPE_BITS, Constant, Dataflow, Node

Save: TypeAlias = Callable[..., Path]
FLOAT = TensorProto.FLOAT


def value(name: str, shape: list[object]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, FLOAT, shape)


def tensor(name: str, *shape: int, dtype: str = "float32") -> onnx.TensorProto:
    return numpy_helper.from_array(np.ones(shape, dtype), name)


def numbers(name: str, *items: float, dtype: str = "int64") -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(items, dtype), name)


def node(operator: str, inputs: str, outputs: str, **attributes: object) -> onnx.NodeProto:
    names = [name.strip("-") for name in inputs.split()]
    return helper.make_node(operator, names, outputs.split(), **attributes)


def attention(
    prefix: str, source: str, target: str, width: int
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """One head of scaled dot-product attention, as exporters write it."""
    p = prefix
    nodes = [
        *(node("MatMul", f"{source} {p}w{c}", f"{p}{c}") for c in "qkv"),
        node("Transpose", f"{p}k", f"{p}kt", perm=[0, 2, 1]),
        node("MatMul", f"{p}q {p}kt", f"{p}s"),
        node("Div", f"{p}s {p}root", f"{p}sd"),
        node("Softmax", f"{p}sd", f"{p}a"),
        node("MatMul", f"{p}a {p}v", target),
    ]
    tensors = [tensor(f"{p}w{c}", width, width) for c in "qkv"]
    return nodes, [*tensors, numpy_helper.from_array(np.float32(2), f"{p}root")]


def test_shapes_indices_and_scalars_are_no_weights(save: Save) -> None:
    path = save(
        [
            node("Gather", "table i", "g", axis=0),
            node("Reshape", "x r", "xr"),
            node("Clip", "xr low high", "xc"),
            node("Resize", "img - scales", "big"),
            node("MatMul", "xc w", "m"),
            node("Add", "m one", "a"),
            node("Add", "a g", "y"),
            node("ReduceMean", "big axes", "z"),
        ],
        [value("x", [4]), value("img", [1, 1, 4, 4])],
        [value("y", [2, 3]), value("z", [1, 1, 1, 1])],
        [
            tensor("table", 5, 3),
            numbers("i", 1, 2),
            numbers("r", 2, 2),
            numpy_helper.from_array(np.float32(0), "low"),
            numpy_helper.from_array(np.float32(6), "high"),
            numbers("scales", 1, 1, 2, 2, dtype="float32"),
            tensor("w", 2, 3),
            numpy_helper.from_array(np.float32(1), "one"),
            numbers("axes", 2, 3),
            tensor("unused", 7, 7),
        ],
    )
    assert read_onnx(path).weight_elements == {"float32": 15 + 6}


def test_block_scales_and_zero_points_are_no_weights(save: Save) -> None:
    path = save(
        [
            node("DequantizeLinear", "w s z", "d", axis=0, block_size=2),
            node("Transpose", "d", "t"),
            node("MatMul", "x t", "y"),
        ],
        [value("x", ["n", 6])],
        [value("y", ["n", 8])],
        [
            tensor("s", 4, 6),
            helper.make_tensor("w", TensorProto.INT4, [8, 6], [1] * 48),
            helper.make_tensor("z", TensorProto.INT4, [4, 6], [0] * 24),
        ],
    )
    found = read_onnx(path)
    assert found.weight_elements == {"int4": 48}
    assert found.quantized_operators == {"MatMul": 1}


def test_decompression_by_cast_subtract_multiply(save: Save) -> None:
    path = save(
        [
            node("Cast", "w", "f", to=FLOAT),
            node("Cast", "z", "zf", to=FLOAT),
            node("Sub", "f zf", "d"),
            node("Mul", "s d", "m"),
            node("MatMul", "x m", "y"),
        ],
        [value("x", ["n", 4])],
        [value("y", ["n", 8])],
        [tensor("w", 4, 8, dtype="uint8"), tensor("z", 1, 8, dtype="uint8"), tensor("s", 1, 8)],
    )
    found = read_onnx(path)
    assert found.weight_elements == {"uint8": 32}
    assert found.quantized_operators == {"MatMul": 1}


def test_packed_weights_of_matmulnbits(save: Save) -> None:
    path = save(
        [node("MatMulNBits", "x b s", "y", domain="com.microsoft", K=64, N=10, bits=4,
              block_size=32)],
        [value("x", ["n", 64])],
        [value("y", ["n", 10])],
        [tensor("b", 10, 2, 16, dtype="uint8"), tensor("s", 20)],
        check=False,
        domains=("com.microsoft",),
    )  # fmt: skip
    found = read_onnx(path)
    assert found.weight_elements == {"uint4": 640}
    assert found.quantized_operators == {"MatMulNBits": 1}


def test_a_quantized_embedding(save: Save) -> None:
    path = save(
        [node("Gather", "e i", "g"), node("DequantizeLinear", "g s", "y")],
        [helper.make_tensor_value_info("i", TensorProto.INT64, ["n"])],
        [value("y", ["n", 4])],
        [tensor("e", 100, 4, dtype="int8"), numpy_helper.from_array(np.float32(1), "s")],
    )
    assert read_onnx(path).weight_elements == {"int8": 400}


def test_a_full_precision_weight_beside_quantized_ones_is_seen(save: Save) -> None:
    path = save(
        [
            node("DequantizeLinear", "q s", "d"),
            helper.make_node("MatMul", ["x", "d"], ["h"], name="first"),
            helper.make_node("MatMul", ["h", "w"], ["y"], name="second"),
        ],
        [value("x", ["n", 4])],
        [value("y", ["n", 4])],
        [
            tensor("q", 4, 4, dtype="int8"),
            numpy_helper.from_array(np.float32(1), "s"),
            tensor("w", 4, 4),
        ],
    )
    found = read_onnx(path)
    assert found.weight_elements == {"float32": 16, "int8": 16}
    assert found.quantized_operators == {"MatMul": 1}
    assert found.full_precision_weights == {"second": 16}


@pytest.mark.parametrize("normalized", [False, True])
def test_transformer(save: Save, normalized: bool) -> None:
    nodes, tensors = attention("", "n", "y", 8)
    first = node("LayerNormalization", "x g", "n") if normalized else node("Identity", "x", "n")
    path = save(
        [first, *nodes], [value("x", ["b", 5, 8])], [value("y", ["b", 5, 8])],
        [*tensors, tensor("g", 8)],
    )  # fmt: skip
    assert read_onnx(path).architecture == "transformer"


def test_a_vision_transformer_with_a_patch_convolution(save: Save) -> None:
    nodes, tensors = attention("", "p", "y", 32)
    path = save(
        [
            node("Conv", "x w", "c", strides=[4, 4]),
            node("Reshape", "c shape", "r"),
            node("Transpose", "r", "p", perm=[0, 2, 1]),
            *nodes,
        ],
        [value("x", ["b", 3, 16, 16])],
        [value("y", ["b", 16, 32])],
        [*tensors, tensor("w", 32, 3, 4, 4), numbers("shape", 0, 32, -1)],
    )
    assert read_onnx(path).architecture == "transformer"


def test_a_detector_with_a_little_attention_stays_convolutional(save: Save) -> None:
    nodes, tensors = attention("", "p", "y", 8)
    path = save(
        [
            node("Conv", "x w", "c", pads=[1, 1, 1, 1]),
            node("Reshape", "c shape", "p"),
            *nodes,
        ],
        [value("x", ["b", 64, 4, 4])],
        [value("y", ["b", "t", 8])],
        [*tensors, tensor("w", 64, 64, 3, 3), numbers("shape", 0, -1, 8)],
    )
    assert read_onnx(path).architecture == "convolutional"


def test_the_softmax_of_a_classifier_is_no_attention(save: Save) -> None:
    path = save(
        [
            node("MatMul", "x w", "h"),
            node("LayerNormalization", "h g", "n"),
            node("MatMul", "n v", "l"),
            node("Softmax", "l", "y"),
        ],
        [value("x", ["n", 4])],
        [value("y", ["n", 3])],
        [tensor("w", 4, 8), tensor("g", 8), tensor("v", 8, 3)],
    )
    assert read_onnx(path).architecture == "other"


def test_recurrent_and_recurrent_inside_a_loop(save: Save) -> None:
    lstm = [tensor("w", 1, 16, 3), tensor("r", 1, 16, 4)]
    path = save(
        [node("LSTM", "x w r", "y", hidden_size=4)],
        [value("x", [5, 1, 3])],
        [value("y", [5, 1, 1, 4])],
        lstm,
    )
    assert read_onnx(path).architecture == "recurrent"
    body = helper.make_graph(
        [
            node("Identity", "c", "co"),
            node("GRU", "v w r", "h", hidden_size=3),
            node("Squeeze", "h one", "vo"),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            value("v", [5, 1, 3]),
        ],
        [helper.make_tensor_value_info("co", TensorProto.BOOL, []), value("vo", [5, 1, 3])],
        [tensor("w", 1, 9, 3), tensor("r", 1, 9, 3), numbers("one", 1)],
    )
    path = save(
        [node("Loop", "n - x", "y", body=body)],
        [value("x", [5, 1, 3])],
        [value("y", [5, 1, 3])],
        [numpy_helper.from_array(np.array(2), "n")],
    )
    found = read_onnx(path)
    assert found.architecture == "recurrent"
    assert found.weight_elements == {"float32": 54}


def test_the_large_dense_head_of_a_classifier_does_not_hide_its_convolutions(save: Save) -> None:
    path = save(
        [
            node("Conv", "x w", "c", pads=[1, 1, 1, 1]),
            node("Flatten", "c", "f"),
            node("Gemm", "f d", "y"),
        ],
        [value("x", ["n", 16, 4, 4])],
        [value("y", ["n", 100])],
        [tensor("w", 32, 16, 3, 3), tensor("d", 512, 100)],
    )
    assert read_onnx(path).architecture == "convolutional"


def test_tensors_that_share_their_bytes_are_stored_once() -> None:
    flow = Dataflow()
    x, a, b, y, z = (flow.new_value() for _ in range(5))
    flow.constants += [Constant(a, "float32", 10, "same"), Constant(b, "float32", 10, "same")]
    flow.nodes += [Node("MatMul", (x, a), (y,)), Node("MatMul", (y, b), (z,))]
    assert analyze(flow).weight_elements == {"float32": 10}


def test_auxiliary_positions_of_variadic_quantized_operators() -> None:
    data = [p for p in range(8) if not roles.is_auxiliary("QLinearConcat", p)]
    assert data == [2, 5]
    assert [p for p in range(5) if not roles.is_auxiliary("QLinearSigmoid", p)] == [0]
    assert not roles.is_quantized("DequantizeLinear")
    assert roles.is_quantized("QLinearAdd")


OPERATORS = sorted(
    roles.PASSING
    | roles.MULTIPLICATIONS
    | roles.SUBTRACTIONS
    | roles.SOFTMAXES
    | {"MatMul", "Conv", "Concat", "QLinearConv", "DynamicQuantizeLinear", "LSTM"}
)


@given(st.data())
def test_any_dataflow_with_cycles_and_dangling_values_is_analyzed(data: st.DataObject) -> None:
    flow = Dataflow()
    values = st.integers(-1, 12)
    ports = st.lists(values, max_size=5).map(tuple)
    flow.nodes += data.draw(
        st.lists(st.builds(Node, st.sampled_from(OPERATORS), ports, ports), max_size=20)
    )
    flow.links += data.draw(st.lists(st.tuples(values, values), max_size=5))
    dtypes = st.sampled_from([*DTYPE_BITS, "str", "onnx_type_77"])
    flow.constants += data.draw(
        st.lists(
            st.builds(Constant, values, dtypes, st.integers(0, 2**70), st.integers()), max_size=8
        )
    )
    found = analyze(flow)
    assert set(found.weight_elements) <= {constant.dtype for constant in flow.constants}
    assert sum(found.quantized_operators.values()) <= len(flow.nodes)


def test_routed_experts_make_a_mixture(save: Save) -> None:
    path = save(
        [
            node("MatMul", "x router", "scores"),
            node("MoE", "x scores up - down", "y", k=2, domain="com.microsoft"),
        ],
        [value("x", [4, 8])],
        [value("y", [4, 8])],
        [tensor("router", 8, 4), tensor("up", 4, 16, 8), tensor("down", 4, 8, 16)],
        domains=("com.microsoft",),
    )
    facts = read_onnx(path)
    assert facts.architecture == "mixture-of-experts"
    assert facts.workload.flops is None
    assert "com.microsoft.MoE is unknown" in facts.workload.note
