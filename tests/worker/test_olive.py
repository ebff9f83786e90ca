"""Microsoft Olive in real workers: classifiers against NumPy."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_edgeai.assess.model import read_structure
from pytest_edgeai.errors import FrameworkMissing, ModelError, UserError
from pytest_edgeai.optimize.frameworks.catalogue import OLIVE
from pytest_edgeai.worker.host import Worker, WorkerSpec

Drive = Callable[..., Any]
MakeModel = Callable[..., Any]
VARIABLE = "PYTEST_EDGEAI_TEST_OLIVE_PYTHON"
INT8 = {"int8", "uint8"}


@pytest.fixture(scope="module")
def framework_worker() -> Iterator[Callable[..., Worker]]:
    """Return a function that starts a worker in Olive's interpreter, or skips without one.

    Without an environment it is the same worker for all tests: Olive takes seconds to import.
    """
    shared: dict[str, Worker] = {}
    with ExitStack() as stack:

        def start(descriptor: Any, **environment: str) -> Worker:
            if not environment and descriptor.name in shared:
                return shared[descriptor.name]
            interpreter = Path(os.environ.get(VARIABLE, sys.executable))
            spec = WorkerSpec(descriptor, interpreter, environment)
            try:
                worker = stack.enter_context(Worker.start(spec, time_limit_s=120))
            except FrameworkMissing as missing:
                pytest.skip(f"{missing}; or name an interpreter that has it in {VARIABLE}")
            if not environment:
                shared[descriptor.name] = worker
            return worker

        yield start


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def weights_of_8_bits(path: Path) -> int:
    elements = read_structure(path).weight_elements
    return sum(count for name, count in elements.items() if name in INT8)


def only_the_artifact(path: Path) -> None:
    """Nothing else is left in the output folder, or beside it."""
    names = {file.name for file in path.parent.iterdir()}
    assert names <= {"model.onnx", "model.onnx.data"}
    assert not list(path.parent.parent.glob("olive-*"))


@pytest.mark.parametrize("batch_axis", ["N", 4])
def test_convert_is_full_precision(
    drive: Drive, convolution: MakeModel, batch_axis: int | str
) -> None:
    model = convolution(batch_axis)
    olive = drive(OLIVE)
    made = olive.optimize(model, "convert", calibrated=False)
    path = Path(made["path"])
    only_the_artifact(path)
    structure = read_structure(path)
    assert structure.weight_elements["float32"] >= 216 + 2880
    assert not structure.quantized_operators
    loaded = olive.load(path)
    assert [spec["name"] for spec in loaded["outputs"]] == ["scores", "copy"]
    assert loaded["inputs"][0]["shape"][0] == (None if batch_axis == "N" else 4)
    assert relative_error(olive.evaluate(model)["scores"], model.expected) < 1e-5
    assert set(olive.execution()["executed_precisions"]) == {"float32"}


@pytest.mark.parametrize(
    ("opset", "options"),
    [
        (17, {}),
        (11, {}),  # Olive's per-channel graph of this opset would be refused
        (17, {"per_channel": False, "weight_type": "uint8", "calibrate_method": "entropy"}),
        (17, {"calibration_calls": 5, "symmetric_activations": True, "activation_type": "int8"}),
        (17, {"op_types": ["Conv"]}),
    ],
)
def test_static_quantization(
    drive: Drive, convolution: MakeModel, opset: int, options: dict[str, Any]
) -> None:
    model = convolution(opset=opset)
    olive = drive(OLIVE)
    made = olive.optimize(model, "int8-static", **options)
    path = Path(made["path"])
    only_the_artifact(path)
    conv_alone = options.get("op_types") == ["Conv"]
    assert weights_of_8_bits(path) >= (216 if conv_alone else 216 + 2880)
    olive.load(path)
    error = relative_error(olive.evaluate(model)["scores"], model.expected)
    assert 1e-6 < error < 0.1
    # ONNX Runtime has no fused dense layer for signed activations.
    fused = 1 if conv_alone or "activation_type" in options else 2
    assert olive.execution()["executed_precisions"]["int8"] >= fused
    log = "\n".join(made["log"])
    assert "onnxstaticquantization" in log
    assert ("opset 11 to 17" in log) == (opset == 11)
    assert ("first 5 of 11 calls" in log) == ("calibration_calls" in options)
    assert any("calibrating" in what for what, _ in olive.progress)
    assert olive.progress[-1] == ("done", 1.0)


@pytest.mark.parametrize("options", [{}, {"per_channel": False, "weight_type": "uint8"}])
def test_dynamic_quantization(
    drive: Drive, convolution: MakeModel, options: dict[str, Any]
) -> None:
    model = convolution()
    olive = drive(OLIVE)
    made = olive.optimize(model, "int8-dynamic", calibrated=False, **options)
    path = Path(made["path"])
    only_the_artifact(path)
    structure = read_structure(path)
    assert weights_of_8_bits(path) >= 2880
    # Convolutions stay in float32: their dynamic kernel is slower than the float one.
    assert structure.operators["Conv"] == 1
    olive.load(path)
    assert 1e-6 < relative_error(olive.evaluate(model)["scores"], model.expected) < 0.1


def test_an_excluded_node_stays_in_float32(drive: Drive, convolution: MakeModel) -> None:
    """The tool renames the Gemm to "gemm_MatMul" before it looks at the names."""
    olive = drive(OLIVE)
    model = convolution()
    with pytest.raises(ModelError, match="quantized nothing"):
        olive.optimize(model, "int8-dynamic", nodes_to_exclude=["gemm"])
    made = olive.optimize(model, "int8-static", nodes_to_exclude=["gemm"])
    assert weights_of_8_bits(Path(made["path"])) < 2880


def test_external_data_and_a_bias_that_the_tool_stumbles_over(
    drive: Drive, convolution: MakeModel
) -> None:
    model = convolution(external=True, bias_shape=(1, 10))
    olive = drive(OLIVE)
    made = olive.optimize(model, "int8-static")
    olive.load(made["path"])
    assert relative_error(olive.evaluate(model)["scores"], model.expected) < 0.1


@pytest.mark.parametrize("scheme", ["convert", "int8-static", "int8-dynamic"])
def test_float16_becomes_float32_before_anything_else(
    drive: Drive, convolution: MakeModel, scheme: str
) -> None:
    """Left alone, Olive reports success and quantizes none of the weights."""
    model = convolution(dtype="float16")
    olive = drive(OLIVE)
    made = olive.optimize(model, scheme)
    elements = read_structure(Path(made["path"])).weight_elements
    assert "float16" not in elements
    assert any("float16 weights were converted to float32" in line for line in made["log"])
    if scheme == "convert":
        assert elements["float32"] >= 216 + 2880
    else:
        assert weights_of_8_bits(Path(made["path"])) >= 2880
    olive.load(made["path"])
    assert relative_error(olive.evaluate(model)["scores"].astype("f4"), model.expected) < 0.1


def test_opsets_that_are_imported_twice(drive: Drive, convolution: MakeModel) -> None:
    """skl2onnx writes such files, and ONNX Runtime's quantizer refuses them."""
    onnx = pytest.importorskip("onnx")
    model = convolution()
    proto = onnx.load(model.path)
    proto.opset_import.append(proto.opset_import[0])
    onnx.save(proto, model.path)
    olive = drive(OLIVE)
    made = olive.optimize(model, "int8-static")
    assert weights_of_8_bits(Path(made["path"])) >= 216 + 2880


