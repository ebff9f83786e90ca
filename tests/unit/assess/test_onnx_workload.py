"""The work of ONNX graphs: figures computed by hand, and shapes against onnx.shape_inference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pytest_edgeai.assess.model import read_model
from pytest_edgeai.assess.onnx_call import Call, UnknownShape, broadcast
from pytest_edgeai.assess.onnx_shapes import infer
from pytest_edgeai.assess.onnx_values import read_attributes
from pytest_edgeai.assess.protobuf import LENGTH, Reader, tag

Save = Callable[..., Path]
EXAMPLE = Path(__file__).parents[3] / "examples" / "digits" / "digits.onnx"
needs_example = pytest.mark.skipif(
    not EXAMPLE.exists(), reason="the sdist leaves the model out; examples/digits/train.py makes it"
)

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
node = helper.make_node


QUIET = onnxruntime.SessionOptions()
QUIET.intra_op_num_threads = 1


def info(name: str, shape: list[object] | None, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def weight(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.zeros(shape, np.float32), name)


def ints(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


@needs_example
def test_the_shipped_example() -> None:
    """The layers of examples/digits/train.py, summed by hand from the stored shapes."""
    model = onnx.load(EXAMPLE)
    shapes = {each.name: tuple(each.dims) for each in model.graph.initializer}
    side, macs = 32, 0
    moved = sum(numpy_helper.to_array(each).nbytes for each in model.graph.initializer)
    size = 4 * 32 * 32
    for operator in model.graph.node:
        if operator.op_type == "Conv":
            out, inner, height, width = shapes[operator.input[1]]
            macs += out * inner * height * width * side * side
            moved, size = moved + size + 4 * out * side * side, 4 * out * side * side
        elif operator.op_type == "MaxPool":
            side //= 2
            moved, size = moved + size + size // 4, size // 4
        elif operator.op_type == "Gemm":
            out, inner = shapes[operator.input[1]]
            macs += out * inner
            moved, size = moved + size + 4 * out, 4 * out
        elif operator.op_type == "Relu":
            moved += 2 * size
    facts = read_model(EXAMPLE)
    assert facts.flops_per_inference == 2 * macs
    assert facts.bytes_per_inference == moved
    assert facts.arithmetic_intensity == pytest.approx(2 * macs / moved)
    assert "multiply-accumulate" in facts.workload_note
    assert facts.dynamic_inputs == ("image",)


def test_chains_of_products(save: Save) -> None:
    path = save(
        [
            node("MatMul", ["x", "a"], ["h"]),
            node("Relu", ["h"], ["r"]),
            node("Gemm", ["r", "b", "c"], ["y"], transB=1),
        ],
        [info("x", ["n", 20])],
        [info("y", ["n", 5])],
        [weight("a", 20, 30), weight("b", 5, 30), weight("c", 5)],
    )
    facts = read_model(path)
    assert facts.flops_per_inference == 2 * (20 * 30 + 30 * 5)
    weights = 20 * 30 + 5 * 30 + 5
    assert facts.bytes_per_inference == 4 * (weights + 20 + 30 + 2 * 30 + 30 + 5)


def bottleneck(
    index: int, source: str, inner: int, out: int, taken: int, stride: int
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Return a residual block of ResNet-50 in its v1.5 form (the stride sits in the 3 x 3)."""
    name = f"b{index}"
    nodes = [
        node("Conv", [source, f"{name}w1"], [f"{name}a"]),
        node("Relu", [f"{name}a"], [f"{name}b"]),
        node(
            "Conv", [f"{name}b", f"{name}w2"], [f"{name}c"], pads=[1] * 4, strides=[stride, stride]
        ),
        node("Relu", [f"{name}c"], [f"{name}d"]),
        node("Conv", [f"{name}d", f"{name}w3"], [f"{name}e"]),
    ]
    tensors = [weight(f"{name}w1", inner, taken, 1, 1), weight(f"{name}w2", inner, inner, 3, 3)]
    tensors.append(weight(f"{name}w3", out, inner, 1, 1))
    if taken != out:
        nodes.append(node("Conv", [source, f"{name}w4"], [f"{name}s"], strides=[stride, stride]))
        tensors.append(weight(f"{name}w4", out, taken, 1, 1))
        source = f"{name}s"
    nodes.append(node("Add", [f"{name}e", source], [f"{name}f"]))
    nodes.append(node("Relu", [f"{name}f"], [name]))
    return nodes, tensors


