"""OpenVINO in real workers, against NumPy."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_edgeai.errors import ModelError, UserError
from pytest_edgeai.optimize.frameworks.catalogue import OPENVINO
from pytest_edgeai.records import Recipe, TensorSpec
from pytest_edgeai.worker.host import MEMORY_ENVIRONMENT

Drive = Callable[..., Any]
MakeModel = Callable[..., Any]


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize(
    ("batch_axis", "batch", "external", "dtype"),
    [
        ("N", 4, False, "float32"),
        ("N", 1, True, "float32"),
        (4, 4, False, "float32"),
        ("N", 5, False, "float16"),
    ],
)
def test_load_and_evaluate(
    drive: Drive,
    convolution: MakeModel,
    batch_axis: int | str,
    batch: int,
    external: bool,
    dtype: str,
) -> None:
    model = convolution(batch_axis, external=external, dtype=dtype)
    openvino = drive(OPENVINO)
    loaded = openvino.load(model.path)
    assert [spec["name"] for spec in loaded["outputs"]] == ["scores", "copy"]
    axis = None if batch_axis == "N" else batch_axis
    assert loaded["inputs"] == [
        {"name": "image", "dtype": dtype, "shape": [axis, 3, 8, 8], "has_shape": True}
    ]
    outputs = openvino.evaluate(model, batch)
    assert outputs["scores"].dtype == np.dtype(dtype)
    limit = 1e-5 if dtype == "float32" else 1e-2
    assert relative_error(outputs["scores"].astype("f4"), model.expected) < limit
    np.testing.assert_array_equal(outputs["scores"], outputs["copy"])


def test_several_inputs_of_several_types(drive: Drive, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    table = np.random.default_rng(2).normal(size=(9, 4)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["rows"]),
            helper.make_node("Mul", ["rows", "scale"], ["scaled"]),
            helper.make_node("ReduceSum", ["scaled", "axes"], ["summed"], keepdims=0),
            helper.make_node("Greater", ["summed", "zero"], ["positive"]),
        ],
        "lookup",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["N", 3]),
            helper.make_tensor_value_info("scale", TensorProto.FLOAT, ["N", 3, 4]),
        ],
        [
            helper.make_tensor_value_info("summed", TensorProto.FLOAT, ["N", 4]),
            helper.make_tensor_value_info("positive", TensorProto.BOOL, ["N", 4]),
        ],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(np.array([1]), "axes"),
            numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
        ],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "m.onnx")
    rng = np.random.default_rng(3)
    ids = rng.integers(0, 9, (7, 3))
    scale = rng.normal(size=(7, 3, 4)).astype(np.float32)
    np.save(tmp_path / "ids.npy", ids)
    np.save(tmp_path / "scale.npy", scale)
    openvino = drive(OPENVINO)
    loaded = openvino.load(tmp_path / "m.onnx")
    assert {spec["name"]: spec["dtype"] for spec in loaded["inputs"]} == {
        "ids": "int64",
        "scale": "float32",
    }
    done = openvino.worker.request(
        "evaluate",
        time_limit_s=60,
        handle="m",
        arrays={"scale": tmp_path / "scale.npy", "ids": tmp_path / "ids.npy"},
        samples=7,
        batch=2,
        output=tmp_path / "out",
    )
    expected = (table[ids] * scale).sum(axis=1)
    np.testing.assert_allclose(np.load(done["outputs"]["summed"]), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(np.load(done["outputs"]["positive"]), expected > 0)


def test_bound_calls_leave_later_results_alone(drive: Drive, convolution: MakeModel) -> None:
    """A bound request and ``run`` share nothing, whichever is called in between."""
    model = convolution()
    openvino = drive(OPENVINO)
    openvino.load(model.path)
    first = openvino.evaluate(model)["scores"]
    request = openvino.worker.request
    request("prepare", time_limit_s=9, handle="m", arrays=model.arrays, first=1, batch=2)
    timed = request("time_calls", time_limit_s=9, handle="m", calls=3)
    assert min(timed["wall_ns"] + timed["cpu_ns"]) > 0
    np.testing.assert_array_equal(openvino.evaluate(model)["scores"], first)
    assert relative_error(first, model.expected) < 1e-5


@pytest.mark.parametrize("batch_axis", ["N", 4])
def test_convert_is_full_precision(
    drive: Drive, convolution: MakeModel, batch_axis: int | str
) -> None:
    model = convolution(batch_axis)
    openvino = drive(OPENVINO)
    made = openvino.optimize(model, "convert", calibrated=False)
    # Weights in float32, not halved: 216 kernel and 2880 dense elements, and the bias.
    assert Path(made["path"]).with_suffix(".bin").stat().st_size >= 4 * (216 + 2880 + 10)
    loaded = openvino.load(made["path"])
    assert [spec["name"] for spec in loaded["outputs"]] == ["scores", "copy"]
    assert loaded["inputs"][0]["shape"][0] == (None if batch_axis == "N" else 4)
    outputs = openvino.evaluate(model)
    assert relative_error(outputs["scores"], model.expected) < 1e-5
    facts = openvino.execution()
    assert set(facts["executed_precisions"]) == {"float32"}
    assert facts["executed_devices"] == ["CPU"]


@pytest.mark.parametrize(
    ("architecture", "options", "executed"),
    [
        ("convolutional", {}, 2),
        ("convolutional", {"preset": "mixed", "fast_bias_correction": False}, 2),
        ("convolutional", {"target_device": "CPU", "calibration_calls": 5}, 2),
        ("transformer", {}, 2),
        ("convolutional", {"ignored_types": ["Convolution"]}, 1),
    ],
)
def test_static_quantization(
    drive: Drive,
    convolution: MakeModel,
    architecture: str,
    options: dict[str, Any],
    executed: int,
) -> None:
    model = convolution()
    openvino = drive(OPENVINO)
    made = openvino.optimize(model, "int8-static", architecture=architecture, **options)
    loaded = openvino.load(made["path"])
    assert [spec["name"] for spec in loaded["outputs"]] == ["scores", "copy"]
    assert loaded["inputs"][0]["shape"] == [None, 3, 8, 8]
    outputs = openvino.evaluate(model)
    assert 0 < relative_error(outputs["scores"], model.expected) < 0.1
    assert openvino.execution()["executed_precisions"]["int8"] == executed
    fractions = [fraction for _, fraction in openvino.progress]
    assert max(fractions) == 1.0
    assert any(what.startswith("calibrating, ") for what, _ in openvino.progress)


def test_fused_layers_tell_their_precision(drive: Drive, tmp_path: Path) -> None:
    """With fixed shapes, the CPU plugin fuses a whole perceptron into one layer "of float32"."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(7)
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w", "b"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("Gemm", ["r", "v", "c"], ["y"]),
        ],
        "perceptron",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, 4])],
        [
            numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
            for name, shape in {"w": (16, 64), "b": (64,), "v": (64, 4), "c": (4,)}.items()
        ],
    )
    opsets = [helper.make_opsetid("", 17)]
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    np.save(tmp_path / "x.npy", rng.normal(size=(16, 16)).astype(np.float32))
    openvino = drive(OPENVINO)
    openvino.load(path)
    assert set(openvino.execution()["executed_precisions"]) == {"float32"}
    made = openvino.worker.request(
        "optimize",
        time_limit_s=120,
        source=path,
        recipe=Recipe("openvino", "int8-static"),
        architecture="other",
        inputs=[TensorSpec("x", "float32", (4, 16))],
        calibration={"arrays": {"x": tmp_path / "x.npy"}, "batch": 4},
        output=tmp_path / "made",
    )
    openvino.load(made["path"])
    assert openvino.execution()["executed_precisions"]["int8"] == 2