def trials_of(log: list[str]) -> list[dict[str, str]]:
    pattern = re.compile(
        r"trial (?P<number>\d+): per_channel (?P<per_channel>\w+), weight_type (?P<weight>\w+), "
        r"calibrate_method (?P<method>\w+): relative error (?P<error>[\d.]+), "
        r"agreement (?P<agreement>[\d.]+), median [\d.]+ ms(?P<chosen> \(chosen\))?$"
    )
    return [found.groupdict() for line in log if (found := pattern.match(line))]


def test_search_chooses_the_most_faithful_of_its_trials(
    drive: Drive, convolution: MakeModel
) -> None:
    model = convolution()
    olive = drive(OLIVE)
    made = olive.optimize(model, "int8-search", trials=3, calibrate_methods=["minmax", "entropy"])
    path = Path(made["path"])
    only_the_artifact(path)
    assert weights_of_8_bits(path) >= 216 + 2880
    trials = trials_of(made["log"])
    assert len(trials) == 3
    settings = {(trial["per_channel"], trial["weight"], trial["method"]) for trial in trials}
    assert len(settings) == 3
    chosen = [trial for trial in trials if trial["chosen"]]
    assert len(chosen) == 1
    # To two digits the least error; among equals the fastest, which is not for a test to know.
    errors = [float(trial["error"]) for trial in trials]
    assert float(chosen[0]["error"]) <= min(errors) + 0.0101
    assert any("trials judged on 2 others" in line for line in made["log"])
    assert any(line.startswith("chose by fidelity: ") for line in made["log"])
    assert [what for what, _ in olive.progress if what.startswith("trial ")]
    olive.load(path)
    assert 1e-6 < relative_error(olive.evaluate(model)["scores"], model.expected) < 0.1
    # The artifact is the trial that was chosen: its weights are of the type that the log says.
    stored = set(read_structure(path).weight_elements) & INT8
    assert chosen[0]["weight"] in stored