def test_resnet_50(save: Save) -> None:
    """4.09 GMACs and 25.5M weights without batch normalization (torchvision: 4.09 GFLOPS)."""
    nodes = [
        node("Conv", ["x", "w"], ["s"], strides=[2, 2], pads=[3] * 4),
        node("Relu", ["s"], ["r"]),
        node("MaxPool", ["r"], ["p"], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
    ]
    tensors = [weight("w", 64, 3, 7, 7)]
    source, taken, index = "p", 64, 0
    for stage, (blocks, inner) in enumerate([(3, 64), (4, 128), (6, 256), (3, 512)]):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            more, weights = bottleneck(index, source, inner, 4 * inner, taken, stride)
            nodes, tensors = nodes + more, tensors + weights
            source, taken, index = f"b{index}", 4 * inner, index + 1
    nodes += [
        node("GlobalAveragePool", [source], ["g"]),
        node("Flatten", ["g"], ["l"]),
        node("Gemm", ["l", "f"], ["y"], transB=1),
    ]
    tensors.append(weight("f", 1000, 2048))
    path = save(nodes, [info("x", ["n", 3, 224, 224])], [info("y", ["n", 1000])], tensors)
    facts = read_model(path)
    assert facts.flops_per_inference is not None
    assert facts.flops_per_inference / 2e9 == pytest.approx(4.09, abs=0.01)
    assert facts.parameters == pytest.approx(25.5e6, rel=0.01)


def test_grouped_and_transposed_convolutions(save: Save) -> None:
    path = save(
        [
            node("Conv", ["x", "d"], ["h"], group=8, pads=[1] * 4),
            node("ConvTranspose", ["h", "t"], ["y"], strides=[2, 2]),
        ],
        [info("x", [1, 8, 10, 10])],
        [info("y", [1, 4, 20, 20])],
        [weight("d", 8, 1, 3, 3), weight("t", 8, 4, 2, 2)],
    )
    facts = read_model(path)
    assert facts.flops_per_inference == 2 * (8 * 100 * 9 + 8 * 100 * 4 * 4)


def test_a_computed_shape_is_followed(save: Save) -> None:
    """Attention as exporters write it: the batch is taken from Shape and joined again."""
    path = save(
        [
            node("MatMul", ["x", "q"], ["h"]),
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "zero"], ["b"]),
            node("Unsqueeze", ["b", "first"], ["u"]),
            node("Concat", ["u", "rest"], ["shape"], axis=0),
            node("Reshape", ["h", "shape"], ["heads"]),
            node("Transpose", ["heads"], ["left"], perm=[0, 2, 1, 3]),
            node("Transpose", ["heads"], ["right"], perm=[0, 2, 3, 1]),
            node("MatMul", ["left", "right"], ["scores"]),
            node("Softmax", ["scores"], ["weights"]),
            node("MatMul", ["weights", "left"], ["y"]),
        ],
        [info("x", ["n", 6, 8])],
        [info("y", ["n", 2, 6, 4])],
        [
            weight("q", 8, 8),
            numpy_helper.from_array(np.array(0, np.int64), "zero"),
            ints("first", 0),
            ints("rest", 6, 2, 4),
        ],
    )
    facts = read_model(path)
    assert facts.flops_per_inference == 2 * (6 * 8 * 8 + 2 * (2 * 6 * 6 * 4))
    assert facts.bytes_per_inference is not None