@pytest.mark.parametrize("mode", ["int8_asym", "int8_sym"])
def test_weight_compression(drive: Drive, convolution: MakeModel, mode: str) -> None:
    model = convolution()
    openvino = drive(OPENVINO)
    made = openvino.optimize(model, "int8-weights", calibrated=False, mode=mode)
    assert Path(made["path"]).with_suffix(".bin").stat().st_size < 2 * (216 + 2880 + 10)
    loaded = openvino.load(made["path"])
    assert [spec["name"] for spec in loaded["outputs"]] == ["scores", "copy"]
    assert 0 < relative_error(openvino.evaluate(model)["scores"], model.expected) < 0.1


def test_artifact_can_be_a_source(drive: Drive, convolution: MakeModel) -> None:
    model = convolution()
    openvino = drive(OPENVINO)
    converted = openvino.optimize(model, "convert", calibrated=False)
    source = type(model)(Path(converted["path"]), model.arrays, model.inputs, model.expected)
    made = openvino.optimize(source, "int8-static")
    loaded = openvino.load(made["path"])
    assert [spec["name"] for spec in loaded["outputs"]] == ["scores", "copy"]
    assert relative_error(openvino.evaluate(model)["scores"], model.expected) < 0.1


@pytest.mark.parametrize(
    ("scheme", "options", "message"),
    [
        ("int8-static", {"presset": "mixed"}, 'Did you mean "preset"?'),
        ("int8-static", {"target_device": "CPUU"}, 'Did you mean "CPU"?'),
        ("int8-static", {"ignored_names": ["nope"]}, "nncf cannot make int8-static of this model"),
        (
            "int8-static",
            {"ignored_types": ["Convolution", "MatMul"]},
            "nothing was quantized; the model has",
        ),
        ("int8-weights", {"mode": "int4"}, "allowed: int8_asym, int8_sym"),
        ("int8-dynamic", {}, 'openvino has no scheme "int8-dynamic"'),
        ("convert", {"mode": "int8_sym"}, 'unknown option "mode"'),
    ],
)
def test_wrong_recipe(
    drive: Drive,
    convolution: MakeModel,
    scheme: str,
    options: dict[str, Any],
    message: str,
) -> None:
    model = convolution()
    with pytest.raises(ModelError, match=re.escape(message)):
        drive(OPENVINO).optimize(model, scheme, **options)