def test_search_for_latency_keeps_to_the_fidelity_asked_for(
    drive: Drive, convolution: MakeModel
) -> None:
    model = convolution()
    olive = drive(OLIVE)
    options: dict[str, Any] = {
        "trials": 2,
        "objective": "latency",
        "calibrate_methods": ["minmax"],
        "weight_types": ["int8"],
    }
    made = olive.optimize(model, "int8-search", least_fidelity=0.9, **options)
    assert len(trials_of(made["log"])) == 2
    assert any(line.startswith("chose by latency: ") for line in made["log"])
    with pytest.raises(ModelError) as refused:
        olive.optimize(model, "int8-search", least_fidelity=1.0, **options)
    assert "none of 2 trials reached the fidelity (1 - relative error) of 1:" in str(refused.value)
    assert "least_fidelity" in refused.value.advice


@pytest.mark.parametrize(
    ("scheme", "options", "calibrated", "message"),
    [
        ("int8-statik", {}, True, 'olive has no scheme "int8-statik"'),
        ("int8-static", {"per_chanel": True}, True, 'unknown option "per_chanel"'),
        ("int8-static", {}, False, "needs calibration data and there is none"),
        ("int8-search", {}, False, "needs calibration data and there is none"),
        ("int8-search", {"weight_types": ["int4"]}, True, r"\['int4'\]"),
        ("int8-search", {"trials": 0}, True, "trials"),
        ("int8-static", {"nodes_to_exclude": ["convx"]}, True, 'no node "convx"'),
        ("int8-static", {"op_types": ["LSTM"]}, True, "nothing to quantize"),
        ("int8-dynamic", {"op_types": ["LSTM"]}, True, "nothing to quantize"),
        ("int8-dynamic", {"nodes_to_exclude": ["gemm"]}, True, "quantized nothing"),
        ("int4-genai", {}, False, "takes a Hugging Face directory"),
        ("int4-genai", {"block_size": 33}, False, "16, 32, 64, 128, 256"),
    ],
)
def test_recipes_that_cannot_be_made(
    drive: Drive,
    convolution: MakeModel,
    scheme: str,
    options: dict[str, Any],
    calibrated: bool,
    message: str,
) -> None:
    model = convolution()
    olive = drive(OLIVE)
    with pytest.raises(ModelError, match=message) as refused:
        olive.optimize(model, scheme, calibrated=calibrated, **options)
    assert "\n" not in str(refused.value)
    assert not list(olive.folder.glob("olive-*"))


def test_calibration_data_that_is_no_number_is_named(drive: Drive, convolution: MakeModel) -> None:
    model = convolution()
    images = np.load(model.arrays["image"])
    images[3] = np.nan
    np.save(model.arrays["image"], images)
    olive = drive(OLIVE)
    with pytest.raises(ModelError, match='NaN or infinity for input "image", call 1'):
        olive.optimize(model, "int8-static")


def test_nothing_is_left_in_the_home(drive: Drive, convolution: MakeModel, tmp_path: Path) -> None:
    """No telemetry of Olive's or ONNX Runtime's, and no cache."""
    home = tmp_path / "home"
    home.mkdir()
    model = convolution()
    folders = {name: str(home) for name in ("HOME", "XDG_CACHE_HOME", "HF_HOME", "LOCALAPPDATA")}
    olive = drive(OLIVE, **folders)
    made = olive.optimize(model, "int8-static")
    olive.load(made["path"])
    olive.evaluate(model)
    assert not [str(path) for path in home.rglob("*")]


@pytest.mark.parametrize("scheme", [name for name in OLIVE.schemes if name != "convert"])
def test_the_options_that_the_descriptor_names_are_taken(
    drive: Drive, convolution: MakeModel, scheme: str
) -> None:
    olive = drive(OLIVE)
    with pytest.raises(ModelError, match='unknown option "nonsense"') as refused:
        olive.optimize(convolution(), scheme, nonsense=1)
    assert sorted(refused.value.allowed.split(", ")) == sorted(OLIVE.options[scheme])


def test_what_onnxruntime_refuses(drive: Drive, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model at all")
    olive = drive(OLIVE)
    with pytest.raises(ModelError, match="damaged or not an ONNX model"):
        olive.load(broken)
    with pytest.raises(ModelError, match="there is no such file"):
        olive.load(tmp_path / "none.onnx")


def test_a_device_that_does_not_exist(drive: Drive, convolution: MakeModel) -> None:
    olive = drive(OLIVE)
    with pytest.raises(UserError, match='no device "XPU"'):
        olive.load(convolution().path, device="XPU")


def test_memory_is_measured_without_olive(drive: Drive, convolution: MakeModel) -> None:
    """The process that measures holds ONNX Runtime; Olive and torch would take 400 MiB more."""
    model = convolution()
    olive = drive(OLIVE, FRESH="1")
    found = olive.worker.request(
        "measure_memory",
        time_limit_s=60,
        path=model.path,
        runtime={"threads": 1},
        arrays=model.arrays,
        first=0,
        batch=4,
        calls=3,
    )
    assert 0 < found["null_bytes"] < 200 * 2**20
