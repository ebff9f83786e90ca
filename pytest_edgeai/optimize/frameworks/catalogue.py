"""The frameworks that are shipped, as descriptors; nothing is imported for them."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_edgeai.descriptors import FrameworkDescriptor

ONNXRUNTIME = FrameworkDescriptor(
    name="onnxruntime",
    implementation="pytest_edgeai.optimize.frameworks.onnxruntime:OnnxRuntime",
    install='pip install "pytest-edgeai[onnx]"',
    distributions=("onnxruntime", "onnx"),
    formats=("onnx",),
    schemes={"convert": "float32", "int8-static": "int8", "int8-dynamic": "int8"},
)
"""ONNX Runtime on the CPU, with its own quantization tools."""

OPENVINO = FrameworkDescriptor(
    name="openvino",
    implementation="pytest_edgeai.optimize.frameworks.openvino:OpenVINO",
    install='pip install "pytest-edgeai[intel]"',
    distributions=("openvino", "nncf"),
    formats=("onnx", "openvino"),
    schemes={"convert": "float32", "int8-static": "int8", "int8-weights": "int8"},
)
"""OpenVINO, quantized by NNCF."""

FRAMEWORKS: Mapping[str, FrameworkDescriptor] = {
    framework.name: framework for framework in (ONNXRUNTIME, OPENVINO)
}
"""Every shipped framework by its name."""
