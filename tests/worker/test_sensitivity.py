"""What quantizing each layer does, measured by real frameworks on models with a planted outlier."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sensitive_models import SIDE, deep_cnn

from pytest_edgeai.descriptors import FrameworkDescriptor
from pytest_edgeai.errors import ModelError
from pytest_edgeai.optimize.frameworks.catalogue import LLAMACPP, OLIVE, ONNXRUNTIME, OPENVINO
from pytest_edgeai.records import Recipe, TensorSpec

Start = Callable[..., Any]
Measure = Callable[..., Any]
INPUTS = [TensorSpec("image", "float32", (None, 3, SIDE, SIDE))]


@pytest.fixture
def measure(framework_worker: Start, tmp_path: Path) -> Measure:
    """Return a function that measures the layers of a model, and one that optimizes it."""
    images = np.random.default_rng(1).normal(size=(24, 3, SIDE, SIDE)).astype(np.float32)
    np.save(tmp_path / "image.npy", images)
    samples = {"arrays": {"image": str(tmp_path / "image.npy")}, "batch": 4}

    def run(
        framework: FrameworkDescriptor,
        scheme: str,
        path: Path,
        *,
        operation: str = "layer_noise",
        time_box_s: float = 30.0,
        **options: Any,
    ) -> Any:
        worker = framework_worker(framework)
        more: dict[str, Any] = {"samples": samples, "time_box_s": time_box_s}
        if operation == "optimize":
            more = {"output": str(tmp_path / "made")}
        return worker.request(
            operation,
            time_limit_s=120,
            source=str(path),
            recipe=Recipe(framework.name, scheme, options),
            architecture="convolutional",
            inputs=INPUTS,
            calibration=samples,
            **more,
        )

    return run


def ranked(answer: Any) -> list[str]:
    found = sorted(answer["layers"], key=lambda each: -each["noise_ratio"])
    return [name for each in found for name in each["layers"]]


@pytest.mark.parametrize("framework", [ONNXRUNTIME, OLIVE, OPENVINO], ids=lambda each: each.name)
def test_the_planted_layers_come_first(
    measure: Measure, tmp_path: Path, framework: FrameworkDescriptor
) -> None:
    """The outlier lies between two convolutions.

    ONNX Runtime quantizes what a layer makes and what it reads, so that either alone does the harm;
    NNCF quantizes what a layer reads alone.
    """
    answer = measure(framework, "int8-static", deep_cnn(tmp_path / "m.onnx", layers=4, outlier=1))
    order = ranked(answer)
    assert len(order) >= 6
    harmful = {"conv2"} if framework is OPENVINO else {"conv1", "conv2"}
    assert {name.partition("/")[0] for name in order[: len(harmful)]} == harmful
    noise = {name: each["noise_ratio"] for each in answer["layers"] for name in each["layers"]}
    assert noise[order[len(harmful) - 1]] > 5 * noise[order[len(harmful)]]
    assert answer["all_layers"] > noise[order[len(harmful)]]
    assert answer["evaluations"] == len(order) + 1
    assert answer["calls"] == 6


@pytest.mark.parametrize("framework", [ONNXRUNTIME, OPENVINO], ids=lambda each: each.name)
def test_restoring_them_is_what_the_tool_can_do(
    measure: Measure, tmp_path: Path, framework: FrameworkDescriptor
) -> None:
    """The names are those that the framework's own option takes, also where nodes have none."""
    option = {"onnxruntime": "nodes_to_exclude", "openvino": "ignored_names"}[framework.name]
    path = deep_cnn(tmp_path / "m.onnx", layers=4, outlier=1, named=False)
    harmful = measure(framework, "int8-static", path)
    made = measure(
        framework, "int8-static", path, operation="optimize", **{option: ranked(harmful)[:2]}
    )
    assert Path(made["path"]).is_file()
    rest = measure(framework, "int8-static", path, **{option: ranked(harmful)[:2]})
    assert not set(ranked(rest)) & set(ranked(harmful)[:2])
    assert rest["all_layers"] < harmful["all_layers"] / 5


@pytest.mark.parametrize(
    ("framework", "scheme", "layers"),
    [
        (ONNXRUNTIME, "int8-dynamic", ["gemm"]),
        (ONNXRUNTIME, "int8-weights", ["gemm"]),
        (ONNXRUNTIME, "int4-weights", ["gemm"]),
        (OPENVINO, "int8-weights", ["conv0", "conv1", "conv2", "gemm"]),
    ],
    ids=lambda each: getattr(each, "name", str(each)),
)
def test_weights(
    measure: Measure,
    tmp_path: Path,
    framework: FrameworkDescriptor,
    scheme: str,
    layers: list[str],
) -> None:
    if framework is ONNXRUNTIME and scheme.endswith("-weights"):
        pytest.importorskip("onnx_ir", reason="run: pip install onnx-ir")
    path = deep_cnn(tmp_path / "m.onnx", layers=3, outlier=None)
    answer = measure(framework, scheme, path)
    assert sorted(name.partition("/")[0] for name in ranked(answer)) == layers
    assert all(0 < each["noise_ratio"] < 0.1 for each in answer["layers"])


def test_little_time_measures_groups(measure: Measure, tmp_path: Path) -> None:
    path = deep_cnn(tmp_path / "m.onnx", layers=20, outlier=9)
    answer = measure(ONNXRUNTIME, "int8-static", path, time_box_s=0.0)
    sizes = [len(each["layers"]) for each in answer["layers"]]
    assert sum(sizes) == 22
    assert max(sizes) > 1
    assert answer["evaluations"] < 12
    assert {"conv9", "conv10"} & set(ranked(answer)[:8])


def test_what_has_no_layers(measure: Measure, tmp_path: Path) -> None:
    path = deep_cnn(tmp_path / "m.onnx", layers=1, outlier=None)
    with pytest.raises(ModelError, match='"convert" quantizes nothing'):
        measure(ONNXRUNTIME, "convert", path)
    with pytest.raises(ModelError, match='the layers of "convert" are not measured'):
        measure(OPENVINO, "convert", path)
    with pytest.raises(ModelError, match="LlamaCpp cannot quantize layers one by one"):
        measure(LLAMACPP, "q8_0", path)