def test_quantized_weights_count_their_stored_bytes(
    convolutional: Path, quantized: dict[str, Path]
) -> None:
    plain = read_model(convolutional)
    macs = 8 * 3 * 9 * 16 * 16 + 8 * 10
    assert plain.flops_per_inference == 2 * macs
    for key in ("qdq", "qoperator", "fake"):
        facts = read_model(quantized[key])
        assert facts.flops_per_inference == 2 * macs
        assert facts.bytes_per_inference is not None
        assert plain.bytes_per_inference is not None
        assert facts.bytes_per_inference < plain.bytes_per_inference
    assert read_model(quantized["dynamic"]).flops_per_inference == 2 * (128 * 64 + 64 * 32)


def test_recurrent_cells(save: Save) -> None:
    path = save(
        [node("LSTM", ["x", "w", "r"], ["y"], hidden_size=6)],
        [info("x", [7, 1, 5])],
        [info("y", [7, 1, 1, 6])],
        [weight("w", 1, 24, 5), weight("r", 1, 24, 6)],
    )
    assert read_model(path).flops_per_inference == 2 * 7 * (24 * 5 + 24 * 6)


def test_a_lookup_reads_rows(save: Save) -> None:
    path = save(
        [node("Gather", ["table", "ids"], ["y"])],
        [info("ids", [1, 3], INT64)],
        [info("y", [1, 3, 16])],
        [weight("table", 1000, 16)],
    )
    facts = read_model(path)
    assert facts.flops_per_inference == 0
    assert facts.bytes_per_inference == 3 * 8 + 2 * (3 * 16 * 4)


@pytest.mark.parametrize(
    ("nodes", "shape", "why"),
    [
        ([node("MatMul", ["x", "w"], ["y"])], ["n", "t", 4], 'axis 1 of the input "x" is dynamic'),
        ([node("MatMul", ["x", "w"], ["y"])], None, 'the input "x" states no shape'),
        (
            [
                node("NonZero", ["x"], ["i"]),
                node("Cast", ["i"], ["f"], to=FLOAT),
                node("Transpose", ["f"], ["z"]),
                node("MatMul", ["z", "w"], ["y"]),
            ],
            [4, 4],
            "the output shape of NonZero is not computed",
        ),
        ([node("Odd", ["x", "w"], ["y"], domain="my.own")], [4, 4], "my.own.Odd is unknown"),
    ],
)
def test_what_cannot_be_known_says_why(
    save: Save, nodes: list[onnx.NodeProto], shape: list[object] | None, why: str
) -> None:
    path = save(
        nodes,
        [info("x", shape)],
        [info("y", None)],
        [weight("w", 4, 4)],
        domains=("my.own",),
        check=False,
    )
    facts = read_model(path)
    assert (facts.flops_per_inference, facts.bytes_per_inference) == (None, None)
    assert facts.arithmetic_intensity is None
    assert why in facts.workload_note


def test_stated_shapes_help_where_no_rule_does(save: Save) -> None:
    path = save(
        [node("Odd", ["x"], ["h"], domain="my.own"), node("MatMul", ["h", "w"], ["y"])],
        [info("x", ["n", 4])],
        [info("y", ["n", 6])],
        [weight("w", 4, 6)],
        domains=("my.own",),
        check=False,
        value_info=[info("h", ["n", 4])],
    )
    facts = read_model(path)
    # The product is known; what the foreign operator does is not.
    assert facts.flops_per_inference is None
    assert "my.own.Odd" in facts.workload_note


def test_a_fixed_batch_is_said(save: Save) -> None:
    path = save(
        [node("MatMul", ["x", "w"], ["y"])],
        [info("x", [8, 4])],
        [info("y", [8, 6])],
        [weight("w", 4, 6)],
    )
    facts = read_model(path)
    assert facts.flops_per_inference == 2 * 8 * 4 * 6
    assert "fixes the first axis to 8" in facts.workload_note