def test_missing_calibration(drive: Drive, convolution: MakeModel) -> None:
    model = convolution()
    with pytest.raises(ModelError, match="needs calibration data and there is none"):
        drive(OPENVINO).optimize(model, "int8-static", calibrated=False)


def test_refused_files(drive: Drive, convolution: MakeModel, tmp_path: Path) -> None:
    import onnx

    openvino = drive(OPENVINO)
    for name in ("text.onnx", "text.xml"):
        (tmp_path / name).write_text("hello " * 20)
        with pytest.raises(ModelError, match="damaged or not a model that openvino reads"):
            openvino.load(tmp_path / name)
    with pytest.raises(ModelError, match="there is no such file"):
        openvino.load(tmp_path / "nowhere.onnx")
    model = onnx.load(convolution().path)
    model.graph.node[1].op_type = "Nonsense"
    onnx.save(model, tmp_path / "nonsense.onnx")
    with pytest.raises(ModelError, match="does not know the operators Nonsense"):
        openvino.load(tmp_path / "nonsense.onnx")


def test_runtime_options(drive: Drive, convolution: MakeModel) -> None:
    path = convolution().path
    openvino = drive(OPENVINO)
    openvino.load(path, threads=2, hints={"ENABLE_CPU_PINNING": "YES"})
    with pytest.raises(UserError, match=r'finds no device "NPUU"; allowed: .*CPU'):
        openvino.load(path, device="NPUU")
    with pytest.raises(UserError, match=r'no property "NUM_STREEMS". Did you mean "NUM_STREAMS"'):
        openvino.load(path, hints={"NUM_STREEMS": "1"})
    with pytest.raises(UserError, match=r"refuses the runtime properties: .*number of streams"):
        openvino.load(path, hints={"NUM_STREAMS": "many"})


def test_measured_process_has_not_imported_nncf(drive: Drive, convolution: MakeModel) -> None:
    model = convolution()
    openvino = drive(OPENVINO, **MEMORY_ENVIRONMENT)
    found = openvino.worker.request(
        "measure_memory",
        time_limit_s=60,
        path=model.path,
        runtime={},
        arrays=model.arrays,
        first=0,
        batch=1,
        calls=5,
    )
    assert found["footprint_bytes"] == found["null_bytes"] + found["growth_bytes"]
    assert found["model_bytes"] == found["growth_bytes"] - found["code_growth_bytes"]
    maps = Path(f"/proc/{openvino.worker.pid}/maps")
    if maps.exists():
        loaded = maps.read_text()
        assert f"{os.sep}openvino" in loaded
        for absent in ("scipy", "sklearn", "torch"):  # which nncf brings along
            assert f"{os.sep}{absent}{os.sep}" not in loaded


def test_input_specification_matches_the_record(drive: Drive, convolution: MakeModel) -> None:
    model = convolution()
    fields = drive(OPENVINO).load(model.path)["inputs"][0]
    assert TensorSpec(**{**fields, "shape": tuple(fields["shape"])}) == model.inputs[0]
