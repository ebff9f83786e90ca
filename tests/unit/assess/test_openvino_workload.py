"""The work of OpenVINO models: the same figures as the ONNX models that they were made from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from pytest_edgeai.assess.model import read_model

openvino = pytest.importorskip("openvino", reason="needs openvino")

Save = Callable[..., Path]
EXAMPLE = Path(__file__).parents[3] / "examples" / "digits" / "digits.onnx"
needs_example = pytest.mark.skipif(
    not EXAMPLE.exists(), reason="the sdist leaves the model out; examples/digits/train.py makes it"
)
node = helper.make_node


def info(name: str, shape: list[object]) -> object:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def weight(name: str, *shape: int) -> object:
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return numpy_helper.from_array(array, name)


def convert(source: Path, folder: Path, **options: object) -> Path:
    path = folder / "model.xml"
    openvino.save_model(openvino.convert_model(source, **options), path, compress_to_fp16=False)
    return path


@needs_example
@pytest.mark.parametrize("shape", [None, [1, 1, 32, 32]])
def test_the_shipped_example(tmp_path: Path, shape: list[int] | None) -> None:
    options = {} if shape is None else {"input": [("image", shape)]}
    made = read_model(convert(EXAMPLE, tmp_path, **options))
    source = read_model(EXAMPLE)
    assert made.flops_per_inference == source.flops_per_inference
    assert made.bytes_per_inference is not None
    assert source.bytes_per_inference is not None
    # OpenVINO adds the bias as an operator of its own: each sum is written and read once more.
    assert 1 < made.bytes_per_inference / source.bytes_per_inference < 2
    assert "multiply-accumulate" in made.workload_note


def test_grouped_and_transposed_convolutions(save: Save, tmp_path: Path) -> None:
    source = save(
        [
            node("Conv", ["x", "d"], ["h"], group=8, pads=[1] * 4),
            node("ConvTranspose", ["h", "t"], ["g"], strides=[2, 2]),
            node("ConvTranspose", ["g", "u"], ["y"], group=4),
        ],
        [info("x", ["n", 8, 10, 10])],
        [info("y", ["n", 4, 21, 21])],
        [weight("d", 8, 1, 3, 3), weight("t", 8, 4, 2, 2), weight("u", 4, 1, 2, 2)],
    )
    expected = 2 * (8 * 100 * 9 + 8 * 100 * 4 * 4 + 4 * 400 * 4)
    assert read_model(source).flops_per_inference == expected
    assert read_model(convert(source, tmp_path)).flops_per_inference == expected


def test_products(save: Save, tmp_path: Path) -> None:
    source = save(
        [node("MatMul", ["x", "a"], ["h"]), node("Gemm", ["h", "b"], ["y"], transB=1)],
        [info("x", ["n", 20])],
        [info("y", ["n", 5])],
        [weight("a", 20, 30), weight("b", 5, 30)],
    )
    facts = read_model(convert(source, tmp_path))
    assert facts.flops_per_inference == 2 * (20 * 30 + 30 * 5)
    assert facts.bytes_per_inference == 4 * (20 * 30 + 5 * 30 + 20 + 30 + 30 + 5)


def test_recurrent_sequences(save: Save, tmp_path: Path) -> None:
    source = save(
        [node("LSTM", ["x", "w", "r"], ["y"], hidden_size=6)],
        [info("x", [7, 1, 5])],
        [info("y", [7, 1, 1, 6])],
        [weight("w", 1, 24, 5), weight("r", 1, 24, 6)],
    )
    made = read_model(convert(source, tmp_path))
    assert made.flops_per_inference == read_model(source).flops_per_inference
    assert made.architecture == "recurrent"


@needs_example
def test_compressed_weights_move_fewer_bytes(tmp_path: Path) -> None:
    model = openvino.convert_model(EXAMPLE)
    openvino.save_model(model, tmp_path / "half.xml", compress_to_fp16=True)
    half = read_model(tmp_path / "half.xml")
    full = read_model(convert(EXAMPLE, tmp_path))
    assert half.flops_per_inference == full.flops_per_inference
    assert half.bytes_per_inference is not None
    assert full.bytes_per_inference is not None
    saved = full.bytes_per_inference - half.bytes_per_inference
    assert saved == pytest.approx(2 * full.parameters, rel=0.01)


@pytest.mark.parametrize(
    ("nodes", "shape", "why"),
    [
        # The batch becomes part of another axis: 1 x 4 rows at batch 1, and the file cannot tell.
        (
            [node("Reshape", ["x", "all"], ["f"]), node("MatMul", ["f", "w"], ["y"])],
            ["n", 2, 4],
            "may merge the dynamic batch",
        ),
        ([node("MatMul", ["x", "w"], ["y"])], ["n", "t", 4], "dynamic axis behind its first"),
    ],
)
def test_what_cannot_be_known_says_why(
    save: Save, tmp_path: Path, nodes: list[object], shape: list[object], why: str
) -> None:
    constant = numpy_helper.from_array(np.array([-1, 4], np.int64), "all")
    tensors = [weight("w", 4, 6), *([constant] if len(nodes) > 1 else [])]
    last = ["m", 6] if len(nodes) > 1 else ["n", "t", 6]
    source = save(nodes, [info("x", shape)], [info("y", last)], tensors)
    facts = read_model(convert(source, tmp_path))
    assert (facts.flops_per_inference, facts.bytes_per_inference) == (None, None)
    assert why in facts.workload_note
