"""Structured pruning of ONNX graphs, against models in which the removed channels are masked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

onnx = pytest.importorskip("onnx", reason='run: pip install "pytest-edgeai[onnx]"')
onnxruntime = pytest.importorskip("onnxruntime", reason='run: pip install "pytest-edgeai[onnx]"')

from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from pytest_edgeai.errors import ModelError  # noqa: E402
from pytest_edgeai.optimize.frameworks.onnx_pruning import (  # noqa: E402
    Pruning,
    prune,
    prune_file,
)

Array = NDArray[Any]
SIDE = 6
SAMPLES = 3


@dataclass
class Chain:
    """Builds a network layer by layer, and the same one with channels masked.

    Attributes:
        seed: of the weights, which are small integers, so that float32 sums are exact.
        masked: layer to the output channels that are set to zero before anything sums over them.
    """

    seed: int
    masked: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.now = "image"
        self.shape: tuple[int, ...] = (2, SIDE, SIDE)  # without the batch
        self.layer = ""  # whose channels the tensor holds
        self.block = 1
        self.channels = 2
        self.layers = 0

    def constant(self, shape: tuple[int, ...], values: Array | None = None) -> str:
        name = f"w{len(self.weights)}"
        if values is None:
            values = self.rng.integers(-3, 4, shape).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def node(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        output = f"t{len(self.nodes)}"
        name = name or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=name, **attributes))
        return output

    def then(self, kind: str, *parameters: str, **attributes: Any) -> None:
        self.now = self.node(kind, self.now, *parameters, **attributes)

    def next_layer(self) -> str:
        self.layers += 1
        return f"layer{self.layers}"

    def mask(self) -> None:
        removed = self.masked.get(self.layer)
        if not removed:
            return
        kept = np.ones(self.channels, np.float32)
        kept[list(removed)] = 0
        shape = [1] * len(self.shape)
        shape[0] = self.channels * self.block
        self.then("Mul", self.constant((), np.repeat(kept, self.block).reshape(shape)))

    def made_by(self, layer: str, channels: int, block: int = 1) -> None:
        self.layer, self.channels, self.block = layer, channels, block

    def conv(self, channels: int, kernel: int, bias: bool) -> None:
        self.mask()
        name = self.next_layer()
        parameters = [self.constant((channels, self.shape[0], kernel, kernel))]
        parameters += [self.constant((channels,))] if bias else []
        self.now = self.node("Conv", self.now, *parameters, name=name, pads=[kernel // 2] * 4)
        self.shape = (channels, *self.shape[1:])
        self.made_by(name, channels)

    def depthwise(self, multiplier: int) -> None:
        groups = self.shape[0]
        self.then(
            "Conv",
            self.constant((groups * multiplier, 1, 3, 3)),
            self.constant((groups * multiplier,)),
            pads=[1] * 4,
            group=groups,
        )
        self.shape = (groups * multiplier, *self.shape[1:])
        self.block *= multiplier

    def batch_norm(self) -> None:
        size = (self.shape[0],)
        # 4 = a variance whose square root is exact, with epsilon 0.
        fixed = [self.constant((), np.full(size, 4, np.float32))]
        self.then(
            "BatchNormalization",
            *(self.constant(size) for _ in range(3)),
            *fixed,
            epsilon=0.0,
        )

    def by_channel(self, kind: str) -> None:
        self.then(kind, self.constant((self.shape[0], 1, 1)))

    def pool(self) -> None:
        self.then("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
        self.shape = (self.shape[0], self.shape[1] // 2, self.shape[2] // 2)

    def square(self) -> None:
        """Multiply two branches of the same channels."""
        branch = self.node("Abs", self.now)
        self.then("Mul", branch)

    def residual(self) -> None:
        """Add what two further convolutions make of the tensor to it."""
        self.mask()
        before, layer, channels = self.now, self.layer, self.shape[0]
        self.masked = {key: value for key, value in self.masked.items() if key != layer}
        self.conv(5, 1, bias=True)
        self.then("Relu")
        self.conv(channels, 3, bias=False)
        self.then("Add", before)
        self.made_by("", channels)

    def flatten(self, how: str) -> None:
        size = int(np.prod(self.shape))
        if how == "Flatten":
            self.then("Flatten")
        elif how == "mean":
            self.then("ReduceMean", axes=[2, 3], keepdims=0)
            self.shape = (self.shape[0],)
            return
        elif how == "squeeze":
            self.then("GlobalMaxPool")
            self.then("Squeeze", self.constant((), np.array([2, 3], np.int64)))
            self.shape = (self.shape[0],)
            return
        else:
            target = [0, -1] if how == "open" else [-1, size]
            self.then("Reshape", self.constant((), np.array(target, np.int64)))
        self.block *= int(np.prod(self.shape[1:]))
        self.shape = (size,)

    def dense(self, units: int, kind: str) -> None:
        self.mask()
        name = self.next_layer()
        size = self.shape[0]
        if kind == "MatMul":
            self.now = self.node("MatMul", self.now, self.constant((size, units)), name=name)
            self.then("Add", self.constant((units,)))
        else:
            transposed = kind == "transposed"
            weight = self.constant((units, size) if transposed else (size, units))
            self.now = self.node(
                "Gemm",
                self.now,
                weight,
                self.constant((1, units)),
                name=name,
                transB=int(transposed),
            )
        self.shape = (units,)
        self.made_by(name, units)

    def model(self) -> Any:
        graph = helper.make_graph(
            self.nodes,
            "chain",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 2, SIDE, SIDE])],
            [helper.make_tensor_value_info(self.now, TensorProto.FLOAT, ["N", *self.shape])],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return model


def run(model: Any, seed: int = 3) -> Array:
    """Return the output for whole numbers, without any optimization that could reorder sums."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    images = np.random.default_rng(seed).integers(-2, 3, (SAMPLES, 2, SIDE, SIDE))
    output: Array = session.run(None, {"image": images.astype(np.float32)})[0]
    return output