def ours(operator: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    """Infer the first output's shape with our rules."""
    raw = operator.SerializeToString()
    reader = Reader(raw)
    spans = [(a, b) for key, a, b in reader.fields(0, len(raw)) if key == tag(5, LENGTH)]
    call = Call(
        operator.op_type,
        read_attributes(reader, spans),
        [shapes.get(name) for name in operator.input],
        [None for _ in operator.input],
        len(operator.output),
        21,
    )
    try:
        return infer(call)[0]
    except UnknownShape:
        return None


def theirs(operator: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    """Infer it with the ONNX package; ``None`` where it refuses or does not know."""
    inputs = [info(name, list(shape)) for name, shape in shapes.items()]
    graph = helper.make_graph([operator], "g", inputs, [info(operator.output[0], None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    try:
        found = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    except onnx.shape_inference.InferenceError:
        return None
    kind = found.graph.output[0].type.tensor_type
    if not kind.HasField("shape") or any(not d.HasField("dim_value") for d in kind.shape.dim):
        return None
    return tuple(d.dim_value for d in kind.shape.dim)


small = st.integers(1, 4)
pair = st.lists(small, min_size=2, max_size=2)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    size=st.lists(st.integers(1, 17), min_size=2, max_size=2),
    kernel=pair,
    strides=pair,
    dilations=pair,
    pads=st.lists(st.integers(0, 3), min_size=4, max_size=4),
    automatic=st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]),
    group=st.integers(1, 3),
    kind=st.sampled_from(["Conv", "ConvTranspose"]),
)
def test_convolutions_agree_with_onnx(
    size: list[int],
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    pads: list[int],
    automatic: str,
    group: int,
    kind: str,
) -> None:
    if kind == "Conv" and not automatic.startswith("SAME"):
        added = [pads[i] + pads[i + 2] if automatic == "NOTSET" else 0 for i in range(2)]
        # onnx rounds toward zero and so reports one window where not even one fits.
        assume(all(size[i] + added[i] > (kernel[i] - 1) * dilations[i] for i in range(2)))
    if kind == "ConvTranspose" and automatic.startswith("SAME"):
        # "output_shape[i] = input_shape[i] * strides[i]"; onnx's inference falls short of its own
        # documentation where the kernel is smaller than the stride.
        assume(all((kernel[i] - 1) * dilations[i] + 1 >= strides[i] for i in range(2)))
    attributes = {"strides": strides, "dilations": dilations, "group": group}
    attributes |= {"auto_pad": automatic} if automatic != "NOTSET" else {"pads": pads}
    operator = node(kind, ["x", "w"], ["y"], **attributes)
    first = (2 * group, 2) if kind == "ConvTranspose" else (4 * group, 2)
    shapes = {"x": (1, 2 * group, *size), "w": (*first, *kernel)}
    expected = theirs(operator, shapes)
    assume(expected is not None and min(expected) > 0)
    # SAME with a dilation: onnx takes the stride alone, as we do.
    assert ours(operator, shapes) == expected


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    size=st.lists(st.integers(1, 17), min_size=2, max_size=2),
    kernel=pair,
    strides=pair,
    pads=st.lists(st.integers(0, 3), min_size=4, max_size=4),
    ceil_mode=st.integers(0, 1),
    kind=st.sampled_from(["MaxPool", "AveragePool"]),
)
def test_pools_agree_with_onnx_runtime(
    size: list[int],
    kernel: list[int],
    strides: list[int],
    pads: list[int],
    ceil_mode: int,
    kind: str,
) -> None:
    assume(max(pads) < min(kernel))
    # onnx rounds toward zero and so reports one window where not even one fits.
    assume(all(size[i] + pads[i] + pads[i + 2] >= kernel[i] for i in range(2)))
    operator = node(
        kind, ["x"], ["y"], kernel_shape=kernel, strides=strides, pads=pads, ceil_mode=ceil_mode
    )
    shapes = {"x": (1, 3, *size)}
    # What ONNX Runtime really makes: onnx's inference keeps windows that start in the padding.
    graph = helper.make_graph([operator], "g", [info("x", [1, 3, *size])], [info("y", [None] * 4)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), QUIET, providers=["CPUExecutionProvider"]
    )
    made = session.run(None, {"x": np.zeros(shapes["x"], np.float32)})[0]
    assert ours(operator, shapes) == made.shape


@settings(max_examples=80, deadline=None)
@given(
    left=st.lists(small, min_size=1, max_size=4),
    right=st.lists(small, min_size=1, max_size=4),
    kind=st.sampled_from(["MatMul", "Add"]),
)
def test_products_and_broadcasts_agree_with_numpy(
    left: list[int], right: list[int], kind: str
) -> None:
    a, b = np.zeros(left), np.zeros(right)
    try:
        expected = (np.matmul if kind == "MatMul" else np.add)(a, b).shape
    except ValueError:
        expected = None
    shapes = {"a": tuple(left), "b": tuple(right)}
    assert ours(node(kind, ["a", "b"], ["y"]), shapes) == expected


@pytest.mark.parametrize(
    ("operator", "shape"),
    [
        (node("Flatten", ["x"], ["y"], axis=-1), (2, 3, 4)),
        (node("Flatten", ["x"], ["y"], axis=0), (2, 3, 4)),
        (node("Transpose", ["x"], ["y"]), (2, 3, 4)),
        (node("Concat", ["x", "x"], ["y"], axis=-2), (2, 3, 4)),
        (node("Split", ["x"], ["y", "z"], axis=1, num_outputs=2), (2, 3, 4)),
        (node("ReduceMean", ["x"], ["y"], keepdims=0), (2, 3, 4)),
        (node("ReduceSum", ["x"], ["y"]), (2, 3, 4)),
        (node("ArgMax", ["x"], ["y"], axis=1), (2, 3, 4)),
        (node("ArgMax", ["x"], ["y"], axis=-1, keepdims=0), (2, 3, 4)),
        (node("Shape", ["x"], ["y"], start=1), (2, 3, 4)),
        (node("Gather", ["x", "x"], ["y"], axis=1), (2, 3)),
        (node("GlobalMaxPool", ["x"], ["y"]), (2, 3, 4, 5)),
        (node("DepthToSpace", ["x"], ["y"], blocksize=2), (1, 8, 3, 5)),
        (node("SpaceToDepth", ["x"], ["y"], blocksize=2), (1, 8, 4, 6)),
        (node("Squeeze", ["x"], ["y"]), (1, 8, 1, 6)),
        (node("Softmax", ["x"], ["y"]), (1, 8)),
    ],
)
def test_rules_agree_with_onnx(operator: onnx.NodeProto, shape: tuple[int, ...]) -> None:
    shapes = {"x": shape}
    inputs = [info("x", list(shape), INT64 if operator.op_type == "Gather" else FLOAT)]
    graph = helper.make_graph([operator], "g", inputs, [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    found = {
        each.name: tuple(d.dim_value for d in each.type.tensor_type.shape.dim)
        for each in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    assert ours(operator, shapes) == found["y"]


def test_shapes_that_do_not_broadcast() -> None:
    assert broadcast((4, 1), (3,)) == (4, 3)
    with pytest.raises(UnknownShape):
        broadcast((2,), (3,))


def test_growing_shapes_stay_bounded(save: Save) -> None:
    """A thousand operators that each multiply an extent, and a thousand that each add an axis."""
    grow = [node("Tile", [f"t{i}", "by"], [f"t{i + 1}"]) for i in range(1000)]
    add = [node("Unsqueeze", [f"u{i}", "axis"], [f"u{i + 1}"]) for i in range(1000)]
    path = save(
        [node("Identity", ["x"], ["t0"]), node("Identity", ["x"], ["u0"]), *grow, *add],
        [info("x", [2])],
        [info("t1000", None), info("u1000", None)],
        [ints("by", 1 << 40), ints("axis", 0)],
        check=False,
    )
    facts = read_model(path)
    assert facts.flops_per_inference == 0
    assert facts.bytes_per_inference is None
