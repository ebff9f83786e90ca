"""The frameworks that are shipped, as descriptors; nothing is imported for them."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_edgeai.descriptors import FrameworkDescriptor

_ONNXRUNTIME_OPTIONS = (
    "nodes_to_exclude",
    "op_types",
    "per_channel",
    "reduce_range",
    "weight_type",
)
_CLASSICAL_OPERATORS = frozenset(
    {
        "ArrayFeatureExtractor",
        "Binarizer",
        "CastMap",
        "CategoryMapper",
        "DictVectorizer",
        "FeatureVectorizer",
        "Imputer",
        "LabelEncoder",
        "LinearClassifier",
        "LinearRegressor",
        "Normalizer",
        "OneHotEncoder",
        "SVMClassifier",
        "SVMRegressor",
        "Scaler",
        "TreeEnsemble",
        "TreeEnsembleClassifier",
        "TreeEnsembleRegressor",
        "ZipMap",
    }
)
"""The operators of the domain ai.onnx.ml (https://onnx.ai/onnx/operators, section ai.onnx.ml)."""
_OPENVINO_OPTIONS = ("ignored_names", "ignored_patterns", "ignored_types")

ONNXRUNTIME = FrameworkDescriptor(
    name="onnxruntime",
    implementation="pytest_edgeai.optimize.frameworks.onnxruntime:OnnxRuntime",
    install='pip install "pytest-edgeai[onnx]"',
    distributions=("onnxruntime", "onnx"),
    formats=("onnx",),
    schemes={"convert": "float32", "int8-static": "int8", "int8-dynamic": "int8"},
    options={
        "int8-static": (
            *_ONNXRUNTIME_OPTIONS,
            "activation_type",
            "calibrate_method",
            "calibration_calls",
            "moving_average",
            "percentile",
            "symmetric_activations",
        ),
        "int8-dynamic": _ONNXRUNTIME_OPTIONS,
    },
)
"""ONNX Runtime on the CPU, with its own quantization tools."""

OPENVINO = FrameworkDescriptor(
    name="openvino",
    implementation="pytest_edgeai.optimize.frameworks.openvino:OpenVINO",
    install='pip install "pytest-edgeai[intel]"',
    distributions=("openvino", "nncf"),
    formats=("onnx", "openvino"),
    schemes={"convert": "float32", "int8-static": "int8", "int8-weights": "int8"},
    options={
        "int8-static": (
            *_OPENVINO_OPTIONS,
            "calibration_calls",
            "fast_bias_correction",
            "model_type",
            "preset",
            "target_device",
        ),
        "int8-weights": (*_OPENVINO_OPTIONS, "mode"),
    },
    unknown_operators=_CLASSICAL_OPERATORS,
)
"""OpenVINO, quantized by NNCF."""

FRAMEWORKS: Mapping[str, FrameworkDescriptor] = {
    framework.name: framework for framework in (ONNXRUNTIME, OPENVINO)
}
"""Every shipped framework by its name."""
