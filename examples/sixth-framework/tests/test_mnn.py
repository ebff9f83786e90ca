"""MNN against ONNX Runtime, and what its files really hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import MNN
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from pytest_edgeai_mnn.framework import INTERFACE, Mnn
from pytest_edgeai_mnn.mnn_file import read_weights

from pytest_edgeai.errors import ModelError, UserError
from pytest_edgeai.optimize.frameworks.base import OptimizeRequest
from pytest_edgeai.records import Recipe, RuntimeOptions, TensorSpec

WEIGHTS = 8 * 3 * 3 * 3 + 8 * 5
BIASES = 8 + 5
IMAGE = TensorSpec("image", "float32", (None, 3, 6, 6))
SHIFT = TensorSpec("shift", "int64", (None, 5))
Make = Callable[..., Path]


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """A convolution, a product, and an addition of integers."""
    draw = np.random.default_rng(0).normal
    weights = {
        "kernel": draw(size=(8, 3, 3, 3)),
        "kernel_bias": draw(size=8),
        "dense": draw(size=(8, 5)),
        "dense_bias": draw(size=5),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "kernel", "kernel_bias"], ["wide"]),
            helper.make_node("Relu", ["wide"], ["rectified"]),
            helper.make_node("GlobalAveragePool", ["rectified"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("Gemm", ["flat", "dense", "dense_bias"], ["scores"]),
            helper.make_node("Cast", ["shift"], ["shift_f"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["scores", "shift_f"], ["logits"]),
        ],
        "network",
        [
            helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 6, 6]),
            helper.make_tensor_value_info("shift", TensorProto.INT64, ["N", 5]),
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(array.astype("f4"), name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "network.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture
def make(network: Path, tmp_path: Path) -> Make:
    """Return a function that makes an artifact of the network."""

    def optimize(scheme: str, source: Path = network, **options: object) -> Path:
        output = tmp_path / scheme
        output.mkdir()
        recipe = Recipe("mnn", scheme, options)
        request = OptimizeRequest(source, recipe, "convolutional", (IMAGE, SHIFT), None, output)
        steps: list[float] = []
        result = Mnn().optimize(request, lambda what, done: steps.append(done))
        assert steps == [0.0, 1.0]
        return result.path

    return optimize


def feeds(samples: int) -> dict[str, NDArray[np.generic]]:
    """Return random images ``(samples, 3, 6, 6)`` and integers ``(samples, 5)``."""
    draw = np.random.default_rng(samples)
    shift = draw.integers(-3, 3, (samples, 5))
    return {"image": draw.normal(size=(samples, 3, 6, 6)).astype("f4"), "shift": shift}


@pytest.mark.parametrize(
    ("scheme", "stored", "most_error"),
    [
        ("convert", "float32", 1e-6),
        ("float16-weights", "float16", 1e-3),
        ("int8-weights", "int8", 1e-2),
        ("int4-weights", "int4", 0.2),
    ],
)
def test_artifacts_hold_what_they_claim_and_compute_the_same(
    make: Make, network: Path, scheme: str, stored: str, most_error: float
) -> None:
    """Every scheme, at changing batch sizes; feeds stay as they are."""
    model = Mnn().load(make(scheme), RuntimeOptions())
    assert list(model.inputs) == [IMAGE, SHIFT]
    assert [(spec.name, spec.dtype) for spec in model.outputs] == [("logits", "float32")]
    session = onnxruntime.InferenceSession(str(network))
    for samples in (1, 3, 1):
        batch = feeds(samples)
        kept = {name: array.copy() for name, array in batch.items()}
        (expected,) = session.run(None, batch)
        logits = model.run(batch)["logits"]
        model.bind(batch)()
        assert logits.shape == expected.shape
        assert np.abs(logits - expected).max() <= most_error * np.abs(expected).max()
        for name, array in kept.items():
            np.testing.assert_array_equal(batch[name], array)
    facts = model.execution()
    assert facts.weight_elements[stored] >= WEIGHTS
    assert facts.executed_devices == ("CPU",)
    assert sum(facts.quantized_operators.values()) == (2 if stored.startswith("int") else 0)
    model.close()


def test_every_weight_is_counted_once(make: Make) -> None:
    """The float32 file holds as many weights as the ONNX file."""
    assert read_weights(make("convert")).elements["float32"] == WEIGHTS + BIASES


def test_a_damaged_file_is_one_line(make: Make) -> None:
    """Files cut short, of other bytes, or with unknown content are refused."""
    path = make("convert")
    whole = path.read_bytes()
    for content in (b"", whole[:100], whole[: len(whole) // 2], b"\xff" * len(whole)):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"model\.mnn: "):
            read_weights(path)
    path.write_bytes(whole + bytes(100_000))
    with pytest.raises(ModelError, match="not known here"):
        read_weights(path)
    path.with_name(INTERFACE).unlink()
    with pytest.raises(ModelError, match=INTERFACE):
        Mnn().load(path, RuntimeOptions())


def test_changed_bytes_give_an_answer_or_one_line(make: Make) -> None:
    """Whatever the bytes are, the reader ends, and with no other error."""
    path = make("int8-weights")
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    draw = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        changed = whole.copy()
        changed[draw.integers(len(whole), size=3)] = draw.integers(256, size=3)
        path.write_bytes(changed.tobytes())
        try:
            read_weights(path)
        except ModelError:
            refused += 1
    assert refused > 30


def test_operators_that_mnn_lacks_are_named(make: Make, network: Path) -> None:
    """The converter reports success whatever happens; its words are kept."""
    model = onnx.load(network)
    model.graph.node[-1].op_type = "Unheard"
    model.graph.node[-1].domain = "somewhere"
    model.opset_import.append(helper.make_opsetid("somewhere", 1))
    onnx.save(model, network)
    with pytest.raises(ModelError, match=f"MNN {MNN.version()} cannot convert .*Unheard"):
        make("convert")


def test_wrong_words_are_refused(make: Make, network: Path) -> None:
    """Schemes, options, hints, devices and files."""
    with pytest.raises(ModelError, match='Did you mean "int8-weights"'):
        make("int8-weight")
    with pytest.raises(ModelError, match='option "asymmetric"'):
        make("int8-weights", asymmetric="no")
    path = make("convert")
    with pytest.raises(UserError, match='Did you mean "memory"'):
        Mnn().load(path, RuntimeOptions(hints={"memroy": "low"}))
    with pytest.raises(UserError, match="allowed: CPU"):
        Mnn().load(path, RuntimeOptions(device="GPU"))
    with pytest.raises(ModelError, match='baseline = "native"'):
        Mnn().load(network, RuntimeOptions())


def test_integers_beyond_32_bits_are_refused(make: Make) -> None:
    """MNN computes int64 in 32 bits."""
    model = Mnn().load(make("convert"), RuntimeOptions())
    batch = feeds(1)
    batch["shift"] = np.full((1, 5), 2**40)
    with pytest.raises(ModelError, match="32 bits"):
        model.run(batch)


def test_the_null_model_runs() -> None:
    """It is one ReLU."""
    model = Mnn().load_null_model(RuntimeOptions())
    assert model.run({"x": np.array([-1.0], np.float32)})["y"].tolist() == [0.0]
