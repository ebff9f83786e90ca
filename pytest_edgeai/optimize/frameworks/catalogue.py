"""The frameworks that are shipped, as descriptors; nothing is imported for them."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from pytest_edgeai.descriptors import FrameworkDescriptor
from pytest_edgeai.tasks import GENERATION_TASKS, TASKS

_ONNXRUNTIME_OPTIONS = (
    "nodes_to_exclude",
    "op_types",
    "per_channel",
    "prune_ratio",
    "reduce_range",
    "weight_type",
)
_ONNXRUNTIME_WEIGHT_OPTIONS = (
    "accuracy_level",
    "block_size",
    "nodes_to_exclude",
    "prune_ratio",
    "symmetric",
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
_OLIVE_STATIC_OPTIONS = (
    "activation_type",
    "calibration_calls",
    "nodes_to_exclude",
    "op_types",
    "prune_ratio",
    "reduce_range",
)
_OPENVINO_OPTIONS = ("ignored_names", "ignored_patterns", "ignored_types")

ONNXRUNTIME = FrameworkDescriptor(
    name="onnxruntime",
    implementation="pytest_edgeai.optimize.frameworks.onnxruntime:OnnxRuntime",
    install='pip install "pytest-edgeai[onnx]"',
    distributions=("onnxruntime", "onnx"),
    formats=("onnx",),
    schemes={
        "convert": "float32",
        "int8-static": "int8",
        "int8-dynamic": "int8",
        "int8-weights": "int8",
        "int4-weights": "int4",
    },
    options={
        "convert": ("prune_ratio",),
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
        "int8-weights": _ONNXRUNTIME_WEIGHT_OPTIONS,
        "int4-weights": _ONNXRUNTIME_WEIGHT_OPTIONS,
    },
    versions_of=("onnx-ir",),
    maps_weights=True,
)
"""ONNX Runtime on the CPU, with its own quantization tools."""

OPENVINO = FrameworkDescriptor(
    name="openvino",
    implementation="pytest_edgeai.optimize.frameworks.openvino:OpenVINO",
    install='pip install "pytest-edgeai[intel]"',
    distributions=("openvino", "nncf"),
    formats=("onnx", "openvino", "huggingface"),
    schemes={
        "convert": "float32",
        "int8-static": "int8",
        "int8-weights": "int8",
        "int4-weights": "int4",
    },
    options={
        "convert": ("prune_ratio",),
        "int8-static": (
            *_OPENVINO_OPTIONS,
            "calibration_calls",
            "fast_bias_correction",
            "model_type",
            "preset",
            "prune_ratio",
            "target_device",
        ),
        "int8-weights": (*_OPENVINO_OPTIONS, "exporter", "mode", "prune_ratio"),
        "int4-weights": (
            *_OPENVINO_OPTIONS,
            "all_layers",
            "exporter",
            "group_size",
            "mode",
            "ratio",
        ),
    },
    versions_of=("optimum-intel", "tokenizers", "torch", "transformers"),
    tasks=TASKS,
    unknown_operators=_CLASSICAL_OPERATORS,
    maps_weights=True,
)
"""OpenVINO, quantized by NNCF."""

_LLAMACPP_OPTIONS = ("allow_requantize", "pure")

LLAMACPP = FrameworkDescriptor(
    name="llamacpp",
    implementation="pytest_edgeai.optimize.frameworks.llamacpp:LlamaCpp",
    install='pip install "pytest-edgeai[cross]"',
    distributions=("llama-cpp-python", "gguf"),
    formats=("gguf", "huggingface"),
    schemes={
        "convert": "float",
        "q4_k_m": "q4_k",
        "q8_0": "q8_0",
        "q4_0": "q4_0",
        "q2_k": "q2_k",
    },
    options={
        "convert": (),
        "q4_k_m": _LLAMACPP_OPTIONS,
        "q8_0": _LLAMACPP_OPTIONS,
        "q4_0": _LLAMACPP_OPTIONS,
        "q2_k": _LLAMACPP_OPTIONS,
    },
    versions_of=("tokenizers",),
    tasks=GENERATION_TASKS,
    maps_weights=True,
)
"""llama.cpp on the CPU, with its own quantization."""

MLX = FrameworkDescriptor(
    name="mlx",
    implementation="pytest_edgeai.optimize.frameworks.mlx:Mlx",
    install='pip install "pytest-edgeai[apple]"',
    distributions=("mlx", "mlx-lm"),
    formats=("huggingface",),
    schemes={
        "convert": "float",
        "int4-g64": "int4",
        "int8-g64": "int8",
        "mixed-4-6": "int4-int6",
    },
    options=dict.fromkeys(("convert", "int4-g64", "int8-g64", "mixed-4-6"), ("dtype",)),
    tasks=GENERATION_TASKS,
    # Metal computes beside the process, whose CPU time then says nothing.
    cpu_time_is_valid=sys.platform != "darwin",
    device="AUTO",
    systems=("Darwin", "Linux"),
    proxy_systems={
        "Linux": "MLX computes on the CPU with its reference kernels here, and on the GPU through "
        "Metal on Apple silicon",
    },
)
"""Apple MLX: Metal on Apple silicon, its CPU build on Linux."""

OLIVE = FrameworkDescriptor(
    name="olive",
    implementation="pytest_edgeai.optimize.frameworks.olive:Olive",
    install='pip install "pytest-edgeai[olive]"',
    distributions=("olive-ai", "onnxruntime", "onnx"),
    formats=("onnx", "huggingface"),
    schemes={
        "convert": "float32",
        "int8-static": "int8",
        "int8-dynamic": "int8",
        "int8-search": "int8",
        "int4-genai": "int4",
        "int8-genai": "int8",
    },
    versions_of=("onnxruntime-genai", "torch", "transformers"),
    options={
        "convert": ("prune_ratio",),
        "int8-static": (
            *_OLIVE_STATIC_OPTIONS,
            "calibrate_method",
            "per_channel",
            "symmetric_activations",
            "weight_type",
        ),
        "int8-dynamic": _ONNXRUNTIME_OPTIONS,
        "int8-search": (
            *_OLIVE_STATIC_OPTIONS,
            "calibrate_methods",
            "least_fidelity",
            "objective",
            "sampler",
            "trials",
            "weight_types",
        ),
        "int4-genai": ("algorithm", "block_size"),
        "int8-genai": ("block_size",),
    },
    tasks=TASKS,
    maps_weights=True,
)
"""Microsoft Olive, whose artifacts run in ONNX Runtime."""

FRAMEWORKS: Mapping[str, FrameworkDescriptor] = {
    framework.name: framework for framework in (ONNXRUNTIME, OPENVINO, OLIVE, LLAMACPP, MLX)
}
"""Every shipped framework by its name."""
