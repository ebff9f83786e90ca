"""ONNX Runtime in real workers, against NumPy."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_edgeai.errors import ModelError, UserError
from pytest_edgeai.optimize.frameworks.catalogue import ONNXRUNTIME
from pytest_edgeai.worker.host import MEMORY_ENVIRONMENT

Drive = Callable[..., Any]
MakeModel = Callable[..., Any]

pytest.importorskip("onnx", reason=f"run: {ONNXRUNTIME.install}")


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize(
    ("batch_axis", "batch", "external"),
    [("N", 4, False), ("N", 1, True), (4, 4, False), (1, 1, False)],
)
def test_load_and_evaluate(
    drive: Drive, convolution: MakeModel, batch_axis: int | str, batch: int, external: bool
) -> None:
    model = convolution(batch_axis, external=external)
    onnxruntime = drive(ONNXRUNTIME)
    loaded = onnxruntime.load(model.path)
    assert [spec["name"] for spec in loaded["outputs"]] == ["scores", "copy"]
    axis = None if batch_axis == "N" else batch_axis
    assert loaded["inputs"][0]["shape"] == [axis, 3, 8, 8]
    outputs = onnxruntime.evaluate(model, batch)
    np.testing.assert_allclose(outputs["scores"], model.expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(outputs["scores"], outputs["copy"])


def test_bound_calls_are_timed(drive: Drive, convolution: MakeModel) -> None:
    model = convolution()
    onnxruntime = drive(ONNXRUNTIME)
    onnxruntime.load(model.path)
    request = onnxruntime.worker.request
    request("prepare", time_limit_s=9, handle="m", arrays=model.arrays, first=1, batch=2)
    timed = request("time_calls", time_limit_s=9, handle="m", calls=3)
    assert len(timed["wall_ns"]) == 3
    assert min(timed["wall_ns"] + timed["cpu_ns"]) > 0


def test_execution_of_float_model(drive: Drive, convolution: MakeModel) -> None:
    onnxruntime = drive(ONNXRUNTIME)
    onnxruntime.load(convolution().path)
    facts = onnxruntime.execution()
    assert set(facts["executed_precisions"]) == {"float32"}
    assert facts["executed_devices"] == ["CPU"]


def test_convert_keeps_outputs_and_dynamic_batch(drive: Drive, convolution: MakeModel) -> None:
    model = convolution()
    onnxruntime = drive(ONNXRUNTIME)
    made = onnxruntime.optimize(model, "convert", calibrated=False)
    loaded = onnxruntime.load(made["path"])
    assert [spec["name"] for spec in loaded["outputs"]] == ["scores", "copy"]
    assert loaded["inputs"][0]["shape"][0] is None
    outputs = onnxruntime.evaluate(model)
    np.testing.assert_allclose(outputs["scores"], model.expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("opset", "external", "options"),
    [
        (17, False, {}),
        (17, True, {"calibrate_method": "entropy"}),
        (17, False, {"calibrate_method": "percentile", "percentile": 99.9}),
        (17, False, {"per_channel": False, "activation_type": "int8", "reduce_range": True}),
        (17, False, {"moving_average": True, "calibration_calls": 3}),
        (11, False, {}),
        (12, False, {"per_channel": False}),
    ],
)
def test_static_quantization(
    drive: Drive, convolution: MakeModel, opset: int, external: bool, options: dict[str, Any]
) -> None:
    model = convolution(opset=opset, external=external)
    onnxruntime = drive(ONNXRUNTIME)
    made = onnxruntime.optimize(model, "int8-static", **options)
    onnxruntime.load(made["path"])
    outputs = onnxruntime.evaluate(model)
    assert 0 < relative_error(outputs["scores"], model.expected) < 0.1
    # With signed activations, x86 builds run the dense layer in float32.
    least = 1 if options.get("activation_type") == "int8" else 2
    assert onnxruntime.execution()["executed_precisions"]["int8"] >= least
    fractions = [fraction for _, fraction in onnxruntime.progress]
    assert fractions == sorted(fractions)
    assert ("done", 1.0) in onnxruntime.progress
    assert any(what.startswith("calibrating, ") for what, _ in onnxruntime.progress)
    converted = any("converted from opset 11 to 17" in line for line in made["log"])
    assert converted == (opset == 11)


def test_bias_of_two_axes_is_worked_around(drive: Drive, convolution: MakeModel) -> None:
    """The tool fails on it with "the truth value of an array ... is ambiguous"."""
    model = convolution(bias_shape=(1, 10))
    onnxruntime = drive(ONNXRUNTIME)
    made = onnxruntime.optimize(model, "int8-static")
    assert any("truth value of an array" in line for line in made["log"])
    assert any(line.startswith("quantized without adjusting") for line in made["log"])
    onnxruntime.load(made["path"])
    assert relative_error(onnxruntime.evaluate(model)["scores"], model.expected) < 0.1


def test_static_quantization_of_fixed_batch(drive: Drive, convolution: MakeModel) -> None:
    model = convolution(4)
    onnxruntime = drive(ONNXRUNTIME)
    made = onnxruntime.optimize(model, "int8-static")
    onnxruntime.load(made["path"])
    outputs = onnxruntime.evaluate(model)
    assert outputs["scores"].shape == model.expected.shape
    assert relative_error(outputs["scores"], model.expected) < 0.1


def test_dynamic_quantization_leaves_convolutions(drive: Drive, convolution: MakeModel) -> None:
    model = convolution()
    onnxruntime = drive(ONNXRUNTIME)
    made = onnxruntime.optimize(model, "int8-dynamic", calibrated=False)
    onnxruntime.load(made["path"])
    outputs = onnxruntime.evaluate(model)
    assert 0 < relative_error(outputs["scores"], model.expected) < 0.1
    assert onnxruntime.execution()["executed_precisions"]["int8"] == 1


def test_an_excluded_gemm_stays_float_when_quantized_dynamically(
    drive: Drive, convolution: MakeModel
) -> None:
    onnxruntime, model = drive(ONNXRUNTIME), convolution()
    with pytest.raises(ModelError, match="no operator was quantized"):
        onnxruntime.optimize(model, "int8-dynamic", nodes_to_exclude=["gemm"])


def test_excluded_node_stays_float(drive: Drive, convolution: MakeModel) -> None:
    model = convolution()
    onnxruntime = drive(ONNXRUNTIME)
    made = onnxruntime.optimize(model, "int8-static", nodes_to_exclude=["gemm"])
    onnxruntime.load(made["path"])
    assert onnxruntime.execution()["executed_precisions"]["int8"] == 1


@pytest.mark.parametrize(
    ("scheme", "options", "message"),
    [
        ("int8-static", {"per_chanel": True}, 'unknown option "per_chanel"'),
        ("int8-static", {"per_chanel": True}, 'Did you mean "per_channel"?'),
        ("int8-static", {"calibrate_method": "minmacks"}, 'Did you mean "minmax"?'),
        ("int8-static", {"per_channel": 1}, 'option "per_channel" is 1'),
        ("int8-static", {"percentile": 7}, "a number from 50 to 100"),
        ("int8-static", {"calibration_calls": 0}, "a whole number from 1 on"),
        ("int8-static", {"op_types": "Conv"}, "a list of strings"),
        ("int8-static", {"op_types": ["LSTM"]}, "no operator was quantized; the model has"),
        ("int8-static", {"nodes_to_exclude": ["gem"]}, 'Did you mean "gemm"?'),
        ("int8-dynamic", {"calibrate_method": "minmax"}, 'unknown option "calibrate_method"'),
        ("convert", {"per_channel": True}, "allowed: prune_ratio"),
        ("int8-statik", {}, 'Did you mean "int8-static"?'),
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
        drive(ONNXRUNTIME).optimize(model, scheme, **options)


@pytest.mark.parametrize("scheme", ["int8-static", "int8-dynamic"])
def test_repeated_import_of_an_opset(drive: Drive, convolution: MakeModel, scheme: str) -> None:
    """Files of skl2onnx have it; the runtime takes it and its quantizer does not."""
    import onnx

    model = convolution()
    content = onnx.load(model.path)
    content.opset_import.add(domain="", version=17)
    onnx.save(content, model.path)
    onnxruntime = drive(ONNXRUNTIME)
    made = onnxruntime.optimize(model, scheme)
    onnxruntime.load(made["path"])
    assert 0 < relative_error(onnxruntime.evaluate(model)["scores"], model.expected) < 0.1


def test_calibration_data_that_is_not_finite_is_named(drive: Drive, convolution: MakeModel) -> None:
    model = convolution()
    path = model.arrays["image"]
    np.save(path, np.full_like(np.load(path), np.nan))
    with pytest.raises(ModelError, match='NaN and infinity from the calibration data of input "im'):
        drive(ONNXRUNTIME).optimize(model, "int8-static")


def test_missing_calibration(drive: Drive, convolution: MakeModel) -> None:
    model = convolution()
    with pytest.raises(ModelError, match="needs calibration data and there is none"):
        drive(ONNXRUNTIME).optimize(model, "int8-static", calibrated=False)


def test_float16_model(drive: Drive, convolution: MakeModel) -> None:
    model = convolution(dtype="float16", opset=19)
    onnxruntime = drive(ONNXRUNTIME)
    loaded = onnxruntime.load(model.path)
    assert loaded["inputs"][0]["dtype"] == "float16"
    outputs = onnxruntime.evaluate(model)
    assert outputs["scores"].dtype == np.float16
    assert relative_error(outputs["scores"].astype("f4"), model.expected) < 0.01
    made = onnxruntime.optimize(model, "int8-static")
    onnxruntime.load(made["path"])
    outputs = onnxruntime.evaluate(model)
    assert outputs["scores"].dtype == np.float16
    assert relative_error(outputs["scores"].astype("f4"), model.expected) < 0.1
    assert onnxruntime.execution()["executed_precisions"]["int8"] == 2
    assert any("float16 weights were converted" in line for line in made["log"])


def test_wrong_dtype_is_never_cast(drive: Drive, convolution: MakeModel) -> None:
    model = convolution()
    np.save(model.arrays["image"], np.zeros((42, 3, 8, 8)))
    onnxruntime = drive(ONNXRUNTIME)
    onnxruntime.load(model.path)
    message = 'input "image": the array holds float64, the model takes float32'
    with pytest.raises(ModelError, match=message):
        onnxruntime.evaluate(model)


def test_damaged_files(drive: Drive, convolution: MakeModel, tmp_path: Path) -> None:
    onnxruntime = drive(ONNXRUNTIME)
    whole = convolution().path.read_bytes()
    for name, content in {"text": b"hello " * 20, "empty": b"", "cut": whole[:99]}.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        with pytest.raises(ModelError, match="damaged or not an ONNX model") as caught:
            onnxruntime.load(path)
        assert str(path) in str(caught.value)
    with pytest.raises(ModelError, match="there is no such file"):
        onnxruntime.load(tmp_path / "nowhere.onnx")


def test_refused_models(drive: Drive, convolution: MakeModel, tmp_path: Path) -> None:
    import onnx

    onnxruntime = drive(ONNXRUNTIME)
    model = onnx.load(convolution().path)
    path = tmp_path / "changed.onnx"
    model.opset_import[0].version = 99
    onnx.save(model, path)
    with pytest.raises(ModelError, match=r"uses opset 99 of ai\.onnx; allowed: up to opset \d+"):
        onnxruntime.load(path)
    model.opset_import[0].version = 17
    model.graph.node[1].op_type = "Nonsense"
    onnx.save(model, path)
    with pytest.raises(ModelError, match="No Op registered for Nonsense"):
        onnxruntime.load(path)
    model.ir_version = 99
    onnx.save(model, path)
    with pytest.raises(ModelError, match=r"onnxruntime refuses the model: Unsupported model IR"):
        onnxruntime.load(path)


def test_output_that_is_no_tensor(drive: Drive, tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("SequenceConstruct", ["x"], ["y"])],
        "sequence",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, [2])],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "s.onnx")
    with pytest.raises(ModelError, match='output "y" is a seq'):
        drive(ONNXRUNTIME).load(tmp_path / "s.onnx")


def test_runtime_options(drive: Drive, convolution: MakeModel) -> None:
    path = convolution().path
    onnxruntime = drive(ONNXRUNTIME)
    hints = {"graph_optimization_level": "disable", "session.intra_op.allow_spinning": "0"}
    onnxruntime.load(path, threads=2, hints=hints)
    # Unoptimized, the graph keeps its five operators.
    assert onnxruntime.execution()["executed_precisions"] == {"float32": 5}
    with pytest.raises(UserError, match=r'has no device "NPU"; allowed: .*CPU'):
        onnxruntime.load(path, device="NPU")
    with pytest.raises(UserError, match='no graph_optimization_level "al"'):
        onnxruntime.load(path, hints={"graph_optimization_level": "al"})


def test_memory_of_a_model(drive: Drive, tmp_path: Path) -> None:
    """16 MiB of weights are found as 16 MiB and not much more, net of the runtime."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(1).normal(size=(2048, 2048)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2048])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2048])],
        [numpy_helper.from_array(weights, "w")],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", np.ones((3, 2048), np.float32))
    found = drive(ONNXRUNTIME, **MEMORY_ENVIRONMENT).worker.request(
        "measure_memory",
        time_limit_s=60,
        path=tmp_path / "m.onnx",
        runtime={},
        arrays={"x": tmp_path / "x.npy"},
        first=0,
        batch=1,
        calls=5,
    )
    assert weights.nbytes <= found["model_bytes"] <= 4 * weights.nbytes
    assert found["growth_bytes"] - found["code_growth_bytes"] == found["model_bytes"]
    assert found["footprint_bytes"] == found["null_bytes"] + found["growth_bytes"]