STEPS: dict[str, Callable[[Chain], None]] = {
    "conv": lambda chain: chain.conv(4, 1, bias=False),
    "conv3": lambda chain: chain.conv(5, 3, bias=True),
    "depthwise": lambda chain: chain.depthwise(1),
    "depthwise2": lambda chain: chain.depthwise(2),
    "norm": lambda chain: chain.batch_norm(),
    "relu": lambda chain: chain.then("Relu"),
    "scale": lambda chain: chain.by_channel("Mul"),
    "shift": lambda chain: chain.by_channel("Add"),
    "slope": lambda chain: chain.by_channel("PRelu"),
    "square": lambda chain: chain.square(),
    "residual": lambda chain: chain.residual(),
}


def build(chain: Chain, steps: list[str], how: str, kinds: list[str], pooled: bool) -> Any:
    chain.conv(6, 3, bias=True)
    for step in steps:
        STEPS[step](chain)
    if pooled:
        chain.pool()
    chain.flatten(how)
    for kind in kinds:
        chain.dense(5, kind)
        chain.then("Relu")
    chain.dense(3, "Gemm")
    return chain.model()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 99),
    steps=st.lists(st.sampled_from(sorted(STEPS)), max_size=4),
    how=st.sampled_from(["Flatten", "open", "stated", "squeeze"]),
    kinds=st.lists(st.sampled_from(["Gemm", "transposed", "MatMul"]), max_size=2),
    pooled=st.booleans(),
    ratio=st.sampled_from([0.2, 0.34, 0.5]),
)
def test_a_pruned_chain_is_the_masked_one(
    seed: int, steps: list[str], how: str, kinds: list[str], pooled: bool, ratio: float
) -> None:
    """Whole numbers below 2^24 add up exactly in float32, in any order."""
    whole = build(Chain(seed), steps, how, kinds, pooled)
    pruning = prune(onnx.ModelProto.FromString(whole.SerializeToString()), ratio)
    masked = {layer.name: layer.removed for layer in pruning.layers}
    assert masked
    reference = build(Chain(seed, masked), steps, how, kinds, pooled)
    expected, found = run(reference), run(pruning.model)
    assert found.shape == expected.shape
    if np.abs(expected).max() < 2**22:
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert pruning.parameters_after < pruning.parameters_before


def chain(*steps: Callable[[Chain], None], seed: int = 0) -> Any:
    made = Chain(seed)
    for step in steps:
        step(made)
    return made.model()


def conv(channels: int = 8) -> Callable[[Chain], None]:
    return lambda made: made.conv(channels, 3, bias=True)


def flatten(made: Chain) -> None:
    made.flatten("Flatten")


def dense(made: Chain) -> None:
    made.dense(3, "Gemm")


def test_the_weakest_filters_go() -> None:
    model = chain(conv(8), flatten, dense)
    weight = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weight[[1, 4, 6]] *= 1e-3
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w0"))
    pruning = prune(model, 0.4)
    assert [layer.removed for layer in pruning.layers] == [(1, 4, 6)]
    assert pruning.layers[0].channels == 8
    assert "3 output channels of 1 of 2 layers" in pruning.summary()
    assert "an output of the model" in next(iter(pruning.kept_whole.values()))
    kinds = {node.op_type: node for node in pruning.model.graph.node}
    shapes = {tensor.name: list(tensor.dims) for tensor in pruning.model.graph.initializer}
    assert shapes[kinds["Conv"].input[1]] == [5, 2, 3, 3]
    assert shapes[kinds["Gemm"].input[1]] == [5 * SIDE * SIDE, 3]


def test_later_layers_are_weighed_by_what_earlier_ones_left() -> None:
    """The second layer's second filter is strong through a channel that goes alone."""
    model = chain(conv(2), lambda made: made.conv(2, 1, bias=False), flatten, dense)
    first = numpy_helper.to_array(model.graph.initializer[0]).copy()
    first[0] = 0
    second = np.array([[0, 2], [9, 1]], np.float32).reshape(2, 2, 1, 1)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(first, "w0"))
    model.graph.initializer[2].CopyFrom(numpy_helper.from_array(second, "w2"))
    assert [layer.removed for layer in prune(model, 0.5).layers] == [(0,), (1,)]


def concatenated(made: Chain) -> None:
    made.now = made.node("Concat", made.now, made.now, axis=1)
    made.shape = (2 * made.shape[0], *made.shape[1:])


def softmax(made: Chain) -> None:
    made.then("Softmax", axis=1)


def joined(made: Chain) -> None:
    other = made.node("Conv", "image", made.constant((8, 2, 1, 1)), name="other")
    made.then("Add", other)


def reshaped(made: Chain) -> None:
    made.then("Reshape", made.constant((), np.array([0, 2, 4, SIDE * SIDE], np.int64)))
    made.then("Reshape", made.constant((), np.array([0, 8, SIDE, SIDE], np.int64)))


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (concatenated, "Concat reads it"),
        (softmax, "Softmax reads it"),
        (joined, "Add joins it with another layer"),
        (reshaped, "Reshape has an unknown effect"),
    ],
)
def test_what_cannot_be_proven_stays(step: Callable[[Chain], None], reason: str) -> None:
    model = chain(conv(8), step, flatten, dense)
    before = model.SerializeToString()
    with pytest.raises(ModelError, match=reason) as caught:
        prune(model, 0.5)
    assert "no layer can lose output channels" in str(caught.value)
    kept = onnx.ModelProto.FromString(before)
    assert run(kept).shape == (SAMPLES, 3)


def test_weights_that_two_layers_share_are_parted() -> None:
    made = Chain(0)
    made.conv(8, 3, bias=True)
    made.then("Relu")
    made.conv(8, 3, bias=True)
    made.conv(8, 3, bias=True)
    made.nodes[-1].input[1] = made.nodes[-2].input[1]
    made.flatten("Flatten")
    made.dense(3, "Gemm")
    pruning = prune(made.model(), 0.25)
    assert len(pruning.layers) == 3
    assert run(pruning.model).shape == (SAMPLES, 3)


def test_inputs_outputs_and_the_open_batch_stay() -> None:
    model = chain(conv(8), flatten, dense)
    inputs, outputs = list(model.graph.input), list(model.graph.output)
    pruned = prune(model, 0.5).model
    assert list(pruned.graph.input) == inputs
    assert list(pruned.graph.output) == outputs


def test_weights_declared_as_inputs() -> None:
    """IR versions before 4 list every initializer as an input, with its shape."""
    model = chain(conv(8), flatten, dense)
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        )
    pruned = prune(model, 0.5).model
    assert [value.name for value in pruned.graph.input] == ["image"]
    assert run(pruned).shape == (SAMPLES, 3)


def test_too_few_channels_for_the_ratio() -> None:
    with pytest.raises(ModelError, match=r"0\.05 of 8 channels is none"):
        prune(chain(conv(8), flatten, dense), 0.05)


def test_a_model_without_layers() -> None:
    with pytest.raises(ModelError, match="it has no Conv, Gemm or MatMul"):
        prune(chain(lambda made: made.then("Relu")), 0.5)


def test_files(tmp_path: Path) -> None:
    source, target = tmp_path / "model.onnx", tmp_path / "pruned.onnx"
    onnx.save(chain(conv(8), flatten, dense), source)
    pruning: Pruning = prune_file(source, 0.5, target)
    assert pruning.layers
    assert target.stat().st_size < source.stat().st_size
    with pytest.raises(ModelError, match="takes an ONNX file"):
        prune_file(tmp_path / "model.xml", 0.5, target)
